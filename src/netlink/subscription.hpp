// SPDX-License-Identifier: MIT
// Notifications of rtnetlink: changes of devices and addresses.
#pragma once

#include <linux/netlink.h>

#include <chrono>
#include <span>

#include "base/fd.hpp"
#include "netlink/kernel_socket.hpp"

namespace netkit_bpf {

// Listens in the namespace of the thread that makes it, and keeps that namespace alive.
class Subscription {
 public:
  using Take = KernelSocket::Take;

  // Groups are RTNLGRP_*. `everywhere` also listens in other namespaces that have an id here. That keeps none of them
  // alive, and needs CAP_NET_BROADCAST.
  explicit Subscription(std::span<const int> groups, bool everywhere = false);

  // Waits until there is something to read, but not longer than the timeout. Also returns once wake() was called.
  void wait(std::chrono::nanoseconds timeout) const;

  // Reads what has come. Returns false if the kernel dropped something: then the current state must be looked up.
  bool read(const Take& take);

  // Adds what wait() waits for to an epoll(7) instance.
  void add_to(int epoll) const;

  // Ends the wait of all threads, now and later. Any thread may call it.
  void wake() const noexcept;

 private:
  KernelSocket socket_;
  Fd awake_;  // an eventfd
};

}  // namespace netkit_bpf
