// SPDX-License-Identifier: MIT
#include "base/mapping.hpp"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "base/error.hpp"

namespace netkit_bpf {

namespace {

std::byte* map(int fd, size_t size, int protection, int flags, size_t offset, const std::string& operation) {
  void* start = ::mmap(nullptr, size, protection, flags, fd, static_cast<off_t>(offset));
  if (start == MAP_FAILED) throw Error(errno, operation + " (" + std::to_string(size) + " bytes)");
  return static_cast<std::byte*>(start);
}

}  // namespace

Mapping::Mapping(size_t size, const std::string& operation)
    : start_(map(-1, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, 0, operation)), size_(size) {}

Mapping::Mapping(int fd, size_t size, int protection, size_t offset, const std::string& operation)
    : start_(map(fd, size, protection, MAP_SHARED, offset, operation)), size_(size) {}

Mapping::Mapping(Mapping&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), size_(std::exchange(other.size_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(size_, other.size_);
  return *this;
}

Mapping::~Mapping() {
  if (start_ != nullptr) ::munmap(start_, size_);
}

}  // namespace netkit_bpf
