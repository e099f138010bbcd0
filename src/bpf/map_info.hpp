// SPDX-License-Identifier: MIT
// What a map is like: struct bpf_map_info, and what an object file says of one.
#pragma once

#include <cstdint>
#include <string>

namespace netkit_bpf {

struct MapInfo {
  uint32_t id = 0;
  uint32_t type = 0;  // enum bpf_map_type
  uint32_t key_size = 0;
  uint32_t value_size = 0;
  uint32_t max_entries = 0;
  uint32_t flags = 0;
  std::string name;         // cut at 15 bytes by the kernel
  uint32_t btf = 0;         // the number of its types in the kernel; 0: it has none
  uint32_t key_type = 0;    // among these
  uint32_t value_type = 0;  // among these
};

// What an object file says of a map.
struct MapSpec {
  std::string name;
  MapInfo info;          // no id and no types of the kernel's; key_type and value_type are among the object's
  std::string pin_path;  // where it is pinned by its name; empty if it is not
  bool autocreate = true;
};

}  // namespace netkit_bpf
