// SPDX-License-Identifier: MIT
#include "netlink/subscription.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

constexpr const char* listening = "listen to changes of devices";

void set(int fd, int option, int value, const char* advice) {
  if (::setsockopt(fd, SOL_NETLINK, option, &value, sizeof(value)) != 0)
    throw Error(errno, listening, errno == EPERM ? advice : "");
}

}  // namespace

Subscription::Subscription(std::span<const int> groups, bool everywhere)
    : socket_(listening, SOCK_NONBLOCK), awake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!awake_) throw Error(errno, listening);
  if (everywhere) set(socket_.fd(), NETLINK_LISTEN_ALL_NSID, 1, "needs CAP_NET_BROADCAST");
  for (const int group : groups) set(socket_.fd(), NETLINK_ADD_MEMBERSHIP, group, "");
}

void Subscription::wait(std::chrono::nanoseconds timeout) const {
  std::array<pollfd, 2> both{{{socket_.fd(), POLLIN, 0}, {awake_.get(), POLLIN, 0}}};
  const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
  // Ignored: the caller looks anyway, and a signal also ends the wait.
  static_cast<void>(::poll(both.data(), both.size(), static_cast<int>(std::clamp<int64_t>(milliseconds, 0, 60'000))));
}

void Subscription::add_to(int epoll) const {
  for (const int each : {socket_.fd(), awake_.get()}) {
    epoll_event event{EPOLLIN, {}};
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, each, &event) != 0) throw Error(errno, listening);
  }
}

bool Subscription::read(const Take& take) {
  bool all = true;
  while (true) {
    const int error = socket_.read([&](const nlmsghdr* header, std::optional<int> nsid) {
      if (header->nlmsg_type == NLMSG_OVERRUN)
        all = false;
      else
        take(header, nsid);
    });
    if (error == EAGAIN) return all;
    if (error != 0 && error != ENOBUFS) throw Error(error, listening);
    all = all && error == 0;
  }
}

void Subscription::wake() const noexcept { static_cast<void>(::eventfd_write(awake_.get(), 1)); }

}  // namespace netkit_bpf
