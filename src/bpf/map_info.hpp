// SPDX-License-Identifier: MIT
// The properties of a map: struct bpf_map_info, and the definition in an object file.
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

// The definition of a map in an object file.
struct MapSpec {
  std::string name;
  MapInfo info;          // without id and btf; key_type and value_type are numbers of types in the object
  std::string pin_path;  // where it is pinned by its name; empty if it is not
  bool autocreate = true;
};

}  // namespace netkit_bpf
