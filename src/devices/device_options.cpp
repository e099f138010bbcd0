// SPDX-License-Identifier: MIT
#include "devices/device_options.hpp"

#include <linux/if_link.h>
#include <sys/socket.h>

namespace netkit_bpf {

namespace {

void put_everywhere(Message& message, const DeviceOptions& options) {
  if (options.mac) message.put(IFLA_ADDRESS, options.mac->data(), options.mac->size());
  for (size_t i = 0; i < link_numbers.size(); ++i) {
    if (const auto number = options.numbers.at(i)) message.put_u32(link_numbers.at(i).attribute, *number);
  }
}

}  // namespace

void put_at_creation(Message& message, const DeviceOptions& options) {
  message.put_string(IFLA_IFNAME, options.name);
  put_everywhere(message, options);
}

void put_changes(Message& message, const DeviceOptions& options) {
  put_everywhere(message, options);
  if (options.alias) message.put(IFLA_IFALIAS, options.alias->data(), options.alias->size());
  if (options.addrgenmode) {
    message.nest(IFLA_AF_SPEC, [&](Message& families) {
      families.nest(AF_INET6, [&](Message& inet6) { inet6.put_u8(IFLA_INET6_ADDR_GEN_MODE, *options.addrgenmode); });
    });
  }
}

}  // namespace netkit_bpf
