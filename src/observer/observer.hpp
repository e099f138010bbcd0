// SPDX-License-Identifier: MIT
// An observer's programs on the hooks of one pair.
//
// A policy applies only while no program is attached, and if every program returns NEXT the packet passes. So an
// observer that is the last on the hook of a blackhole side must return DROP, and NEXT while other programs follow that
// may decide. Behind a firewall it returns NEXT: packets that arrive there were passed by a rule, because the firewall
// itself drops what the policy would have dropped. All this can change while it is attached: check() looks again.
//
// bpf_redirect_peer() delivers packets into the peer's namespace past the primary's hook (net/core/filter.c,
// skb_do_redirect()). They come to the peer's tcx ingress hook, as do the packets that passed the primary's hook. So an
// observer that is to see them has its primary's program there, and not on the primary's hook too: nothing in a packet
// would tell which it passed. No policy applies there: its verdict stays NEXT.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/mapping.hpp"
#include "base/netns.hpp"
#include "base/verdict.hpp"
#include "bpf/hook.hpp"
#include "bpf/link.hpp"
#include "bpf/program.hpp"

namespace netkit_bpf {

// A variable that an observer's programs read, an int32_t per side: what they return, for one.
class SideCells {
 public:
  // The map `fd` is the section of global variables. Throws std::invalid_argument if it cannot be written while
  // programs run.
  SideCells(int fd, size_t offset);

  void set(Side side, int32_t value);

 private:
  static Mapping map(int fd, size_t offset);

  Mapping mapping_;
  int32_t* cells_;
};

// What an observer needs to keep its place in front of programs that are attached later. A program can be on a hook
// only once, so there is a second copy of each side's. The copy that comes in front waits until it is attached, and
// then takes over from the one behind, which is detached: bpf/monitor.bpf.c, nk_is_recorder().
struct Standby {
  std::array<std::optional<Program>, 2> programs;  // of each side that is observed
  SideCells recording;
};

class Observer {
 public:
  struct Place {
    std::string device;  // its name when it was attached
    int ifindex;
    netns::Namespace space;
  };

  // Attaches each side's program, if there is one; the primary's to the tcx ingress hook of the receiver, if that is
  // given. `observer` is its name in errors. `sees_all`: that what it counts is every packet of its sides, which it is
  // not behind a filter. With a standby it keeps the place that its rank has, at each check(). If it throws, nothing is
  // attached.
  Observer(std::string observer, Place place, const std::array<const Program*, 2>& programs, SideCells verdicts,
           const Placement& placement = {.where = Placement::Where::by_rank, .rank = Rank::observer},
           const std::optional<Place>& receiver = std::nullopt, bool sees_all = true,
           std::optional<Standby> standby = std::nullopt);

  // Sets the verdicts again. Returns whether a side is a blackhole, or it keeps its place: then other programs matter,
  // which are attached without a notification, so look again some tenths of a second later. Throws ENODEV once the
  // device is gone; then nothing of the observer is left in the kernel. Any thread may call.
  bool check();

  // A program that runs before the observer's on a hook, which sees only what that one leaves to the next.
  struct Predecessor {
    Side side;
    hook::Entry program;
    std::string hook;   // in errors
    uint64_t sent = 0;  // packets that this side has sent, dropped ones too, as the devices count them
  };

  // Those there are now on the hooks of the pair, without the firewalls and other observers of this package. None if
  // the caller chose the place, or the primary was moved to another namespace. Any thread may call.
  [[nodiscard]] std::vector<Predecessor> predecessors() const;

  // Detaches the programs: after this returns they see no more packets, even if a forked child holds the links too.
  // Idempotent; any thread may call.
  void close();
  // The first part of close(), which leaves what the kernel holds for close(). Whoever closes many detaches all first:
  // detaching waits for a grace period of RCU, and what the kernel frees begins one that the next wait comes too late
  // for, so that it takes almost twice as long.
  void detach();

  [[nodiscard]] bool sees_all() const noexcept { return sees_all_; }
  // Where the device was when the programs were attached.
  [[nodiscard]] const Place& place() const noexcept { return place_; }
  // The attached programs.
  [[nodiscard]] std::vector<uint32_t> program_ids() const;

 private:
  struct Attached {
    Side side;
    uint32_t program_id;
    std::unique_ptr<Link> link;
    bool at_receiver = false;
    std::optional<Program> copy = std::nullopt;  // with a standby: of the attached program
    bool is_second = false;                      // it is the one that stood by at first
  };

  void set_verdicts(const Placement* planned = nullptr);
  void come_to_front(Attached& each);
  void let_go();
  [[nodiscard]] uint64_t sent(Side side) const;
  [[nodiscard]] Hook hook(Side side) const;

  std::string observer_;
  Place place_;
  const bool sees_all_;
  bool is_by_rank_;
  std::string kind_;                   // the device's
  std::optional<SideCells> verdicts_;  // until it is closed
  std::optional<Standby> standby_;     // likewise
  mutable std::mutex mutex_;
  std::vector<Attached> attached_;
  bool is_gone_ = false;
  bool is_detached_ = false;
  bool has_blackhole_ = false;
};

}  // namespace netkit_bpf
