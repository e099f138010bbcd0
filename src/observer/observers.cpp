// SPDX-License-Identifier: MIT
#include "observer/observers.hpp"

#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "devices/nsid.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf {

namespace {

using namespace std::chrono_literals;

constexpr std::array groups{int{RTNLGRP_LINK}, int{RTNLGRP_NSID}};
constexpr auto between_looks = 150ms;

int64_t unix_time() { return std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count(); }

}  // namespace

Observers::Observers(bool endless)
    : home_(netns::Namespace::current().identity()),
      subscription_(listen()),
      added_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      ready_(::epoll_create1(EPOLL_CLOEXEC)),
      endless_(endless) {
  if (!added_ || !ready_) throw Error(errno, "listen to changes of devices");
  subscription_.add_to(ready_.get());
  epoll_event event{EPOLLIN, {}};
  if (::epoll_ctl(ready_.get(), EPOLL_CTL_ADD, added_.get(), &event) != 0)
    throw Error(errno, "listen to changes of devices");
}

Subscription Observers::listen() {
  try {
    Subscription everywhere(groups, true);
    self_ = nsid::find(here_, netns::Namespace::current());
    hears_everywhere_ = true;
    return everywhere;
  } catch (const Error& error) {
    if (error.number() != EPERM) throw;
  }
  return Subscription(groups);
}

// Finds out whether changes of its device are heard.
void Observers::place(Entry& entry) {
  const Observer::Place& place = entry.observer->place();
  entry.ifindex = place.ifindex;
  entry.is_heard = place.space.identity() == home_;
  if (entry.is_heard || !hears_everywhere_) return;
  try {
    entry.nsid = nsid::find_or_assign(here_, place.space);
    entry.is_heard = true;
  } catch (const std::exception&) {
    entry.is_heard = false;  // the namespace is deleted, or may not get an id here
  }
}

void Observers::add(size_t number, std::shared_ptr<Observer> observer) {
  const std::lock_guard lock(mutex_);
  if (is_over_)
    throw std::invalid_argument(
        "the reading has ended: its last pair was deleted; make another, or one that is endless");
  Entry entry;
  entry.number = number;
  entry.observer = std::move(observer);
  place(entry);
  // A change may have come before, when nobody asked for it.
  if (const std::exception_ptr end = look(entry)) std::rethrow_exception(end);
  const bool looks_by_itself = entry.looks_often || !entry.is_heard;
  entries_.push_back(std::move(entry));
  // The reader's last check() may have found none that does, so that it waits for a notification.
  if (looks_by_itself) static_cast<void>(::eventfd_write(added_.get(), 1));
}

void Observers::remove(size_t number) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [number](const Entry& each) { return each.number == number; });
}

std::vector<Observers::End> Observers::take_ends() {
  const std::lock_guard lock(mutex_);
  eventfd_t count = 0;
  if (has_ends_) static_cast<void>(::eventfd_read(has_ends_.get(), &count));
  return std::exchange(ends_, {});
}

int Observers::ends_fd() {
  const std::lock_guard lock(mutex_);
  if (!has_ends_) {
    has_ends_ = Fd(::eventfd(ends_.empty() ? 0 : 1, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!has_ends_) throw Error(errno, "listen to changes of devices");
  }
  return has_ends_.get();
}

std::vector<Observers::Watched> Observers::watching() const {
  const std::lock_guard lock(mutex_);
  std::vector<Watched> found;
  found.reserve(entries_.size());
  for (const Entry& each : entries_) found.push_back({each.number, each.observer});
  return found;
}

std::exception_ptr Observers::look(Entry& entry) {
  entry.must_look = false;
  try {
    entry.looks_often = entry.observer->check();
    return nullptr;
  } catch (const Error& error) {
    if (error.number() != ENODEV) throw;
    entry.observer.reset();
    return std::current_exception();
  }
}

bool Observers::check() {
  const std::lock_guard lock(mutex_);
  eventfd_t count = 0;
  static_cast<void>(::eventfd_read(added_.get(), &count));
  const bool all = !subscription_.read([&](const nlmsghdr* header, std::optional<int> nsid) { take(header, nsid); });
  const auto now = std::chrono::steady_clock::now();
  const bool is_time = now - last_look_ >= between_looks;
  if (is_time) last_look_ = now;
  bool again = false;
  for (Entry& each : entries_) {
    if (!each.observer) continue;  // it ended in a check that failed behind it
    const bool looks_by_itself = each.looks_often || !each.is_heard;
    if (all || each.must_look || (is_time && looks_by_itself)) {
      if (std::exception_ptr end = look(each)) {
        last_end_ = std::move(end);
        ends_.push_back({each.number, unix_time()});
        continue;
      }
    }
    again = again || each.looks_often || !each.is_heard;
  }
  if (std::erase_if(entries_, [](const Entry& each) { return !each.observer; }) > 0 && has_ends_)
    static_cast<void>(::eventfd_write(has_ends_.get(), 1));
  if (!entries_.empty() || !last_end_ || endless_) return again;
  is_over_ = true;
  std::rethrow_exception(last_end_);
}

void Observers::take(const nlmsghdr* header, std::optional<int> told) {
  const std::optional<int> nsid = told == self_ ? std::nullopt : told;  // a namespace can have an id for itself
  if (header->nlmsg_type == RTM_DELNSID && !nsid) {
    const auto ended = Attributes(header, sizeof(rtgenmsg), NETNSA_MAX).u32(NETNSA_NSID);
    for (Entry& each : entries_) {  // its devices are deleted next, which is not told to other namespaces any more
      if (each.nsid && ended == static_cast<uint32_t>(*each.nsid)) each.is_heard = false;
    }
    return;
  }
  if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) return;
  const auto& info = fixed_header<ifinfomsg>(header);
  if (info.ifi_family != AF_UNSPEC) return;  // about a port of a bridge
  for (Entry& each : entries_) {
    if (each.nsid != nsid || each.ifindex != info.ifi_index) continue;
    each.must_look = true;
    if (header->nlmsg_type == RTM_NEWLINK) continue;
    const Attributes found(header, sizeof(ifinfomsg), IFLA_NEW_IFINDEX);
    const auto moved_to = found.u32(IFLA_NEW_NETNSID);
    if (!moved_to) continue;
    each.is_heard = !nsid && hears_everywhere_;  // the id is one of the namespace that it left
    each.nsid = static_cast<int>(*moved_to);
    each.ifindex = static_cast<int>(found.u32(IFLA_NEW_IFINDEX).value_or(0));
    if (each.ifindex == 0) each.ifindex = info.ifi_index;
  }
}

}  // namespace netkit_bpf
