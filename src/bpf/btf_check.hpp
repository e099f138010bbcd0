// SPDX-License-Identifier: MIT
// Whether type information (Documentation/bpf/btf.rst) refers only to what is there, and ends.
#pragma once

#include <string>

#include "base/bytes.hpp"

namespace netkit_bpf {

// What is wrong with a .BTF section; empty if nothing is. What passes has no types that contain
// themselves, and no member lies outside of its type.
std::string check_btf(Bytes btf);

// The same of a .BTF.ext section, whose names and types are those of a .BTF section that has passed.
std::string check_btf_ext(Bytes ext, Bytes btf);

}  // namespace netkit_bpf
