// SPDX-License-Identifier: MIT
// Memory that is mapped (mmap(2)), and unmapped with its object.
#pragma once

#include <cstddef>
#include <string>

namespace netkit_bpf {

class Mapping {
 public:
  Mapping() = default;
  // Anonymous pages. They are allocated when first written.
  Mapping(size_t size, const std::string& operation);
  // Pages of the file of the descriptor, shared with all other mappings.
  Mapping(int fd, size_t size, int protection, size_t offset, const std::string& operation);
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  explicit operator bool() const noexcept { return start_ != nullptr; }
  [[nodiscard]] std::byte* start() const noexcept { return start_; }
  [[nodiscard]] size_t size() const noexcept { return size_; }

 private:
  std::byte* start_ = nullptr;
  size_t size_ = 0;
};

}  // namespace netkit_bpf
