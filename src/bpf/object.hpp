// SPDX-License-Identifier: MIT
// A BPF object file: opened, configured, loaded.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bpf/btf_types.hpp"
#include "bpf/map.hpp"
#include "bpf/map_info.hpp"
#include "bpf/program.hpp"
#include "bpf/variables.hpp"

namespace netkit_bpf {

// The definition of a program in an object file.
struct ProgramSpec {
  std::string name;
  std::string section;  // "netkit/primary"
  uint32_t type = 0;    // enum bpf_prog_type
  bool autoload = true;
};

// Any thread may use it; the others wait while one loads it.
class Object {
 public:
  // Parses an ELF image. If it is not a valid BPF object, throws an Error that says why, with libbpf's message if there
  // is one. Maps that are pinned by name are pinned below `pin_root`.
  Object(std::span<const uint8_t> image, const std::string& name, const std::string& pin_root = {});

  [[nodiscard]] std::vector<ProgramSpec> programs() const;
  [[nodiscard]] const std::vector<MapSpec>& maps() const noexcept { return maps_; }
  [[nodiscard]] const std::vector<Variable>& variables() const noexcept { return variables_->all(); }
  [[nodiscard]] const Variable& variable(const std::string& name) const { return variables()[variable_index(name)]; }
  // See Variables.
  [[nodiscard]] size_t variable_index(const std::string& name) const { return variables_->index(name); }
  [[nodiscard]] std::vector<uint8_t> read_variable(size_t index) const;
  void write_variable(size_t index, Bytes value);
  // A copy, which outlives the object; nothing if it was compiled without -g.
  [[nodiscard]] std::optional<BtfTypes> types() const;

  // Before load.
  void set_max_entries(const std::string& map, uint32_t entries);
  void set_value_size(const std::string& map, uint32_t bytes);
  void reuse_map(const std::string& map, int fd);
  // Whether load() loads a program, or makes a map. For SEC("?…") the default is false.
  void set_autoload(const std::string& program, bool autoload);
  void set_autocreate(const std::string& map, bool autocreate);

  // Throws VerifierError, or Error with what the kernel refused. After a failure the object cannot be used.
  void load();
  [[nodiscard]] bool has_failed() const;

  // The messages of libbpf since the last call, from operations that succeeded. Usually empty.
  std::string take_messages();

  // After load. The results outlive the object. Throw std::invalid_argument if the program was not loaded, or the map
  // not made.
  [[nodiscard]] Program open_program(const std::string& name) const;
  [[nodiscard]] Map open_map(const std::string& name) const;

  // After load. The descriptors belong to the object; -1 if the program was not loaded, or the map not made.
  [[nodiscard]] int program(const std::string& name) const;
  [[nodiscard]] int map(const std::string& name) const;
  [[nodiscard]] TestRun test_run(const std::string& name, std::span<const uint8_t> packet, uint32_t repeat) const;

 private:
  [[nodiscard]] bpf_map* find_map(const std::string& name) const;
  [[nodiscard]] bpf_program* find_program(const std::string& name) const;
  [[nodiscard]] std::vector<MapSpec> describe_maps() const;
  void create_typed_rings();
  void check_descriptors() const;

  mutable std::mutex mutex_;  // guards what load() changes
  std::unique_ptr<bpf_object, decltype(&bpf_object__close)> object_;
  std::string name_;
  std::string messages_;
  bool has_failed_ = false;
  std::vector<MapSpec> maps_;
  std::unique_ptr<Variables> variables_;
};

}  // namespace netkit_bpf
