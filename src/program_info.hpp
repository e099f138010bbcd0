// SPDX-License-Identifier: MIT
// What the kernel tells of a loaded program.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "handle.hpp"

namespace netkit_bpf {

struct ProgramInfo {
  uint32_t id = 0;
  uint32_t type = 0;  // enum bpf_prog_type
  std::string name;   // at most 15 bytes, as the kernel keeps it
};

namespace program {

ProgramInfo info(int fd);

// A descriptor of the program with this id. Needs CAP_SYS_ADMIN; throws ENOENT where there is none.
Fd open(uint32_t id);

// Its name; empty where it is gone or this process may not look.
std::optional<std::string> name_of(uint32_t id);

// "program 'drop' (id 7)", or "program 7" where the name cannot be had.
std::string describe(uint32_t id);

}  // namespace program
}  // namespace netkit_bpf
