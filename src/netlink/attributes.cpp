// SPDX-License-Identifier: MIT
#include "netlink/attributes.hpp"

namespace netkit_bpf {

Attributes::Attributes(const nlmsghdr* header, size_t fixed, int highest) : table_(static_cast<size_t>(highest) + 1) {
  if (nlmsg_parse(const_cast<nlmsghdr*>(header), static_cast<int>(fixed), table_.data(), highest, nullptr) < 0)
    throw Error(EBADMSG, "read a netlink message");
}

Attributes::Attributes(const nlattr* nest, int highest) : table_(static_cast<size_t>(highest) + 1) {
  if (nest != nullptr && nla_parse_nested(table_.data(), highest, const_cast<nlattr*>(nest), nullptr) < 0)
    table_.assign(table_.size(), nullptr);
}

Attributes::Attributes(const nlattr* first, size_t size, int highest) : table_(static_cast<size_t>(highest) + 1) {
  if (nla_parse(table_.data(), highest, const_cast<nlattr*>(first), static_cast<int>(size), nullptr) < 0)
    table_.assign(table_.size(), nullptr);
}

std::string Attributes::text(int number) const {
  const std::vector<uint8_t> raw = bytes(number);
  const std::string text(raw.begin(), raw.end());
  return text.substr(0, text.find('\0'));
}

std::vector<uint8_t> Attributes::bytes(int number) const {
  const nlattr* found = (*this)[number];
  if (found == nullptr) return {};
  const auto* data = static_cast<const uint8_t*>(nla_data(found));
  return {data, data + nla_len(found)};
}

}  // namespace netkit_bpf
