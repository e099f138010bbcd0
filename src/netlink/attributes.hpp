// SPDX-License-Identifier: MIT
// Attributes of a netlink message by their numbers.
#pragma once

#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/error.hpp"

namespace netkit_bpf {

// What stands before the attributes. Throws EBADMSG for a message that is too short for it.
template <typename Header>
const Header& fixed_header(const nlmsghdr* header) {
  if (header->nlmsg_len < NLMSG_LENGTH(sizeof(Header))) throw Error(EBADMSG, "read a netlink message");
  return *static_cast<const Header*>(nlmsg_data(header));
}

// The attributes of one message or one nest. A missing attribute is a null pointer.
class Attributes {
 public:
  // The attributes behind a fixed header of this size. Throws EBADMSG if the message is cut short.
  Attributes(const nlmsghdr* header, size_t fixed, int highest);
  // Inside a nest; none at all if it is null or broken.
  Attributes(const nlattr* nest, int highest);
  // In a run of attributes; none at all if it is broken.
  Attributes(const nlattr* first, size_t size, int highest);

  [[nodiscard]] const nlattr* operator[](int number) const { return table_.at(static_cast<size_t>(number)); }
  [[nodiscard]] std::optional<uint32_t> u32(int number) const { return value<uint32_t>(number); }
  [[nodiscard]] std::optional<uint16_t> u16(int number) const { return value<uint16_t>(number); }
  [[nodiscard]] std::optional<uint8_t> u8(int number) const { return value<uint8_t>(number); }
  [[nodiscard]] std::string text(int number) const;  // up to its NUL, if any; empty if it is missing
  [[nodiscard]] std::vector<uint8_t> bytes(int number) const;

 private:
  // Empty if the attribute is missing or too short.
  template <typename Value>
  [[nodiscard]] std::optional<Value> value(int number) const {
    const nlattr* found = (*this)[number];
    if (found == nullptr || static_cast<size_t>(nla_len(found)) < sizeof(Value)) return std::nullopt;
    Value copied{};
    std::memcpy(&copied, nla_data(found), sizeof(copied));
    return copied;
  }

  std::vector<nlattr*> table_;
};

}  // namespace netkit_bpf
