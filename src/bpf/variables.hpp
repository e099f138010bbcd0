// SPDX-License-Identifier: MIT
// The global variables of a BPF object: sections .rodata, .data and .bss.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/mapping.hpp"
#include "bpf/elf_check.hpp"

namespace netkit_bpf {

struct Variable {
  std::string name;
  std::string section;
  uint32_t type = 0;    // its number among the object's types
  uint32_t offset = 0;  // in the section
  uint32_t size = 0;
  bool is_constant = false;  // fixed by load
};

// The variables that the object's BTF describes. For one thread at a time.
class Variables {
 public:
  // The object belongs to the caller and outlives this. A variable lies where its symbol says, not where BTF does.
  Variables(const bpf_object* object, const std::vector<DataSymbol>& symbols);

  [[nodiscard]] const std::vector<Variable>& all() const noexcept { return all_; }
  // The first of this name. Throws Error (ENOENT).
  [[nodiscard]] size_t index(const std::string& name) const;

  // After load the program's own memory is read and written: the program sees new values at once, each aligned number
  // of 1, 2, 4 or 8 bytes as a whole, and neighbouring variables are not touched. Throws std::invalid_argument if the
  // size is wrong or load failed. Writing throws Error (EOPNOTSUPP) if the section cannot be mapped: the kernel would
  // replace all of it, including what the program counts in it meanwhile.
  [[nodiscard]] std::vector<uint8_t> read(size_t index) const;
  void write(size_t index, Bytes value);

  // To be called once the object is loaded: maps the sections.
  void map_memory();
  // To be called if loading failed: libbpf frees the memory.
  void abandon() noexcept { state_ = State::abandoned; }

 private:
  struct Section {
    std::string name;
    bpf_map* map;
    size_t size;
    bool is_constant;
    Mapping mapping;  // none before load, or if the map cannot be mapped
  };
  enum class State { open, loaded, abandoned };

  void add_section(const btf* types, bpf_map* map, std::string name, size_t size);
  // If there is such a section, and room in it.
  void add(const bpf_object* object, Variable variable);
  [[nodiscard]] const Section& section_of(const Variable& variable) const;
  // Its values; null if the map cannot be mapped.
  [[nodiscard]] uint8_t* memory(const Section& section) const;

  std::vector<Section> sections_;
  std::vector<Variable> all_;
  State state_ = State::open;
};

}  // namespace netkit_bpf
