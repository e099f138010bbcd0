// SPDX-License-Identifier: MIT
#include "devices/device_options.hpp"

#include <linux/if_link.h>
#include <sys/socket.h>

#include <algorithm>
#include <stdexcept>

namespace netkit_bpf {

size_t link_number(std::string_view name) {
  const auto* const found =
      std::find_if(link_numbers.begin(), link_numbers.end(), [&](const LinkNumber& row) { return row.name == name; });
  if (found == link_numbers.end()) throw std::out_of_range("no such link attribute: " + std::string(name));
  return static_cast<size_t>(found - link_numbers.begin());
}

void put_at_creation(Message& message, const DeviceOptions& options) {
  message.put_string(IFLA_IFNAME, options.name);
  if (options.mac) message.put(IFLA_ADDRESS, options.mac->data(), options.mac->size());
  put_numbers(message, options);
}

void put_numbers(Message& message, const DeviceOptions& options) {
  for (size_t i = 0; i < link_numbers.size(); ++i) {
    if (const auto number = options.numbers.at(i)) message.put_u32(link_numbers.at(i).attribute, *number);
  }
}

bool put_later(Message& message, const DeviceOptions& options) {
  if (options.alias) message.put(IFLA_IFALIAS, options.alias->data(), options.alias->size());
  if (options.addrgenmode) {
    message.nest(IFLA_AF_SPEC, [&](Message& families) {
      families.nest(AF_INET6, [&](Message& inet6) { inet6.put_u8(IFLA_INET6_ADDR_GEN_MODE, *options.addrgenmode); });
    });
  }
  return options.alias || options.addrgenmode;
}

}  // namespace netkit_bpf
