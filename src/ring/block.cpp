// SPDX-License-Identifier: MIT
#include "ring/block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

Block::Memory::Memory(size_t size) : size_(size) {
  // Pages are made as they are first written, and the system has them back at once when it is unmapped.
  void* start = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) throw Error(errno, "allocate " + std::to_string(size) + " bytes for events");
  start_ = static_cast<std::byte*>(start);
}

Block::Memory::Memory(Memory&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Block::Memory& Block::Memory::operator=(Memory&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(size_, other.size_);
  return *this;
}

Block::Memory::~Memory() {
  if (start_ != nullptr) ::munmap(start_, size_);
}

// Outlives the pool while blocks are out.
struct BlockPool::Free {
  std::mutex mutex;
  std::vector<Block::Memory> memory;  // the last one used is the first one reused: it is in the cache

  void take_back(Block& block) {
    if (block.memory.size() != block_size) return;  // one of its kind: unmapped
    const std::lock_guard lock(mutex);
    memory.push_back(std::move(block.memory));
  }
};

BlockPool::BlockPool(size_t sources) : sources_(sources), free_(std::make_shared<Free>()) {}

std::shared_ptr<Block> BlockPool::get(size_t size) {
  auto block = std::make_unique<Block>();
  block->counts.resize(sources_);
  if (size <= block_size) {
    const std::lock_guard lock(free_->mutex);
    if (!free_->memory.empty()) {
      block->memory = std::move(free_->memory.back());
      free_->memory.pop_back();
    }
  }
  if (block->memory.start() == nullptr) block->memory = Block::Memory(std::max(size, block_size));
  return {block.release(), [free = free_](Block* used) {
            const std::unique_ptr<Block> owner(used);
            free->take_back(*owner);
          }};
}

void BlockPool::trim() {
  std::vector<Block::Memory> unused;
  const std::lock_guard lock(free_->mutex);
  unused.swap(free_->memory);
}

}  // namespace netkit_bpf
