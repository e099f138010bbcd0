// SPDX-License-Identifier: MIT
// What libbpf's messages say about an object that did not load.
#pragma once

#include <string>

namespace netkit_bpf {

// Throws VerifierError or Error: `error` is the errno, `log` what libbpf said, `object` the object's name.
[[noreturn]] void throw_load_error(int error, const std::string& log, const std::string& object);

// Throws Error: the kernel did not make a map, which may be none of an object's.
[[noreturn]] void throw_map_error(int error, const std::string& map, const std::string& object = {});

}  // namespace netkit_bpf
