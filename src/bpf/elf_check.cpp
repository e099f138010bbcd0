// SPDX-License-Identifier: MIT
#include "bpf/elf_check.hpp"

#include <elf.h>

#include <bit>
#include <cerrno>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.hpp"
#include "bpf/btf_check.hpp"

namespace netkit_bpf {

namespace {

constexpr uint16_t machine_bpf = 247;  // EM_BPF
constexpr uint64_t instruction_size = 8;

class Check {
 public:
  Check(Bytes image, const std::string& name) : image_(image), name_(name) {}

  std::vector<DataSymbol> run() {
    check_header();
    read_sections();
    check_symbols();
    for (const Section& section : sections_) {
      if (section.header.sh_type == SHT_REL) check_relocations(section);
      if (is_code(section) && section.header.sh_size % instruction_size != 0)
        fail("section " + section.name + " is not made of whole instructions");
    }
    check_types();
    return std::move(variables_);
  }

 private:
  struct Section {
    Elf64_Shdr header;
    std::string name;
    Bytes data;  // empty for a section without data in the file
  };

  [[noreturn]] void fail(const std::string& what) const { throw Error(ENOEXEC, "open BPF object " + name_, what); }

  void check_header() {
    const auto header = read_at<Elf64_Ehdr>(image_, 0);
    if (!header || std::string_view(reinterpret_cast<const char*>(&header->e_ident[0]), SELFMAG) != ELFMAG)
      fail("it is not an ELF file");
    header_ = *header;
    constexpr uint8_t own_order = std::endian::native == std::endian::little ? ELFDATA2LSB : ELFDATA2MSB;
    if (header_.e_ident[EI_CLASS] != ELFCLASS64) fail("it is not a 64-bit ELF file: compile with clang -target bpf");
    if (header_.e_ident[EI_DATA] != own_order)
      fail("it was compiled for the other byte order: compile with clang -target bpf on this machine");
    if (header_.e_machine != machine_bpf && header_.e_machine != EM_NONE)
      fail("it was not compiled for BPF but for machine " + std::to_string(header_.e_machine) +
           ": compile with clang -target bpf");
    if (header_.e_type != ET_REL) fail("it is not an object file: compile with clang -c");
  }

  void read_sections() {
    const uint64_t size = uint64_t{header_.e_shnum} * sizeof(Elf64_Shdr);
    if (header_.e_shnum == 0 || header_.e_shentsize != sizeof(Elf64_Shdr) ||
        !fits(header_.e_shoff, size, image_.size()))
      fail("its section headers lie outside of the file: is it cut short?");
    for (uint64_t i = 0; i < header_.e_shnum; ++i) {
      const auto header = copy_at<Elf64_Shdr>(image_, header_.e_shoff + i * sizeof(Elf64_Shdr));
      Section section{header, {}, {}};
      if (i > 0 && header.sh_type != SHT_NOBITS && header.sh_type != SHT_NULL) {
        if (!fits(header.sh_offset, header.sh_size, image_.size()))
          fail("section " + std::to_string(i) + " lies outside of the file: is it cut short?");
        section.data = image_.subspan(header.sh_offset, header.sh_size);
      }
      sections_.push_back(section);
    }
    const Section* names = section(header_.e_shstrndx, SHT_STRTAB);
    if (names == nullptr) fail("it has no section names");
    for (Section& section : sections_) {
      const auto name = text_at(names->data, section.header.sh_name);
      if (!name) fail("the name of a section is damaged");
      section.name = *name;
    }
  }

  // The section with this number, if it has this type.
  [[nodiscard]] const Section* section(uint64_t index, uint32_t type) const {
    if (index == 0 || index >= sections_.size() || sections_[index].header.sh_type != type) return nullptr;
    return &sections_[index];
  }

  [[nodiscard]] static bool is_code(const Section& section) {
    return section.header.sh_type == SHT_PROGBITS && (section.header.sh_flags & SHF_EXECINSTR) != 0;
  }

