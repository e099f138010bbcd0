// SPDX-License-Identifier: MIT
// Checks that an ELF image is a BPF object with valid references.
//
// libbpf trusts object files too much: with some damaged or malicious ones, releases that distributions ship read and
// write outside of their memory. So every offset, index and size that libbpf would follow is checked here first.
#pragma once

#include <string>

#include "base/bytes.hpp"

namespace netkit_bpf {

// Throws Error (ENOEXEC) that says what is wrong. `name` is for the message.
void check_object(Bytes image, const std::string& name);

}  // namespace netkit_bpf
