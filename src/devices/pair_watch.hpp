// SPDX-License-Identifier: MIT
// What happens to the two ends of a pair, whoever does it.
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
  enum class Kind : uint8_t { up, down, renamed, moved, deleted };

  Side side{};
  Kind kind{};
  std::string name;  // both as they are after the change
  int ifindex = 0;
  std::optional<int> nsid;  // moved: where to, by the number that the namespace has in the one it left
};

inline constexpr Words<Change::Kind, 5> change_words{{{"up", Change::Kind::up},
                                                      {"down", Change::Kind::down},
                                                      {"renamed", Change::Kind::renamed},
                                                      {"moved", Change::Kind::moved},
                                                      {"deleted", Change::Kind::deleted}}};

// It listens in the namespace of the thread that makes it, to others by their numbers there, so that it keeps no
// namespace alive in which an end lives. Any thread may use it.
class Watch {
 public:
  struct End {
    netns::Namespace space;
    DeviceRef device;
  };
  using Ends = std::array<std::optional<End>, 2>;

  // Of an end that is not known there is nothing to see. Throws ENODEV for one that is not there.
  explicit Watch(const Ends& ends);

  // The next change that has happened; empty if there is none yet, or none can come any more.
  std::optional<Change> next();

  // Whether no change can come any more: both ends are deleted, or were lost in a move that nobody followed.
  [[nodiscard]] bool ended() const;

  // Readable while next() may have something, once no change can come any more, and for ever once it was woken.
  [[nodiscard]] int fd() const noexcept { return ready_.get(); }
  void wake() const noexcept { subscription_.wake(); }

  // After a move: whether this is the namespace that the end was moved to, which the one it left knows by `nsid`.
  bool is_destination(Side side, int nsid, const netns::Namespace& space);

  // The namespace in which the end is now.
  void follow(Side side, const netns::Namespace& space);

 private:
  enum class Phase : uint8_t { unknown, followed, lost, gone };

  struct State {
    Phase phase = Phase::unknown;
    std::optional<int> nsid;  // of its namespace; empty: the one that is listened in
    DeviceRef device;
    bool up = false;
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
  Subscription subscription_;  // made with the help of the others
  Fd more_;                    // an eventfd: there is something, though the kernel has said all
  Fd ready_;                   // an epoll instance over both
};

}  // namespace netkit_bpf
