// SPDX-License-Identifier: MIT
// Counters that a program keeps for each CPU, so that no CPU waits for another.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace netkit_bpf {

// How many CPUs there can be: a value of a per-CPU map has a part for each. Throws Error.
size_t possible_cpus();

// Throws std::invalid_argument unless the map is a percpu_array with so many elements, whose values are so many
// uint64_t: the kernel would write beyond what is laid out for it. Throws Error.
void check_counters(int map, size_t elements, size_t counters);

// Adds up the counts of all CPUs in an element of a percpu_array map, whose values are as many uint64_t as `sums`.
// Throws Error.
void add_counters(int map, uint32_t key, std::span<uint64_t> sums);

// Sets such an element to zero. Throws Error.
void clear_counters(int map, uint32_t key, size_t counters);

template <size_t count>
std::array<uint64_t, count> sum_counters(int map, uint32_t key) {
  std::array<uint64_t, count> sums{};
  add_counters(map, key, sums);
  return sums;
}

}  // namespace netkit_bpf
