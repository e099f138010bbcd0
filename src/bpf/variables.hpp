// SPDX-License-Identifier: MIT
// The global variables of a BPF object: sections .rodata, .data and .bss.
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.hpp"

namespace netkit_bpf {

struct Variable {
  std::string name;
  std::string section;
  uint32_t type = 0;    // its number among the object's types
  uint32_t offset = 0;  // in the section
  uint32_t size = 0;
  bool is_constant = false;  // fixed by load
};

// Those that the object's BTF describes. Not for use from two threads at once.
class Variables {
 public:
  // The object belongs to the caller and outlives this.
  explicit Variables(const bpf_object* object);

  [[nodiscard]] const std::vector<Variable>& all() const noexcept { return all_; }
  // The first of this name. Throws Error (ENOENT).
  [[nodiscard]] size_t index(const std::string& name) const;

  // From load on the program's own memory is read and written: what is written is seen at once, a value of 1, 2,
  // 4 or 8 bytes as a whole, and its neighbours are left alone.
  // Throws std::invalid_argument where the size is another.
  [[nodiscard]] std::vector<uint8_t> read(size_t index) const;
  void write(size_t index, Bytes value);

  // The whole of a section: ".data".
  [[nodiscard]] std::vector<uint8_t> section(const std::string& name) const;
  void set_section(const std::string& name, Bytes value);

  // Once the object is loaded: takes hold of the maps.
  void map_memory();

 private:
  struct Unmap {
    size_t length;
    void operator()(uint8_t* start) const noexcept;
  };
  struct Section {
    std::string name;
    bpf_map* map;
    size_t size;
    bool is_constant;
    uint8_t* memory;  // null of a map that cannot be mapped
    std::unique_ptr<uint8_t, Unmap> mapping;
  };

  [[nodiscard]] const Section& find(const std::string& name) const;
  [[nodiscard]] static std::vector<uint8_t> read(const Section& section, size_t offset, size_t size);
  static void write(const Section& section, size_t offset, Bytes value);

  std::vector<Section> sections_;
  std::vector<Variable> all_;
  bool loaded_ = false;
};

}  // namespace netkit_bpf
