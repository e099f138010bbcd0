// SPDX-License-Identifier: MIT
// Consistent hashing as in section 3.4 of "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace netkit_bpf::balancer {

struct Candidate {
  std::string name;
  uint32_t weight = 1;
};

constexpr uint32_t kLargestTable = 65'537;
constexpr uint16_t kNobody = 0xffff;  // in a table without candidates

// Two hashes of a name, which are the same everywhere: FNV-1a of 64 bits, mixed as in MurmurHash3, and that mixed
// again.
struct NameHash {
  uint64_t offset;
  uint64_t skip;
};
NameHash hash_name(const std::string& name);

// For each entry the number of its candidate. The candidates take turns in the order of their names, so that the order
// in which they are given does not count; in each round the heaviest takes one, and a lighter one saves its weight
// until it has as much. Throws std::invalid_argument where the size is no prime, or a weight is 0.
std::vector<uint16_t> maglev_table(std::span<const Candidate> candidates, uint32_t size);

}  // namespace netkit_bpf::balancer
