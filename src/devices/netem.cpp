// SPDX-License-Identifier: MIT
#include "devices/netem.hpp"

#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <limits>
#include <string>

#include "base/error.hpp"

namespace netkit_bpf::netem {

namespace {

constexpr uint32_t handle = 1U << 16;  // "1:"

tcmsg root_of(const DeviceRef& device) {
  tcmsg info{};
  info.tcm_family = AF_UNSPEC;
  info.tcm_ifindex = device.ifindex;
  info.tcm_parent = TC_H_ROOT;
  return info;
}

tc_netem_qopt options_of(const Netem& wanted) {
  tc_netem_qopt options{};
  options.limit = wanted.limit;
  options.loss = static_cast<uint32_t>(std::llround(wanted.loss * std::numeric_limits<uint32_t>::max()));
  return options;
}

tc_netem_rate rate_of(const Netem& wanted) {
  tc_netem_rate rate{};
  rate.rate = static_cast<uint32_t>(std::min<uint64_t>(wanted.rate, std::numeric_limits<uint32_t>::max()));
  return rate;
}

}  // namespace

void set(NetlinkSocket& netlink, const DeviceRef& device, const Netem& wanted) {
  tcmsg info = root_of(device);
  info.tcm_handle = handle;
  Message message(RTM_NEWQDISC, NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE);
  message.header(info).put_string(TCA_KIND, "netem").nest(TCA_OPTIONS, [&](Message& nested) {
    const tc_netem_qopt options = options_of(wanted);
    nested.append(&options, sizeof(options));
    // In the options themselves a time counts ticks of the scheduler's clock.
    nested.put(TCA_NETEM_LATENCY64, &wanted.delay_ns, sizeof(wanted.delay_ns));
    nested.put(TCA_NETEM_JITTER64, &wanted.jitter_ns, sizeof(wanted.jitter_ns));
    const tc_netem_rate rate = rate_of(wanted);
    if (rate.rate == std::numeric_limits<uint32_t>::max())
      nested.put(TCA_NETEM_RATE64, &wanted.rate, sizeof(wanted.rate));
    nested.put(TCA_NETEM_RATE, &rate, sizeof(rate));  // without one, that which was set before would stay
  });
  const std::string operation = "set delay, loss and rate of " + device.name;
  try {
    netlink.request({std::move(message), operation, {}, &device::advice});
  } catch (const Error& error) {
    if (error.number() != ENOENT) throw;
    throw NotSupported(operation, "", "CONFIG_NET_SCH_NETEM is missing: modprobe sch_netem");
  }
}

void remove(NetlinkSocket& netlink, const DeviceRef& device) {
  Message message(RTM_DELQDISC, NLM_F_REQUEST);
  message.header(root_of(device));
  try {
    netlink.request({std::move(message), "remove delay, loss and rate of " + device.name, {}, &device::advice});
  } catch (const Error& error) {
    if (error.number() != ENOENT && error.number() != EINVAL) throw;  // it has none
  }
}

}  // namespace netkit_bpf::netem
