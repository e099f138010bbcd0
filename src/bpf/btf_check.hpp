// SPDX-License-Identifier: MIT
// Whether type information (Documentation/bpf/btf.rst) has only valid references, and no cycles.
#pragma once

#include <string>

#include "base/bytes.hpp"

namespace netkit_bpf {

// What is wrong with a .BTF section; empty if nothing is. In a valid one no type contains itself, and no member lies
// outside of its type.
std::string check_btf(Bytes btf);

// The same for a .BTF.ext section, whose names and types are those of a valid .BTF section.
std::string check_btf_ext(Bytes ext, Bytes btf);

}  // namespace netkit_bpf
