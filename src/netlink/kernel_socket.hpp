// SPDX-License-Identifier: MIT
// The descriptor below requests and subscriptions: a route netlink socket that hears the kernel and nobody else.
//
// In a network namespace that belongs to a user namespace, that one's root may write to every route netlink socket:
// to its port, which /proc/net/netlink shows, and to the groups that it listens to.
#pragma once

#include <linux/netlink.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "base/fd.hpp"

namespace netkit_bpf {

class KernelSocket {
 public:
  // The namespace's number in the socket's one (see nsid.hpp); empty: it is the socket's own.
  using Take = std::function<void(const nlmsghdr*, std::optional<int> nsid)>;

  KernelSocket() = default;  // closed
  // Opens it in the namespace of the calling thread. `operation` leads the text of errors; `flags` are SOCK_NONBLOCK
  // or 0.
  explicit KernelSocket(const char* operation, int flags = 0);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // The number by which the kernel answers: nlmsg_pid of what is meant for this socket alone.
  [[nodiscard]] uint32_t port() const noexcept { return port_; }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  // Reads one datagram, however large, and hands its messages on. Returns 0 or an errno: EAGAIN, there is none;
  // ENOBUFS, the kernel had more to tell than fits the socket. Throws EBADMSG for a message that is cut. One thread at
  // a time may read.
  int read(const Take& take);

 private:
  Fd fd_;
  uint32_t port_ = 0;
  std::unique_ptr<char[]> buffer_;
  size_t room_ = 0;
};

}  // namespace netkit_bpf
