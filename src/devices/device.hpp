// SPDX-License-Identifier: MIT
// A network device, as rtnetlink(7) shows and changes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/netns.hpp"
#include "devices/device_options.hpp"
#include "devices/netkit_attributes.hpp"
#include "netlink/socket.hpp"

namespace netkit_bpf {

// The device that a request is about. The kernel uses the number; errors use the last known name.
struct DeviceRef {
  int ifindex = 0;
  std::string name;
};

struct DeviceInfo {
  int ifindex = 0;
  std::string name;
  std::string kind;
  std::string alias;
  uint32_t flags = 0;
  LinkNumbers numbers;
  std::vector<uint8_t> mac;
  std::optional<uint8_t> addrgenmode;  // AddrGenMode; empty without IPv6
  int link = 0;                        // the other end's ifindex
  std::optional<int> link_netnsid;     // the other end's namespace, where it is another one
  int master = 0;                      // the ifindex of the bridge or the like that it is a port of
  std::vector<uint64_t> statistics;    // struct rtnl_link_stats64, as many of them as this kernel has
  NetkitAttributes netkit;
};

namespace device {

// Reads a message of type RTM_NEWLINK.
DeviceInfo parse(const nlmsghdr* header);

// A device whose carrier has come drops what it is given to send, without a word, until a work queue has looked at it
// (net/core/link_watch.c). These have the kernel look first (rtnl_getlink() in net/core/rtnetlink.c, since Linux 6.8).
DeviceInfo get(NetlinkSocket& netlink, const std::string& name);
DeviceInfo get(NetlinkSocket& netlink, int ifindex);
DeviceInfo get(NetlinkSocket& netlink, const DeviceRef& device);
bool exists(NetlinkSocket& netlink, const std::string& name);
// All devices of one kind (IFLA_INFO_KIND) in the socket's namespace, without statistics; of every kind if it is empty.
std::vector<DeviceInfo> list(NetlinkSocket& netlink, const std::string& kind);

void set_up(NetlinkSocket& netlink, const DeviceRef& device, bool up);
// Changes everything that the options hold; error texts begin with `operation` ("set the mtu of nk0").
void change(NetlinkSocket& netlink, const DeviceRef& device, const DeviceOptions& options,
            const std::string& operation);
void rename(NetlinkSocket& netlink, const DeviceRef& device, const std::string& name);
// Moves it into the namespace of `to`, and returns what it is there: its number may change. The kernel drops addresses,
// routes and the up state on the way; it also drops addrgenmode, which is restored here.
DeviceInfo move(NetlinkSocket& from, const DeviceRef& device, NetlinkSocket& to, const netns::Namespace& to_space);

// Returns false if the device is gone already.
bool remove(NetlinkSocket& netlink, const DeviceRef& device);
// Deletes all devices of a group at once, with a single wait in the kernel. Returns false if there is none.
bool remove_group(NetlinkSocket& netlink, uint32_t group);

// The requests of some of these, for an exchange of many.
Request getting(const DeviceRef& device, DeviceInfo& into);
Request setting_up(const DeviceRef& device, bool up);
Request changing(const DeviceRef& device, const DeviceOptions& options, const std::string& operation);
Request removing(const DeviceRef& device);

// What to do about an errno that any request about a device can meet.
const char* advice(int error);

}  // namespace device
}  // namespace netkit_bpf
