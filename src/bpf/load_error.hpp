// SPDX-License-Identifier: MIT
// Errors from libbpf's messages about an object that did not open or load.
#pragma once

#include <span>
#include <string>

#include "bpf/map_info.hpp"

namespace netkit_bpf {

// Both throw: `error` is the errno, `log` what libbpf said, `object` the object's name.
[[noreturn]] void throw_open_error(int error, const std::string& log, const std::string& object);
// VerifierError or Error. `maps` are the definitions of the object's maps.
[[noreturn]] void throw_load_error(int error, const std::string& log, const std::string& object,
                                   std::span<const MapSpec> maps);

}  // namespace netkit_bpf
