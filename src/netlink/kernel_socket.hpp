// SPDX-License-Identifier: MIT
// The descriptor below requests and subscriptions: a route netlink socket that accepts messages only from the kernel.
//
// In a network namespace that belongs to a user namespace, root of the latter may write to every route netlink socket:
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
  // nsid is the id of the sender's namespace in the socket's (see nsid.hpp); empty if they are the same.
  using Take = std::function<void(const nlmsghdr*, std::optional<int> nsid)>;

  KernelSocket() = default;  // closed
  // Opens it in the namespace of the calling thread. `operation` leads the text of errors; `flags` are SOCK_NONBLOCK
  // or 0.
  explicit KernelSocket(const char* operation, int flags = 0);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  // The port of the socket: nlmsg_pid of messages that are meant for it alone.
  [[nodiscard]] uint32_t port() const noexcept { return port_; }
  explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  // Reads one datagram, however large, and hands its messages on. Returns 0 or an errno: EAGAIN, there is none;
  // ENOBUFS, the kernel dropped messages because the socket was full. Throws EBADMSG for a message that is cut short.
  // One thread at a time may read.
  int read(const Take& take);

 private:
  Fd fd_;
  uint32_t port_ = 0;
  std::unique_ptr<char[]> buffer_;
  size_t room_ = 0;
};

}  // namespace netkit_bpf
