// SPDX-License-Identifier: MIT
#include "devices/pair_watch.hpp"

#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.hpp"
#include "base/netns.hpp"
#include "devices/nsid.hpp"
#include "netlink/attributes.hpp"

namespace netkit_bpf {

namespace {

constexpr std::array groups{int{RTNLGRP_LINK}, int{RTNLGRP_NSID}};
constexpr std::array sides{Side::primary, Side::peer};

bool is_up(const DeviceInfo& device) { return (device.flags & IFF_UP) != 0; }

std::array<std::optional<uint32_t>, 2> policies_of(const DeviceInfo& device) {
  return {device.netkit.policy, device.netkit.peer_policy};
}

}  // namespace

PairWatch::PairWatch(const Ends& ends)
    : home_(netns::Namespace::current().identity()),
      subscription_(listen(ends)),
      more_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      ready_(::epoll_create1(EPOLL_CLOEXEC)) {
  epoll_event event{EPOLLIN, {}};
  if (!more_ || !ready_ || ::epoll_ctl(ready_.get(), EPOLL_CTL_ADD, more_.get(), &event) != 0)
    throw Error(errno, "listen to changes of devices");
  subscription_.add_to(ready_.get());
  for (const Side side : sides) {  // changes from now on are received
    const auto& end = ends.at(static_cast<size_t>(side));
    if (!end) continue;
    State& mine = state(side);
    mine.device = end->device;
    const auto found = look_up(mine);
    if (!found) throw Error(ENODEV, "watch " + end->device.name, device::advice(ENODEV));
    mine = {Phase::followed, mine.nsid, {found->ifindex, found->name}, is_up(*found), policies_of(*found)};
  }
}

// Listen in all namespaces if that is allowed, even if both ends are here: they may be moved.
Subscription PairWatch::listen(const Ends& ends) {
  bool all_here = true;
  for (const auto& end : ends) all_here = all_here && (!end || end->space.identity() == home_);
  try {
    Subscription everywhere(groups, true);
    self_ = nsid::find(here_, netns::Namespace::current());
    for (const Side side : sides) {
      if (const auto& end = ends.at(static_cast<size_t>(side))) state(side).nsid = number(end->space);
    }
    return everywhere;
  } catch (const Error& error) {
    if (error.number() != EPERM || !all_here) throw;
  }
  return Subscription(groups);
}

std::optional<int> PairWatch::number(const netns::Namespace& space) {
  if (space.identity() == home_) return std::nullopt;
  return nsid::find_or_assign(here_, space);
}

std::optional<DeviceInfo> PairWatch::look_up(const State& state) {
  DeviceInfo found;
  Message message(RTM_GETLINK, NLM_F_REQUEST);
  ifinfomsg info{};
  info.ifi_index = state.device.ifindex;
  message.header(info);
  if (state.nsid) message.put_u32(IFLA_TARGET_NETNSID, static_cast<uint32_t>(*state.nsid));
  try {
    here_.request({std::move(message), "look up device " + state.device.name,
                   [&](const nlmsghdr* header) { found = device::parse(header); }, device::advice});
  } catch (const Error& error) {
    if (error.number() != ENODEV && error.number() != EINVAL) throw;  // EINVAL: the namespace is gone
    return std::nullopt;
  }
  return found;
}

std::optional<Change> PairWatch::next() {
  const std::lock_guard lock(mutex_);
  if (changes_.empty()) {
    const bool all = subscription_.read([&](const nlmsghdr* header, std::optional<int> nsid) { take(header, nsid); });
    if (!all) look_up_all();
  }
  std::optional<Change> change;
  if (!changes_.empty()) {
    change = std::move(changes_.front());
    changes_.pop_front();
  }
  show_readiness();
  return change;
}

bool PairWatch::ended() const {
  const std::lock_guard lock(mutex_);
  return is_over();
}

void PairWatch::show_readiness() {
  eventfd_t value = 0;
  if (!changes_.empty() || is_over()) {
    static_cast<void>(::eventfd_write(more_.get(), 1));
  } else {
    static_cast<void>(::eventfd_read(more_.get(), &value));
  }
}

bool PairWatch::is_over() const {
  return changes_.empty() && std::none_of(states_.begin(), states_.end(),
                                          [](const State& state) { return state.phase == Phase::followed; });
}

bool PairWatch::is_destination(Side side, int nsid, const netns::Namespace& space) {
  const std::lock_guard lock(mutex_);
  const auto left = state(side).nsid;
  return (left ? nsid::find_in(here_, *left, space) : nsid::find(here_, space)) == nsid;
}

void PairWatch::follow(Side side, const netns::Namespace& space) {
  const std::lock_guard lock(mutex_);
  State& mine = state(side);
  if (mine.phase != Phase::lost) return;
  mine.nsid = number(space);
  if (const auto found = look_up(mine)) {
    mine.phase = Phase::followed;
    compare(side, *found);
  }
  show_readiness();
}

// The kernel dropped notifications because the socket was full.
void PairWatch::look_up_all() {
  for (const Side side : sides) {
    if (state(side).phase != Phase::followed) continue;
    if (const auto found = look_up(state(side))) {
      compare(side, *found);
    } else {
      end_both();
    }
  }
}

void PairWatch::take(const nlmsghdr* header, std::optional<int> told) {
  const std::optional<int> nsid = told == self_ ? std::nullopt : told;  // a namespace can have an id for itself
  if (header->nlmsg_type == RTM_DELNSID && !nsid) {
    const auto ended = Attributes(header, sizeof(rtgenmsg), NETNSA_MAX).u32(NETNSA_NSID);
    const auto lived_there = [&](const State& state) {
      return state.phase == Phase::followed && state.nsid && ended == static_cast<uint32_t>(*state.nsid);
    };
    if (std::any_of(states_.begin(), states_.end(), lived_there)) end_both();
    return;
  }
  if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) return;
  const auto& info = fixed_header<ifinfomsg>(header);
  if (info.ifi_family != AF_UNSPEC) return;  // about a port of a bridge
  for (const Side side : sides) {
    const State& mine = state(side);
    if (mine.phase != Phase::followed || mine.nsid != nsid || mine.device.ifindex != info.ifi_index) continue;
    if (header->nlmsg_type == RTM_NEWLINK) {
      compare(side, device::parse(header));
    } else {
      remove(side, header);
    }
    return;
  }
}

