// SPDX-License-Identifier: MIT
// A program that the kernel holds.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fd.hpp"

namespace netkit_bpf {

struct TestRun {
  uint32_t retval = 0;
  uint32_t duration_ns = 0;      // of one run, the mean of all
  std::vector<uint8_t> data;     // the packet afterwards
  std::vector<uint8_t> context;  // the context afterwards; empty where none was given
};

struct ProgramInfo {
  uint32_t id = 0;
  uint32_t type = 0;             // enum bpf_prog_type
  std::array<uint8_t, 8> tag{};  // a hash of the instructions
  std::string name;              // cut at 15 bytes by the kernel
};

// Any thread may use it.
class Program {
 public:
  // `name` is for messages.
  Program(Fd fd, std::string name);

  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] ProgramInfo info() const;

  void pin(const std::string& path) const;

  // The same program by a descriptor of its own.
  [[nodiscard]] Program duplicate() const;

  // Runs the program on a packet with BPF_PROG_TEST_RUN. `context` is what the program gets as context, usually struct
  // __sk_buff; empty for none.
  [[nodiscard]] TestRun test_run(std::span<const uint8_t> packet, uint32_t repeat,
                                 std::span<const uint8_t> context = {}) const;

 private:
  Fd fd_;
  std::string name_;
};

namespace program {

// The program with this id. Needs CAP_SYS_ADMIN; throws ENOENT where there is none.
Program open(uint32_t id);

// The program that is pinned at the path.
Program open_pinned(const std::string& path);

// Its name; empty if it is gone or this process has no access.
std::optional<std::string> name_of(uint32_t id);

// "program 'drop' (id 7)", or "program 7" if the name is unknown.
std::string describe(uint32_t id);

}  // namespace program
}  // namespace netkit_bpf
