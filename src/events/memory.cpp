// SPDX-License-Identifier: MIT
#include "events/memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace netkit_bpf {

namespace {

constexpr size_t cache_line = 64;
constexpr size_t huge_page = 2 << 20;

}  // namespace

std::shared_ptr<std::byte> allocate(size_t size) {
  // Touching small pages for the first time costs several times as much as copying into them.
  const bool is_large = size >= 2 * huge_page;
  const size_t alignment = is_large ? huge_page : cache_line;
  const size_t rounded = (size + alignment) / alignment * alignment;
  void* memory = std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
  if (is_large) ::madvise(memory, rounded, MADV_HUGEPAGE);  // only a hint
  return {static_cast<std::byte*>(memory), std::free};
}

}  // namespace netkit_bpf
