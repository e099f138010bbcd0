// SPDX-License-Identifier: MIT
#include "base/counters.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <vector>

#include "base/error.hpp"

namespace netkit_bpf {

size_t possible_cpus() {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) throw Error(-cpus, "count the possible CPUs");
  return static_cast<size_t>(cpus);
}

void add_counters(int map, uint32_t key, std::span<uint64_t> sums) {
  std::vector<uint64_t> values(possible_cpus() * sums.size());
  if (bpf_map_lookup_elem(map, &key, values.data()) != 0) throw Error(errno, "read the counters of a map");
  for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += values[i];
}

}  // namespace netkit_bpf
