// SPDX-License-Identifier: MIT
// A BPF object file: opened, configured, loaded.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "program.hpp"

namespace netkit_bpf {

// What an object file says of a program.
struct ProgramSpec {
  std::string name;
  std::string section;  // "netkit/primary"
  uint32_t type = 0;    // enum bpf_prog_type
};

// Not for use from two threads at once.
class Object {
 public:
  // Parses an ELF image. Throws Error with libbpf's own words where it is none.
  Object(std::span<const uint8_t> image, const std::string& name);

  // Before load.
  void set_max_entries(const std::string& map, uint32_t entries);
  void reuse_map(const std::string& map, int fd);
  // The whole of a section of global variables: ".rodata" before load, ".data" or ".bss" at any time.
  [[nodiscard]] std::vector<uint8_t> section(const std::string& name) const;
  void set_section(const std::string& name, std::span<const uint8_t> value);
  // Where a global variable lies in its section, from BTF.
  struct Variable {
    std::string section;
    uint32_t offset;
    uint32_t size;
  };
  [[nodiscard]] Variable variable(const std::string& name) const;

  // Throws VerifierError, or Error with what the kernel refused.
  void load();

  // What libbpf had to say since the last call, of what succeeded. Empty as a rule.
  std::string take_messages();

  [[nodiscard]] std::vector<ProgramSpec> programs() const;
  [[nodiscard]] std::vector<std::string> maps() const;

  // After load. It outlives the object.
  [[nodiscard]] Program open_program(const std::string& name) const;

  // After load. The descriptors belong to the object.
  [[nodiscard]] int program(const std::string& name) const;
  [[nodiscard]] int map(const std::string& name) const;
  [[nodiscard]] TestRun test_run(const std::string& name, std::span<const uint8_t> packet, uint32_t repeat) const;

 private:
  [[nodiscard]] bpf_map* find_map(const std::string& name) const;
  [[nodiscard]] bpf_map* find_section(const std::string& name) const;

  std::unique_ptr<bpf_object, decltype(&bpf_object__close)> object_;
  std::string name_;
  std::string messages_;
  bool loaded_ = false;
};

}  // namespace netkit_bpf
