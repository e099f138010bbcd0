// SPDX-License-Identifier: MIT
#include "ring/block.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace netkit_bpf {

// Outlives the pool while blocks are in use.
struct BlockPool::Free {
  std::mutex mutex;
  std::vector<Mapping> memory;  // last in, first out: the last one used is still in the cache

  void take_back(Block& block) {
    if (block.memory.size() != block_size) return;  // an unusual size: unmapped
    try {
      const std::lock_guard lock(mutex);
      memory.push_back(std::move(block.memory));
    } catch (const std::bad_alloc&) {
      block.memory = Mapping();  // unmapped
    }
  }
};

BlockPool::BlockPool() : free_(std::make_shared<Free>()) {}

std::shared_ptr<Block> BlockPool::get(size_t size) {
  auto block = std::make_unique<Block>();
  if (size <= block_size) {
    const std::lock_guard lock(free_->mutex);
    if (!free_->memory.empty()) {
      block->memory = std::move(free_->memory.back());
      free_->memory.pop_back();
    }
  }
  if (!block->memory) block->memory = Mapping(std::max(size, block_size), "allocate memory for events");
  return {block.release(), [free = free_](Block* used) {
            const std::unique_ptr<Block> owner(used);
            free->take_back(*owner);
          }};
}

void BlockPool::trim() {
  std::vector<Mapping> unused;
  const std::lock_guard lock(free_->mutex);
  unused.swap(free_->memory);
}

}  // namespace netkit_bpf
