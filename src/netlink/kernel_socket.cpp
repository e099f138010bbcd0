// SPDX-License-Identifier: MIT
#include "netlink/kernel_socket.hpp"

#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

constexpr int receive_buffer = 1 << 20;
// The most that the kernel puts into one datagram of a list (netlink_dump() in af_netlink.c).
constexpr size_t usual_room = size_t{32} << 10;

// Beside a message from another namespace.
std::optional<int> nsid_of(msghdr& received) {
  for (cmsghdr* each = CMSG_FIRSTHDR(&received); each != nullptr; each = CMSG_NXTHDR(&received, each)) {
    if (each->cmsg_level != SOL_NETLINK || each->cmsg_type != NETLINK_LISTEN_ALL_NSID) continue;
    int nsid = 0;
    std::memcpy(&nsid, CMSG_DATA(each), sizeof(nsid));
    return nsid;
  }
  return std::nullopt;
}

void hand_on(const char* datagram, size_t size, std::optional<int> nsid, const KernelSocket::Take& take) {
  auto left = static_cast<int>(size);
  for (const auto* header = reinterpret_cast<const nlmsghdr*>(datagram); nlmsg_ok(header, left);
       header = nlmsg_next(const_cast<nlmsghdr*>(header), &left))
    take(header, nsid);
  if (left > 0) throw Error(EBADMSG, "read a netlink message");
}

}  // namespace

KernelSocket::KernelSocket(const char* operation, int flags)
    : fd_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | flags, NETLINK_ROUTE)) {
  if (!fd_) throw Error(errno, operation);
  if (::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof(receive_buffer)) != 0)
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  sockaddr_nl address{};
  socklen_t size = sizeof(address);
  address.nl_family = AF_NETLINK;
  // To a connected socket only its partner can write (netlink_getsockbyportid()), and the kernel's port is 0. This also
  // gives the socket a port; without one the kernel would take it for the sender of multicasts.
  if (::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw Error(errno, operation);
  port_ = address.nl_pid;
}

int KernelSocket::read(const Take& take) {
  while (true) {
    const ssize_t waiting = ::recv(fd_.get(), nullptr, 0, MSG_PEEK | MSG_TRUNC);
    if (waiting < 0 && errno == EINTR) continue;
    if (waiting < 0) return errno;
    if (static_cast<size_t>(waiting) > room_) {
      room_ = std::max(static_cast<size_t>(waiting), usual_room);
      buffer_ = std::make_unique_for_overwrite<char[]>(room_);
    }
    sockaddr_nl sender{};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(nl_pktinfo))> control{};
    iovec room{buffer_.get(), room_};
    msghdr received{};
    received.msg_name = &sender;
    received.msg_namelen = sizeof(sender);
    received.msg_iov = &room;
    received.msg_iovlen = 1;
    received.msg_control = control.data();
    received.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(fd_.get(), &received, 0);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno;
    // A multicast from any sender reaches a connected socket; the port of a process is never 0.
    if (received.msg_namelen != sizeof(sender) || sender.nl_family != AF_NETLINK || sender.nl_pid != 0) continue;
    if ((received.msg_flags & MSG_TRUNC) != 0) return ENOBUFS;
    hand_on(buffer_.get(), static_cast<size_t>(size), nsid_of(received), take);
    return 0;
  }
}

}  // namespace netkit_bpf
