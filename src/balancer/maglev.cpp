// SPDX-License-Identifier: MIT
#include "balancer/maglev.hpp"

#include <algorithm>
#include <numeric>
#include <stdexcept>

namespace netkit_bpf::balancer {

namespace {

uint64_t mix(uint64_t value) {
  value ^= value >> 33;
  value *= 0xff51afd7ed558ccd;
  value ^= value >> 33;
  value *= 0xc4ceb9fe1a85ec53;
  return value ^ value >> 33;
}

bool is_prime(uint32_t number) {
  if (number < 2) return false;
  for (uint32_t divisor = 2; divisor * divisor <= number; ++divisor)
    if (number % divisor == 0) return false;
  return true;
}

// A candidate's way through the table: its own permutation of the entries.
struct Walk {
  uint16_t number;
  uint32_t entry;
  uint32_t skip;
  uint64_t weight;
  uint64_t saved = 0;
};

}  // namespace

NameHash hash_name(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : name) {
    hash ^= static_cast<uint8_t>(byte);
    hash *= 0x100000001b3;
  }
  const uint64_t offset = mix(hash);
  return {.offset = offset, .skip = mix(offset)};
}

std::vector<uint16_t> maglev_table(std::span<const Candidate> candidates, uint32_t size) {
  if (!is_prime(size) || size > kLargestTable) throw std::invalid_argument("the size must be a prime, at most 65537");
  if (candidates.size() >= kNobody) throw std::invalid_argument("there are too many candidates");
  std::vector<uint16_t> table(size, kNobody);
  if (candidates.empty()) return table;

  std::vector<uint16_t> order(candidates.size());
  std::iota(order.begin(), order.end(), uint16_t{0});
  std::ranges::sort(order, {}, [&](uint16_t number) -> const std::string& { return candidates[number].name; });
  std::vector<Walk> walks;
  walks.reserve(order.size());
  uint64_t heaviest = 0;
  for (const uint16_t number : order) {
    const Candidate& candidate = candidates[number];
    if (candidate.weight == 0) throw std::invalid_argument("a weight must be more than 0");
    const NameHash hash = hash_name(candidate.name);
    walks.push_back({.number = number,
                     .entry = static_cast<uint32_t>(hash.offset % size),
                     .skip = static_cast<uint32_t>(hash.skip % (size - 1) + 1),
                     .weight = candidate.weight});
    heaviest = std::max<uint64_t>(heaviest, candidate.weight);
  }

  for (uint32_t filled = 0;;) {
    for (Walk& walk : walks) {
      walk.saved += walk.weight;
      if (walk.saved < heaviest) continue;
      walk.saved -= heaviest;
      while (table[walk.entry] != kNobody) walk.entry = (walk.entry + walk.skip) % size;
      table[walk.entry] = walk.number;
      if (++filled == size) return table;
    }
  }
}

}  // namespace netkit_bpf::balancer
