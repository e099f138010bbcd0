// SPDX-License-Identifier: MIT
// Counters that a program keeps for each CPU, so that none waits for another's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace netkit_bpf {

// How many CPUs there can be: a value of a per-CPU map has a part for each. Throws Error.
size_t possible_cpus();

// Adds what all CPUs have counted in an element of a map of type percpu_array, whose values are as many uint64_t as
// `sums`. Throws Error.
void add_counters(int map, uint32_t key, std::span<uint64_t> sums);

template <size_t count>
std::array<uint64_t, count> sum_counters(int map, uint32_t key) {
  std::array<uint64_t, count> sums{};
  add_counters(map, key, sums);
  return sums;
}

}  // namespace netkit_bpf
