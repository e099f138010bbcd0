// SPDX-License-Identifier: MIT
// Changes of the two ends of a pair, made by any process.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "base/fd.hpp"
#include "base/netns.hpp"
#include "base/side.hpp"
#include "devices/device.hpp"
#include "netlink/subscription.hpp"

namespace netkit_bpf {

struct Change {
  enum class Kind : uint8_t { up, down, renamed, moved, deleted, policy };

  Side side{};
  Kind kind{};
  std::string name;  // both as they are after the change
  int ifindex = 0;
  std::optional<int> nsid;  // moved: the new namespace, by its id in the old one
};

inline constexpr Words<Change::Kind, 6> change_words{{{"up", Change::Kind::up},
                                                      {"down", Change::Kind::down},
                                                      {"renamed", Change::Kind::renamed},
                                                      {"moved", Change::Kind::moved},
                                                      {"deleted", Change::Kind::deleted},
                                                      {"policy", Change::Kind::policy}}};

// It listens in the namespace of the thread that makes it, and hears other namespaces by their ids there. So it does
// not keep the namespaces of the ends alive. Any thread may use it.
class PairWatch {
 public:
  struct End {
    netns::Namespace space;
    DeviceRef device;
  };
  using Ends = std::array<std::optional<End>, 2>;

  // An unknown end is not watched. Throws ENODEV if an end does not exist.
  explicit PairWatch(const Ends& ends);

  // The next change that has happened; empty if there is none yet, or none can come any more.
  std::optional<Change> next();

  // Whether no change can come any more: both ends are deleted, or were moved and not followed.
  [[nodiscard]] bool ended() const;

  // Readable while next() may have something, once no change can come any more, and for ever after a wake-up.
  [[nodiscard]] int fd() const noexcept { return ready_.get(); }
  void wake() const noexcept { subscription_.wake(); }

  // After a move: whether this is the namespace that the end was moved to, whose id is `nsid` in the one it left.
  bool is_destination(Side side, int nsid, const netns::Namespace& space);

  // Sets the namespace in which the end is now.
  void follow(Side side, const netns::Namespace& space);

 private:
  enum class Phase : uint8_t { unknown, followed, lost, gone };

  struct State {
    Phase phase = Phase::unknown;
    std::optional<int> nsid;  // of its namespace; empty: the one that is listened in
    DeviceRef device;
    bool up = false;
    std::array<std::optional<uint32_t>, 2> policies{};  // of both sides, the device's own first
  };

  Subscription listen(const Ends& ends);
  std::optional<int> number(const netns::Namespace& space);
  std::optional<DeviceInfo> look_up(const State& state);
  void look_up_all();
  void take(const nlmsghdr* header, std::optional<int> told);
  void compare(Side side, const DeviceInfo& now);
  void remove(Side side, const nlmsghdr* header);
  void end_both();
  [[nodiscard]] bool is_over() const;
  void show_readiness();
  State& state(Side side) { return states_.at(static_cast<size_t>(side)); }

  mutable std::mutex mutex_;
  netns::Identity home_;  // the namespace that is listened in
  NetlinkSocket here_;
  std::optional<int> self_;  // the number that it has for itself
  std::array<State, 2> states_;
  std::deque<Change> changes_;
  Subscription subscription_;  // initialised from the others
  Fd more_;                    // an eventfd: there is something, though the kernel has said all
  Fd ready_;                   // an epoll instance over both
};

}  // namespace netkit_bpf
