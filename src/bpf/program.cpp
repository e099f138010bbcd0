// SPDX-License-Identifier: MIT
#include "bpf/program.hpp"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.hpp"
#include "base/privilege.hpp"
#include "bpf/pin.hpp"

namespace netkit_bpf {

namespace {

constexpr int enotsupp = 524;               // the kernel's own, which has no name here
constexpr size_t largest_packet = 1 << 16;  // to which a program can make it grow
constexpr size_t test_run_slack = 512;

}  // namespace

Program::Program(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}

ProgramInfo Program::info() const {
  bpf_prog_info info{};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd_.get(), &info, &size) != 0) throw Error(errno, "query program '" + name_ + "'");
  ProgramInfo found;
  found.id = info.id;
  found.type = info.type;
  std::memcpy(found.tag.data(), &info.tag[0], found.tag.size());
  found.name = &info.name[0];
  return found;
}

void Program::pin(const std::string& path) const { pin::create(fd_.get(), path, "program '" + name_ + "'"); }

Program Program::duplicate() const { return {netkit_bpf::duplicate(fd_.get()), name_}; }

TestRun Program::test_run(std::span<const uint8_t> packet, uint32_t repeat, std::span<const uint8_t> context) const {
  TestRun run;
  run.context.resize(context.size());
  const size_t room = std::max(packet.size(), largest_packet) + test_run_slack;
  const auto after = std::make_unique_for_overwrite<uint8_t[]>(room);
  LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_out = after.get(),
              .data_size_in = static_cast<uint32_t>(packet.size()), .data_size_out = static_cast<uint32_t>(room),
              .repeat = static_cast<int>(repeat));
  if (!context.empty()) {  // a pointer to nothing is refused
    options.ctx_in = context.data();
    options.ctx_out = run.context.data();
    options.ctx_size_in = options.ctx_size_out = static_cast<uint32_t>(context.size());
  }
  if (const int error = -bpf_prog_test_run_opts(fd_.get(), &options); error != 0) {
    const std::string what = "run program '" + name_ + "' on a packet of " + std::to_string(packet.size()) + " bytes";
    if (error == enotsupp) throw Error(EOPNOTSUPP, what, "the kernel has no test run for this type of program");
    throw Error(error, what, error == EINTR ? "interrupted by a signal" : "");
  }
  run.retval = options.retval;
  run.duration_ns = options.duration;
  run.data.assign(after.get(), after.get() + options.data_size_out);
  return run;
}

namespace program {

namespace {

// By the name that the kernel has; `place` is where it was found, for messages.
Program named(Fd fd, const std::string& place) {
  const Program found(duplicate(fd.get()), place);
  return {std::move(fd), found.info().name};
}

}  // namespace

Program open(uint32_t id) {
  Fd fd(bpf_prog_get_fd_by_id(id));
  if (!fd) {
    const int error = errno;
    throw Error(error, "open program " + std::to_string(id), needs_sys_admin(error));
  }
  return named(std::move(fd), std::to_string(id));
}

Program open_pinned(const std::string& path) { return named(pin::open(path, "program"), path); }

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
