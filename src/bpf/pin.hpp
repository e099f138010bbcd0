// SPDX-License-Identifier: MIT
// Pins: names on a BPF file system (bpf(2), BPF_OBJ_PIN) that keep a BPF object without a process.
#pragma once

#include <string>

#include "base/fd.hpp"

namespace netkit_bpf::pin {

// `what` ("link 7", "map 'flows'") is the object's name in errors. Throws EEXIST if the path is taken.
void create(int fd, const std::string& path, const std::string& what);

// Removes the name. Throws ENOENT if it is gone already.
void remove(const std::string& path, const std::string& what);

// Opens what is pinned at the path. `kind` is "link", "map" or "program"; throws std::invalid_argument if something
// else is pinned there.
Fd open(const std::string& path, const std::string& kind);

// What to do if the kernel did not pin or open something at the path.
std::string advice(int error, const std::string& path);

}  // namespace netkit_bpf::pin
