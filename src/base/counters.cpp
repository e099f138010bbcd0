// SPDX-License-Identifier: MIT
#include "base/counters.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/libbpf_log.hpp"

namespace netkit_bpf {

size_t possible_cpus() {
  const LibbpfLog log;  // instead of a line on the standard error
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) throw Error(-cpus, "count the possible CPUs", "/sys/devices/system/cpu/possible tells them");
  return static_cast<size_t>(cpus);
}

void check_counters(int map, size_t elements, size_t counters) {
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  if (bpf_map_get_info_by_fd(map, &info, &size) != 0) throw Error(errno, "ask what a map of counters is");
  if (info.type != BPF_MAP_TYPE_PERCPU_ARRAY || info.value_size != counters * sizeof(uint64_t) ||
      info.max_entries < elements)
    throw std::invalid_argument("map '" + std::string(&info.name[0]) + "' is not a per-CPU array of " +
                                std::to_string(elements) + " elements with " + std::to_string(counters) +
                                " counters each");
}

void add_counters(int map, uint32_t key, std::span<uint64_t> sums) {
  std::vector<uint64_t> values(possible_cpus() * sums.size());
  if (bpf_map_lookup_elem(map, &key, values.data()) != 0) throw Error(errno, "read the counters of a map");
  for (size_t i = 0; i < values.size(); ++i) sums[i % sums.size()] += values[i];
}

void clear_counters(int map, uint32_t key, size_t counters) {
  const std::vector<uint64_t> zeros(possible_cpus() * counters);
  if (bpf_map_update_elem(map, &key, zeros.data(), BPF_ANY) != 0) throw Error(errno, "clear the counters of a map");
}

}  // namespace netkit_bpf
