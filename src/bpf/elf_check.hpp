// SPDX-License-Identifier: MIT
// Whether an ELF image is a BPF object whose parts lie where it says.
//
// libbpf trusts more of an object file than a damaged or malicious one deserves: releases that
// distributions ship read and write beyond their memory on some. So everything that it would follow,
// every offset, index and size, is followed here before.
#pragma once

#include <string>

#include "base/bytes.hpp"

namespace netkit_bpf {

// Throws Error (ENOEXEC) that says what is wrong. `name` is for the message.
void check_object(Bytes image, const std::string& name);

}  // namespace netkit_bpf
