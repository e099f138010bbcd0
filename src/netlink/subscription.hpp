// SPDX-License-Identifier: MIT
// Notifications of rtnetlink: what happens to devices and addresses.
#pragma once

#include <linux/netlink.h>

#include <chrono>
#include <functional>
#include <optional>
#include <span>

#include "base/fd.hpp"

namespace netkit_bpf {

// Heard in the namespace of the thread that makes it, which lives as long as it does.
class Subscription {
 public:
  // The namespace's number in the hearer's one (see nsid.hpp); empty: it is the hearer's own.
  using Take = std::function<void(const nlmsghdr*, std::optional<int> nsid)>;

  // Groups are RTNLGRP_*. Everywhere: also in other namespaces, as far as they have a number here. That holds
  // none of them alive. It needs CAP_NET_BROADCAST.
  explicit Subscription(std::span<const int> groups, bool everywhere = false);

  // Waits until there is something to read, but not longer. Also returns once wake() was called.
  void wait(std::chrono::nanoseconds timeout) const;

  // Reads what has come. Returns false if the kernel dropped something: then the present must be looked up.
  bool read(const Take& take);

  // Has an epoll(7) instance tell what wait() waits for.
  void add_to(int epoll) const;

  // Ends the wait of all threads, now and in future. Any thread may call.
  void wake() const noexcept;

 private:
  Fd socket_;
  Fd awake_;  // an eventfd
};

}  // namespace netkit_bpf
