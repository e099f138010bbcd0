// SPDX-License-Identifier: MIT
#include "flows/flow_maps.hpp"

#include <bpf/bpf.h>
#include <netkit_bpf/event.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "base/counters.hpp"
#include "base/error.hpp"
#include "flows/patience.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t most_pairs = 1 << 16;

size_t rounded_to_pages(size_t size) {
  const auto page = static_cast<size_t>(::getpagesize());
  return (size + page - 1) / page * page;
}

// How many elements a map has, which must be an array of those that are expected.
size_t elements_of(int fd, size_t value_size, const char* what) {
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  if (bpf_map_get_info_by_fd(fd, &info, &size) != 0) throw Error(errno, std::string("ask about the map of ") + what);
  if (info.type != BPF_MAP_TYPE_ARRAY || info.value_size != value_size || (info.map_flags & BPF_F_MMAPABLE) == 0)
    throw std::invalid_argument(std::string("the map of ") + what +
                                " must be a mappable array as <netkit_bpf/flow.h> describes it");
  return info.max_entries;
}

// As many as the numbers of CPUs go up to: some may be missing.
size_t cpus_of(int unattributed, size_t pairs) {
  const size_t rows = elements_of(unattributed, sizeof(nk_flow_unattributed), "what is not attributed");
  const size_t rows_of_cpu = pairs * NK_SIDES;
  if (rows_of_cpu == 0 || pairs > most_pairs || rows % rows_of_cpu != 0 || rows / rows_of_cpu < possible_cpus())
    throw std::invalid_argument("the map of what is not attributed must have a row for each CPU, pair and side");
  return rows / rows_of_cpu;
}

template <typename T>
T load(const T& shared, std::memory_order order = std::memory_order_relaxed) {
  return std::atomic_ref(const_cast<T&>(shared)).load(order);
}

// Copies what a program may be writing, word by word.
template <typename T>
T copy_words(const T& shared) {
  static_assert(sizeof(T) % sizeof(uint64_t) == 0);
  std::array<uint64_t, sizeof(T) / sizeof(uint64_t)> words;
  const auto* from = reinterpret_cast<const uint64_t*>(&shared);
  for (size_t i = 0; i < words.size(); ++i) words[i] = load(from[i]);
  T own;
  std::memcpy(&own, words.data(), sizeof(own));
  return own;
}

}  // namespace

FlowMaps::FlowMaps(int sets, int unattributed, size_t pairs)
    : rows_(pairs * NK_SIDES),
      cpus_(cpus_of(unattributed, pairs)),
      sets_per_cpu_(elements_of(sets, sizeof(nk_flow_set), "flows") / cpus_),
      sets_(sets, rounded_to_pages(sizeof(nk_flow_set) * sets_per_cpu_ * cpus_), PROT_READ, 0, "map the flows"),
      unattributed_(unattributed, rounded_to_pages(cpus_ * rows_ * sizeof(nk_flow_unattributed)), PROT_READ, 0,
                    "map what is not attributed to flows") {}

bool FlowMaps::copy(size_t set, nk_flow_set& own) const {
  const nk_flow_set& shared = reinterpret_cast<const nk_flow_set*>(sets_.start())[set];
  Patience patience;
  do {
    const uint32_t version = load(shared.version, std::memory_order_acquire);
    if (version == 0) return false;
    own = copy_words(shared);
    std::atomic_thread_fence(std::memory_order_acquire);
    if ((version & 1) == 0 && own.version == version && load(shared.version) == version) return true;
  } while (patience.wait());
  return true;
}

std::vector<nk_flow_unattributed> FlowMaps::unattributed(size_t cpu) const {
  const auto* all = reinterpret_cast<const nk_flow_unattributed*>(unattributed_.start());
  std::vector<nk_flow_unattributed> own;
  own.reserve(rows_);
  for (size_t i = 0; i < rows_; ++i) own.push_back(copy_words(all[cpu * rows_ + i]));
  return own;
}

}  // namespace netkit_bpf
