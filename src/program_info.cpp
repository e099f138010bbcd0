// SPDX-License-Identifier: MIT
#include "program_info.hpp"

#include <bpf/bpf.h>

#include <cerrno>

#include "error.hpp"

namespace netkit_bpf::program {

ProgramInfo info(int fd) {
  bpf_prog_info found{};
  uint32_t size = sizeof(found);
  if (bpf_obj_get_info_by_fd(fd, &found, &size) != 0) throw Error(errno, "read what the kernel knows of a program");
  return {found.id, found.type, found.name};
}

Fd open(uint32_t id) {
  Fd fd(bpf_prog_get_fd_by_id(id));
  if (!fd) {
    const int error = errno;
    throw Error(error, "open program " + std::to_string(id), error == EPERM ? "needs CAP_SYS_ADMIN" : "");
  }
  return fd;
}

std::optional<std::string> name_of(uint32_t id) {
  try {
    return info(open(id).get()).name;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string describe(uint32_t id) {
  const auto name = name_of(id);
  return name ? "program '" + *name + "' (id " + std::to_string(id) + ")" : "program " + std::to_string(id);
}

}  // namespace netkit_bpf::program
