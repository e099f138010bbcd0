// SPDX-License-Identifier: MIT
#include "firewall/interner.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <string>

namespace netkit_bpf::firewall {

namespace {

// Four lanes, so that one multiplication need not wait for the other.
template <typename Item>
uint64_t hash_of(std::span<const Item> items) {
  constexpr uint64_t factor = 0x9e3779b97f4a7c15;  // 2^64 / golden ratio
  uint64_t lanes[4] = {1, 2, 3, 4};                // NOLINT(*-avoid-c-arrays)
  size_t at = 0;
  for (; at + 4 <= items.size(); at += 4)
    for (size_t lane = 0; lane < 4; ++lane) lanes[lane] = (std::rotl(lanes[lane], 29) ^ items[at + lane]) * factor;
  for (; at < items.size(); ++at) lanes[0] = (std::rotl(lanes[0], 29) ^ items[at]) * factor;
  uint64_t hash = 0;
  for (const uint64_t lane : lanes) hash = (std::rotl(hash, 31) ^ lane ^ lane >> 32) * factor;
  return hash ^ hash >> 32;
}

constexpr size_t first_slots = 1024;

}  // namespace

template <typename Item>
Interner<Item>::Interner(size_t length, size_t most) : length_(length), most_(most), slots_(first_slots) {}

template <typename Item>
uint32_t Interner<Item>::add(std::span<const Item> items) {
  const uint64_t hash = hash_of(items);
  size_t slot = hash & (slots_.size() - 1);
  for (; slots_[slot] != 0; slot = (slot + 1) & (slots_.size() - 1)) {
    const uint32_t number = slots_[slot] - 1;
    if (hashes_[number] == hash && std::ranges::equal((*this)[number], items)) return number;
  }
  if ((size() + 1) * length_ * sizeof(Item) > most_)
    throw std::length_error("more than " + std::to_string(most_ >> 20) + " MiB of rows");
  if (size() % per_block == 0) blocks_.push_back(std::make_unique_for_overwrite<Item[]>(per_block * length_));
  std::memcpy(&blocks_.back()[size() % per_block * length_], items.data(), items.size_bytes());
  hashes_.push_back(hash);
  slots_[slot] = static_cast<uint32_t>(size());
  if (size() * 2 > slots_.size()) grow();
  return static_cast<uint32_t>(size() - 1);
}

template <typename Item>
void Interner<Item>::grow() {
  slots_.assign(slots_.size() * 2, 0);
  for (uint32_t number = 0; number < size(); ++number) {
    size_t slot = hashes_[number] & (slots_.size() - 1);
    while (slots_[slot] != 0) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = number + 1;
  }
}

template class Interner<uint32_t>;
template class Interner<uint64_t>;

}  // namespace netkit_bpf::firewall