  void check_symbols() {
    const Section* table = nullptr;
    for (const Section& section : sections_) {
      if (section.header.sh_type != SHT_SYMTAB) continue;
      if (table != nullptr) fail("it has two symbol tables");
      table = &section;
    }
    if (table == nullptr) fail("it has no symbol table: was it stripped?");
    const Section* names = section(table->header.sh_link, SHT_STRTAB);
    if (names == nullptr || table->header.sh_entsize != sizeof(Elf64_Sym) ||
        table->data.size() % sizeof(Elf64_Sym) != 0)
      fail("its symbol table is damaged");
    symbols_ = table->data.size() / sizeof(Elf64_Sym);
    for (uint64_t i = 0; i < symbols_; ++i) {
      const auto symbol = copy_at<Elf64_Sym>(table->data, i * sizeof(Elf64_Sym));
      const auto name = text_at(names->data, symbol.st_name);
      if (!name) fail("the name of a symbol is damaged");
      // Source files may have any name; programs and variables are looked up by name.
      const auto type = ELF64_ST_TYPE(symbol.st_info);
      if ((type == STT_FUNC || type == STT_OBJECT) && !is_utf8(*name)) fail("the name of a symbol is not UTF-8");
      const uint16_t in = symbol.st_shndx;
      if (in == SHN_UNDEF || in == SHN_ABS || in == SHN_COMMON) continue;
      if (in >= sections_.size() || !fits(symbol.st_value, symbol.st_size, sections_[in].header.sh_size))
        fail("symbol " + std::to_string(i) + " does not lie in a section");
      if (type == STT_OBJECT) variables_.push_back({std::string(*name), sections_[in].name, symbol.st_value});
    }
  }

  void check_relocations(const Section& section) const {
    const Elf64_Shdr& header = section.header;
    const bool is_whole = header.sh_entsize == sizeof(Elf64_Rel) && section.data.size() % sizeof(Elf64_Rel) == 0;
    if (!is_whole || header.sh_info == 0 || header.sh_info >= sections_.size() ||
        this->section(header.sh_link, SHT_SYMTAB) == nullptr)
      fail("the relocations in section " + section.name + " are damaged");
    const uint64_t target = sections_[header.sh_info].header.sh_size;
    for (uint64_t at = 0; at < section.data.size(); at += sizeof(Elf64_Rel)) {
      const auto relocation = copy_at<Elf64_Rel>(section.data, at);
      if (ELF64_R_SYM(relocation.r_info) >= symbols_ || !fits(relocation.r_offset, 4, target))
        fail("a relocation in section " + section.name + " refers to something that is missing");
    }
  }

  // The only section with this name; null if there is none.
  [[nodiscard]] const Section* only(std::string_view name) const {
    const Section* found = nullptr;
    for (const Section& section : sections_) {
      if (section.name != name) continue;
      if (found != nullptr) fail("it has two sections " + section.name);
      found = &section;
    }
    return found;
  }

  void check_types() const {
    const Section* btf = only(".BTF");
    const Section* ext = only(".BTF.ext");
    if (btf != nullptr) {
      if (const std::string wrong = check_btf(btf->data); !wrong.empty()) fail("its BTF: " + wrong);
    }
    if (ext != nullptr) {
      if (btf == nullptr) fail("it has a section .BTF.ext but no section .BTF");
      if (const std::string wrong = check_btf_ext(ext->data, btf->data); !wrong.empty()) fail("its BTF: " + wrong);
    }
  }

  Bytes image_;
  const std::string& name_;
  Elf64_Ehdr header_{};
  std::vector<Section> sections_;
  uint64_t symbols_ = 0;
  std::vector<DataSymbol> variables_;
};

}  // namespace

std::vector<DataSymbol> check_object(Bytes image, const std::string& name) { return Check(image, name).run(); }

}  // namespace netkit_bpf
