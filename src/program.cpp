// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <bpf/bpf.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "error.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t test_run_slack = 512;  // room for a program that grows the packet

}  // namespace

Program::Program(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

ProgramInfo Program::info() const {
  bpf_prog_info info{};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd_.get(), &info, &size) != 0) throw Error(errno, "read about program '" + name_ + "'");
  ProgramInfo found;
  found.id = info.id;
  found.type = info.type;
  std::memcpy(found.tag.data(), &info.tag[0], found.tag.size());
  found.name = &info.name[0];
  return found;
}

TestRun Program::test_run(std::span<const uint8_t> packet, uint32_t repeat, std::span<const uint8_t> context) const {
  TestRun run;
  run.data.resize(packet.size() + test_run_slack);
  run.context.resize(context.size());
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_out = run.data.data(),
              .data_size_in = static_cast<uint32_t>(packet.size()),
              .data_size_out = static_cast<uint32_t>(run.data.size()), .repeat = static_cast<int>(repeat));
  if (!context.empty()) {  // a pointer to nothing is refused
    options.ctx_in = context.data();
    options.ctx_out = run.context.data();
    options.ctx_size_in = options.ctx_size_out = static_cast<uint32_t>(context.size());
  }
  if (const int error = -bpf_prog_test_run_opts(fd_.get(), &options); error != 0)
    throw Error(error, "run program '" + name_ + "' on a packet of " + std::to_string(packet.size()) + " bytes");
  run.retval = options.retval;
  run.duration_ns = options.duration;
  run.data.resize(options.data_size_out);
  return run;
}

namespace program {

Program open(uint32_t id) {
  Fd fd(bpf_prog_get_fd_by_id(id));
  if (!fd) {
    const int error = errno;
    throw Error(error, "open program " + std::to_string(id), error == EPERM ? "needs CAP_SYS_ADMIN" : "");
  }
  const Program numbered(duplicate(fd.get()), std::to_string(id));
  return {std::move(fd), numbered.info().name};
}

std::optional<std::string> name_of(uint32_t id) {
  try {
    return open(id).name();
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::string describe(uint32_t id) {
  const auto name = name_of(id);
  return name ? "program '" + *name + "' (id " + std::to_string(id) + ")" : "program " + std::to_string(id);
}

}  // namespace program
}  // namespace netkit_bpf
