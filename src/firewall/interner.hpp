// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace netkit_bpf::firewall {

// Sequences of one length, of which equal ones are kept once; numbered in the order in which they came.
template <typename Item>
class Interner {
 public:
  // Throws std::length_error once they would take more than `most` bytes.
  Interner(size_t length, size_t most);

  uint32_t add(std::span<const Item> items);
  [[nodiscard]] std::span<const Item> operator[](uint32_t number) const {
    return {&blocks_[number / per_block][number % per_block * length_], length_};
  }
  [[nodiscard]] size_t size() const { return hashes_.size(); }

 private:
  static constexpr size_t per_block = 256;

  void grow();

  size_t length_;
  size_t most_;
  std::vector<std::unique_ptr<Item[]>> blocks_;  // which do not move as they become more
  std::vector<uint64_t> hashes_;                 // by number
  std::vector<uint32_t> slots_;                  // by hash, numbers from 1 on; 0 is free
};

extern template class Interner<uint32_t>;
extern template class Interner<uint64_t>;

}  // namespace netkit_bpf::firewall
