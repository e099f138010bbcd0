// SPDX-License-Identifier: MIT
// Blocks of records, and the pool that reuses their memory: fresh pages cost more than the copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/mapping.hpp"

namespace netkit_bpf {

// Records with their headers, as they stood in the ring. One thread at a time.
struct Block {
  Mapping memory;
  size_t used = 0;               // bytes
  size_t records = 0;            // discarded ones not counted
  size_t stride = 0;             // from each record to the next; 0 if that varies or some are discarded
  int64_t clock_offset_ns = 0;   // CLOCK_REALTIME minus CLOCK_MONOTONIC when it was read
  std::vector<uint64_t> counts;  // records by group and source; as many as were needed

  [[nodiscard]] std::span<std::byte> run() const noexcept { return {memory.start(), used}; }
  [[nodiscard]] size_t room() const noexcept { return memory.size() - used; }
};

// Any thread may use it. A block may outlive it.
class BlockPool {
 public:
  BlockPool();

  // An empty block of at least `size` bytes.
  std::shared_ptr<Block> get(size_t size);
  // Gives the memory of unused blocks back to the system.
  void trim();

  // The size of blocks, unless a single record needs more: half of a common second-level cache, so that records are
  // still in the cache when they are read.
  static constexpr size_t block_size = 512 << 10;

 private:
  struct Free;

  const std::shared_ptr<Free> free_;
};

}  // namespace netkit_bpf
