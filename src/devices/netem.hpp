// SPDX-License-Identifier: MIT
// The queueing discipline that delays, loses and slows what a device sends: tc-netem(8), net/sched/sch_netem.c.
#pragma once

#include <cstdint>

#include "devices/device.hpp"
#include "netlink/socket.hpp"

namespace netkit_bpf {

struct Netem {
  int64_t delay_ns = 0;
  int64_t jitter_ns = 0;
  double loss = 0;     // the share of packets, 0 to 1
  uint64_t rate = 0;   // bytes per second; 0: no limit
  uint32_t limit = 0;  // packets that may wait
};

namespace netem {

// Makes it the device's root discipline, instead of what that is. Throws NotSupported where the kernel has none.
void set(NetlinkSocket& netlink, const DeviceRef& device, const Netem& wanted);
// Gives the device its own discipline back. Does nothing if it has that.
void remove(NetlinkSocket& netlink, const DeviceRef& device);

}  // namespace netem
}  // namespace netkit_bpf
