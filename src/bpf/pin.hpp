// SPDX-License-Identifier: MIT
// Pins: names on a BPF file system (bpf(2), BPF_OBJ_PIN) that keep a BPF object without a process.
#pragma once

#include <string>

#include "base/fd.hpp"

namespace netkit_bpf::pin {

// `what` ("link 7", "map 'flows'") is how errors name the object. Throws EEXIST where the path is taken.
void create(int fd, const std::string& path, const std::string& what);

// Takes the name away. Throws ENOENT where it is gone already.
void remove(const std::string& path, const std::string& what);

// Opens what is pinned at the path. `kind` is "link", "map" or "program"; throws std::invalid_argument
// where something else is pinned there.
Fd open(const std::string& path, const std::string& kind);

// What to do where the kernel did not pin or open something at the path.
std::string advice(int error, const std::string& path);

}  // namespace netkit_bpf::pin
