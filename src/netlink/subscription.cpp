// SPDX-License-Identifier: MIT
#include "netlink/subscription.hpp"

#include <netlink/msg.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t buffer_size = size_t{64} << 10;
constexpr int receive_buffer = 1 << 20;

void set(int fd, int option, int value, const char* advice) {
  if (::setsockopt(fd, SOL_NETLINK, option, &value, sizeof(value)) != 0)
    throw Error(errno, "listen to changes of devices", errno == EPERM ? advice : "");
}

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

}  // namespace

Subscription::Subscription(std::span<const int> groups, bool everywhere)
    : socket_(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE)),
      awake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!socket_ || !awake_) throw Error(errno, "listen to changes of devices");
  if (::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer, sizeof(receive_buffer)) != 0)
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
  sockaddr_nl self{};  // with a number: one that has none is taken for the sender, and hears nothing
  self.nl_family = AF_NETLINK;
  if (::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&self), sizeof(self)) != 0)
    throw Error(errno, "listen to changes of devices");
  if (everywhere) set(socket_.get(), NETLINK_LISTEN_ALL_NSID, 1, "needs CAP_NET_BROADCAST");
  for (const int group : groups) set(socket_.get(), NETLINK_ADD_MEMBERSHIP, group, "");
}

void Subscription::wait(std::chrono::nanoseconds timeout) const {
  std::array<pollfd, 2> both{{{socket_.get(), POLLIN, 0}, {awake_.get(), POLLIN, 0}}};
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  // Whatever comes of it, the caller looks what there is; a signal too ends the wait.
  static_cast<void>(::poll(both.data(), both.size(), static_cast<int>(std::clamp<int64_t>(milliseconds, 0, 60'000))));
}

void Subscription::add_to(int epoll) const {
  for (const Fd* each : {&socket_, &awake_}) {
    epoll_event event{EPOLLIN, {}};
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, each->get(), &event) != 0) throw Error(errno, "listen to changes of devices");
  }
}

bool Subscription::read(const Take& take) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(buffer_size);
  bool all = true;
  while (true) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(nl_pktinfo))> control{};
    iovec room{buffer.get(), buffer_size};
    msghdr received{};
    received.msg_iov = &room;
    received.msg_iovlen = 1;
    received.msg_control = control.data();
    received.msg_controllen = control.size();
    const ssize_t size = ::recvmsg(socket_.get(), &received, 0);
    if (size < 0) {
      if (errno == EAGAIN) return all;
      if (errno == EINTR) continue;
      if (errno != ENOBUFS) throw Error(errno, "listen to changes of devices");
      all = false;
      continue;
    }
    const std::optional<int> nsid = nsid_of(received);
    auto left = static_cast<int>(size);
    for (auto* header = reinterpret_cast<nlmsghdr*>(buffer.get()); nlmsg_ok(header, left);
         header = nlmsg_next(header, &left))
      take(header, nsid);
  }
}

void Subscription::wake() const noexcept { static_cast<void>(::eventfd_write(awake_.get(), 1)); }

}  // namespace netkit_bpf
