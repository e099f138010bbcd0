// SPDX-License-Identifier: MIT
// The observers of one reader, and the notifications of the kernel that say when one has to look again.
//
// A change of a policy and the end or the move of a device are notified (RTNLGRP_LINK), and the end of a namespace is
// (RTNLGRP_NSID): so an observer of forwarding sides never looks by itself. What is not notified is looked for from
// time to time: programs that are attached to a blackhole, whose verdict depends on them, or in front of an observer
// that keeps its place; and everything about a pair in a namespace that cannot be listened to, because
// CAP_NET_BROADCAST is missing or the pair was moved there from a namespace that is not the listener's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "base/fd.hpp"
#include "base/netns.hpp"
#include "netlink/socket.hpp"
#include "netlink/subscription.hpp"
#include "observer/observer.hpp"

namespace netkit_bpf {

// Any thread may use it. It listens in the namespace of the thread that makes it, and keeps no other one alive.
class Observers {
 public:
  // `endless`: that there is no pair left is no error.
  explicit Observers(bool endless);

  // Under a number that no other one has now. Throws std::invalid_argument once check() has thrown.
  void add(size_t number, std::shared_ptr<Observer> observer);
  // To be called once it is closed.
  void remove(size_t number);

  // Lets those look again that have to. Returns whether it should be called again some tenths of a second later,
  // without a notification. Throws ENODEV once all are gone whose devices were deleted and none is left.
  bool check();

  // Readable when check() should be called.
  [[nodiscard]] int fd() const noexcept { return ready_.get(); }

  struct Watched {
    size_t number;
    std::shared_ptr<Observer> observer;
  };
  // Those that are neither gone nor removed.
  [[nodiscard]] std::vector<Watched> watching() const;

  struct End {
    size_t number;
    int64_t time_ns;  // Unix time
  };
  // Those that ended because their devices were gone, since this was called last. Nothing else is kept of them.
  [[nodiscard]] std::vector<End> take_ends();

  // Readable while take_ends() has something.
  [[nodiscard]] int ends_fd();

 private:
  struct Entry {
    size_t number = 0;
    std::shared_ptr<Observer> observer;  // null: gone
    int ifindex = 0;
    std::optional<int> nsid;  // of its namespace; empty: the one that is listened in
    bool is_heard = false;    // of changes
    bool must_look = true;
    bool looks_often = false;  // at what is not notified
  };

  Subscription listen();
  void place(Entry& entry);
  void take(const nlmsghdr* header, std::optional<int> told);
  // Why it ended, if it did.
  static std::exception_ptr look(Entry& entry);

  mutable std::mutex mutex_;
  netns::Identity home_;  // the namespace that is listened in
  NetlinkSocket here_;
  bool hears_everywhere_ = false;
  std::optional<int> self_;  // the number that it has for itself
  Subscription subscription_;
  Fd added_;  // an eventfd: there is one that looks by itself
  Fd ready_;  // an epoll instance
  const bool endless_;
  bool is_over_ = false;
  std::exception_ptr last_end_;
  std::chrono::steady_clock::time_point last_look_;
  std::vector<Entry> entries_;
  std::vector<End> ends_;
  Fd has_ends_;  // an eventfd, once somebody asked for it
};

}  // namespace netkit_bpf
