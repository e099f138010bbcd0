// SPDX-License-Identifier: MIT
// Notifications of rtnetlink: what happens to devices and addresses.
#pragma once

#include <linux/netlink.h>

#include <chrono>
#include <span>

#include "base/fd.hpp"
#include "netlink/kernel_socket.hpp"

namespace netkit_bpf {

// Heard in the namespace of the thread that makes it, which lives as long as it does.
class Subscription {
 public:
  using Take = KernelSocket::Take;

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
  KernelSocket socket_;
  Fd awake_;  // an eventfd
};

}  // namespace netkit_bpf
