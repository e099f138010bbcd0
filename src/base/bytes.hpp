// SPDX-License-Identifier: MIT
// Reading plain structures out of untrusted bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <stdexcept>
#include <string_view>
#include <type_traits>

namespace netkit_bpf {

using Bytes = std::span<const uint8_t>;

// Whether `size` bytes from `offset` on lie within `room`; no sum can overflow.
constexpr bool fits(uint64_t offset, uint64_t size, uint64_t room) { return offset <= room && size <= room - offset; }

// A copy of the T at `offset`. Throws std::out_of_range if it does not lie inside.
template <typename T>
T copy_at(Bytes bytes, uint64_t offset) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (!fits(offset, sizeof(T), bytes.size())) throw std::out_of_range("a structure beyond the end of its bytes");
  T value{};
  std::memcpy(&value, &bytes[offset], sizeof(T));
  return value;
}

// The same; nothing if it does not lie inside.
template <typename T>
std::optional<T> read_at(Bytes bytes, uint64_t offset) {
  if (!fits(offset, sizeof(T), bytes.size())) return std::nullopt;
  return copy_at<T>(bytes, offset);
}

// The zero-terminated text at `offset` of a table of texts that ends with a zero.
inline std::optional<std::string_view> text_at(Bytes table, uint64_t offset) {
  if (offset >= table.size() || table.back() != 0) return std::nullopt;
  return reinterpret_cast<const char*>(&table[offset]);
}

// Whether Python can take the text for a name: UTF-8.
bool is_utf8(std::string_view text) noexcept;

}  // namespace netkit_bpf
