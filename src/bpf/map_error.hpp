// SPDX-License-Identifier: MIT
// Why the kernel did not make or change a map.
#pragma once

#include <string>
#include <string_view>

#include "bpf/map_info.hpp"

namespace netkit_bpf {

// Throws Error with what to do about it. `map` is the requested map; `object` is the object that defines it, if any.
[[noreturn]] void throw_map_error(int error, const MapInfo& map, const std::string& object = {});

// Why it does not take an element; empty if unknown.
const char* update_advice(int error);

// Why the kernel would refuse the name of a map or program; empty if it would not.
std::string name_advice(std::string_view name);

// How a map differs from the wanted one; empty if it does not.
std::string difference(const MapInfo& wanted, const MapInfo& found);

}  // namespace netkit_bpf
