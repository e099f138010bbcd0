// SPDX-License-Identifier: MIT
// Type information as plain data (Documentation/bpf/btf.rst).
#pragma once

#include <bpf/btf.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace netkit_bpf {

// A member of a structure or union, or a value of an enumeration.
struct BtfMember {
  std::string name;
  uint32_t type = 0;
  uint32_t bit_offset = 0;
  uint32_t bits = 0;  // of a bit field; else 0
  int64_t value = 0;  // of an enumeration; unsigned values that do not fit wrap
};

struct BtfType {
  uint32_t kind = 0;  // BTF_KIND_…
  std::string name;
  uint32_t size = 0;      // bytes; of an array: the number of elements
  uint32_t type = 0;      // what it refers to
  uint32_t encoding = 0;  // of an integer: BTF_INT_SIGNED, BTF_INT_CHAR, BTF_INT_BOOL; of an enumeration: 1 if signed
  uint32_t bits = 0;      // of an integer
  uint32_t bit_offset = 0;
  std::vector<BtfMember> members;
};

// Immutable: any thread may use it.
class BtfTypes {
 public:
  // What `owner` holds.
  explicit BtfTypes(std::shared_ptr<const btf> types) : types_(std::move(types)) {}
  // The types that the kernel keeps under this number. Throws Error.
  static BtfTypes from_kernel(uint32_t id);

  // The type of this number; 0 is void. Throws Error (ENOENT) if there is none.
  [[nodiscard]] BtfType get(uint32_t id) const;
  // The number of the type of this kind and name; 0 if there is none.
  [[nodiscard]] uint32_t find(const std::string& name, uint32_t kind) const;

 private:
  std::shared_ptr<const btf> types_;
};

}  // namespace netkit_bpf
