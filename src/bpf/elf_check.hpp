// SPDX-License-Identifier: MIT
// Checks that an ELF image is a BPF object with valid references.
//
// libbpf trusts object files too much: with some damaged or malicious ones, releases that distributions ship read and
// write outside of their memory. So every offset, index and size that libbpf would follow is checked here first.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace netkit_bpf {

// Where a variable lies. BTF may name another section, where clang chose this one after it had written that.
struct DataSymbol {
  std::string name;
  std::string section;
  uint64_t offset = 0;
};

// Returns the variables. Throws Error (ENOEXEC) that says what is wrong; `name` is for the message.
std::vector<DataSymbol> check_object(Bytes image, const std::string& name);

}  // namespace netkit_bpf
