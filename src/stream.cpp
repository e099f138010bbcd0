// SPDX-License-Identifier: MIT
#include "stream.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "error.hpp"

namespace netkit_bpf {

namespace {

// Sums one side's counters over the CPUs.
nk_counts read_counts(int map, uint32_t side) {
  const int cpus = libbpf_num_possible_cpus();
  if (cpus < 0) throw Error(-cpus, "count the possible CPUs");
  std::vector<nk_counts> values(static_cast<size_t>(cpus));
  if (bpf_map_lookup_elem(map, &side, values.data()) != 0) throw Error(errno, "read the monitor's counters");
  nk_counts sum{};
  for (const nk_counts& value : values) {
    sum.seen += value.seen;
    sum.lost += value.lost;
  }
  return sum;
}

}  // namespace

Stream::Stream(int ring_map, size_t ring_size, size_t queue_size, int counts_map, std::function<void()> check)
    : counts_map_(counts_map), reader_(Ring(ring_map, ring_size), queue_size, std::move(check)) {}

std::optional<Stream::Event> Stream::next() {
  for (;;) {
    while (at_ < block_.run.size()) {
      uint32_t header = 0;
      std::memcpy(&header, &block_.run[at_], sizeof(header));
      const std::byte* data = &block_.run[at_ + Record::header_size];
      at_ += Record::stride(header);
      if ((header & Record::discard_bit) != 0) continue;
      const auto* record = reinterpret_cast<const nk_event*>(data);
      ++delivered_[record->side & (NK_SIDES - 1)];
      return Event{record, block_.clock_offset_ns};
    }
    std::optional<Block> block = reader_.pop();
    if (!block) return std::nullopt;
    block_ = std::move(*block);
    at_ = 0;
  }
}

Stats Stream::stats() {
  Stats stats{};
  for (uint32_t side = 0; side < NK_SIDES; ++side) {
    const nk_counts counts = read_counts(counts_map_, side);
    stats[side].seen = counts.seen;
    stats[side].lost = counts.lost;
    stats[side].delivered = delivered_[side];
  }
  const auto count = [&](std::span<const std::byte> run) {
    each_record(run, [&](std::span<const std::byte> record) {
      ++stats[static_cast<size_t>(record[offsetof(nk_event, side)]) & (NK_SIDES - 1)].pending;
    });
  };
  count(std::span<const std::byte>(block_.run).subspan(at_));
  reader_.each_pending(count);
  return stats;
}

}  // namespace netkit_bpf
