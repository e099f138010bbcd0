// SPDX-License-Identifier: MIT
// Why the kernel did not make a map.
#pragma once

#include <string>
#include <string_view>

#include "bpf/map_info.hpp"

namespace netkit_bpf {

// Throws Error with what to do about it. `map` is what was asked for; `object` whose it is, if it is one's.
[[noreturn]] void throw_map_error(int error, const MapInfo& map, const std::string& object = {});

// What is wrong with the name of a map or program for the kernel; empty if nothing is.
std::string name_advice(std::string_view name);

// In what a map differs from the one that is wanted; empty where it does not.
std::string difference(const MapInfo& wanted, const MapInfo& found);

}  // namespace netkit_bpf
