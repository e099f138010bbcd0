// SPDX-License-Identifier: MIT
// The distinct addresses of a column, numbered in order of appearance.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <vector>

namespace netkit_bpf {

class AddressIndex {
 public:
  struct Address {
    std::array<uint64_t, 2> bytes{};  // as they lie in memory
    uint8_t family = 0;               // an IPv4 address is not the IPv6 address that begins with its bytes

    bool operator==(const Address& other) const {  // the default one would call memcmp
      return bytes[0] == other.bytes[0] && bytes[1] == other.bytes[1] && family == other.family;
    }
  };

  // The number of an address, a new one if it was not seen before.
  int32_t number_of(const uint8_t (&bytes)[16], uint8_t family) {
    Address address{.family = family};
    std::memcpy(address.bytes.data(), &bytes[0], sizeof(bytes));
    if (address == last_) return last_number_;  // packets of a flow come in bursts
    const size_t slot = find(address);
    last_ = address;
    last_number_ = slots_[slot] != 0 ? slots_[slot] - 1 : add(address, slot);
    return last_number_;
  }

  [[nodiscard]] const std::vector<Address>& all() const noexcept { return all_; }

 private:
  // The slot where the address is, or belongs.
  [[nodiscard]] size_t find(const Address& address) const {
    const size_t mask = slots_.size() - 1;
    const uint64_t mixed = (address.bytes[0] ^ std::rotl(address.bytes[1] * 0x9e3779b97f4a7c15U, 29) ^ address.family) *
                           0xbf58476d1ce4e5b9U;
    size_t slot = (mixed ^ mixed >> 32) & mask;
    while (slots_[slot] != 0 && all_[static_cast<size_t>(slots_[slot] - 1)] != address) slot = (slot + 1) & mask;
    return slot;
  }

  int32_t add(const Address& address, size_t slot) {
    all_.push_back(address);
    const auto number = static_cast<int32_t>(all_.size());
    slots_[slot] = number;
    if (all_.size() * 2 > slots_.size()) {
      slots_.assign(slots_.size() * 4, 0);
      for (size_t i = 0; i < all_.size(); ++i) slots_[find(all_[i])] = static_cast<int32_t>(i + 1);
    }
    return number - 1;
  }

  Address last_;  // at first of no valid family
  int32_t last_number_ = 0;
  std::vector<Address> all_;
  std::vector<int32_t> slots_ = std::vector<int32_t>(256);  // 1 + a number, at its hash or after; 0: free
};

}  // namespace netkit_bpf