void PairWatch::compare(Side side, const DeviceInfo& now) {
  State& mine = state(side);
  if (mine.device.name != now.name) {
    mine.device.name = now.name;
    changes_.push_back({side, Change::Kind::renamed, now.name, now.ifindex, std::nullopt});
  }
  if (mine.up != is_up(now)) {
    mine.up = is_up(now);
    changes_.push_back({side, mine.up ? Change::Kind::up : Change::Kind::down, now.name, now.ifindex, std::nullopt});
  }
  // Both are changed by way of the primary, and only that is notified of: netkit_change_link() in drivers/net/netkit.c.
  // One that is being deleted has no peer any more.
  const auto policies = policies_of(now);
  if (side == Side::primary && policies[1] && policies != mine.policies) {
    mine.policies = policies;
    changes_.push_back({side, Change::Kind::policy, now.name, now.ifindex, std::nullopt});
  }
}

void PairWatch::remove(Side side, const nlmsghdr* header) {
  const Attributes found(header, sizeof(ifinfomsg), IFLA_NEW_IFINDEX);
  const auto new_nsid = found.u32(IFLA_NEW_NETNSID);
  if (!new_nsid) {
    end_both();
    return;
  }
  State& mine = state(side);
  mine.phase = Phase::lost;
  mine.device.ifindex = static_cast<int>(found.u32(IFLA_NEW_IFINDEX).value_or(mine.device.ifindex));
  changes_.push_back({side, Change::Kind::moved, mine.device.name, mine.device.ifindex, static_cast<int>(*new_nsid)});
}

// Deleting one end deletes the other.
void PairWatch::end_both() {
  for (const Side side : sides) {
    State& mine = state(side);
    if (mine.phase == Phase::unknown || mine.phase == Phase::gone) continue;
    mine.phase = Phase::gone;
    changes_.push_back({side, Change::Kind::deleted, mine.device.name, mine.device.ifindex, std::nullopt});
  }
}

}  // namespace netkit_bpf
