// SPDX-License-Identifier: MIT
// Attributes of a netlink message by their numbers.
#pragma once

#include <netlink/attr.h>
#include <netlink/msg.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace netkit_bpf {

// Those of one message or one nest. What the sender did not put is a null pointer.
class Attributes {
 public:
  // Behind a message's fixed header of this size. Throws EBADMSG for a message that is cut short.
  Attributes(const nlmsghdr* header, size_t fixed, int highest);
  // Inside a nest; none at all if it is null or broken.
  Attributes(const nlattr* nest, int highest);
  // In a run of attributes; none at all if it is broken.
  Attributes(const nlattr* first, size_t size, int highest);

  [[nodiscard]] const nlattr* operator[](int number) const { return table_.at(static_cast<size_t>(number)); }
  [[nodiscard]] std::optional<uint32_t> u32(int number) const;
  [[nodiscard]] std::optional<uint16_t> u16(int number) const;
  [[nodiscard]] std::optional<uint8_t> u8(int number) const;
  [[nodiscard]] std::string text(int number) const;  // empty where it is missing
  [[nodiscard]] std::vector<uint8_t> bytes(int number) const;

 private:
  std::vector<nlattr*> table_;
};

}  // namespace netkit_bpf
