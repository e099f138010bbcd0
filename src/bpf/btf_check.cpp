// SPDX-License-Identifier: MIT
#include "bpf/btf_check.hpp"

#include <bpf/btf.h>

#include <algorithm>
#include <array>
#include <vector>

namespace netkit_bpf {

namespace {

// How deep types may be nested, so that following them takes a bounded stack. The kernel allows 32 in the worst order
// (MAX_RESOLVE_DEPTH, kernel/bpf/btf.c), and libbpf loads a program even if the kernel refuses its types.
constexpr int deepest = 256;
constexpr uint64_t largest_type = UINT32_MAX;
constexpr uint16_t btf_magic = 0xeb9f;

// struct btf_header as far as it is needed. Linux 7.2's headers add eight bytes to it, which compilers may or may not
// write.
struct Header {
  uint16_t magic;
  uint8_t version, flags;
  uint32_t hdr_len, type_off, type_len, str_off, str_len;
};

// libbpf has functions of these names.
using Enum32 = struct btf_enum;
using Array = struct btf_array;
struct Enum64 {  // struct btf_enum64, which older headers lack
  uint32_t name_off, val_lo32, val_hi32;
};

std::string at_type(uint64_t id, const char* what) { return "type " + std::to_string(id) + " " + what; }

class Types {
 public:
  explicit Types(Bytes btf) : btf_(btf) {}

  std::string check() {
    if (const std::string_view wrong = read_header(); !wrong.empty()) return std::string(wrong);
    if (std::string wrong = read_types(); !wrong.empty()) return wrong;
    sizes_.assign(types_.size(), unknown);
    for (uint64_t id = 1; id < types_.size(); ++id) {
      if (std::string wrong = check_type(id); !wrong.empty()) return at_type(id, wrong.c_str());
    }
    for (uint64_t id = 1; id < types_.size(); ++id) {
      if (size_of(id, 0) == endless) return at_type(id, "contains itself, or is nested too deeply, or is too large");
    }
    for (uint64_t id = 1; id < types_.size(); ++id) {
      if (!members_fit(id)) return at_type(id, "has a member outside of it");
    }
    return {};
  }

  [[nodiscard]] bool has_text(uint32_t offset) const { return text_at(texts_, offset).has_value(); }
  // For names that Python looks up: variables and functions.
  [[nodiscard]] bool has_utf8(uint32_t offset) const {
    const auto text = text_at(texts_, offset);
    return text && is_utf8(*text);
  }
  [[nodiscard]] bool has_type(uint32_t id) const { return id < types_.size(); }
  [[nodiscard]] bool is(uint32_t id, uint32_t kind) const { return has_type(id) && this->kind(id) == kind; }

 private:
  static constexpr uint64_t unknown = UINT64_MAX;
  static constexpr uint64_t endless = UINT64_MAX - 1;

  std::string_view read_header() {
    const auto header = read_at<Header>(btf_, 0);
    if (!header || header->magic != btf_magic || header->version != 1) return "it has no header";
    if (header->hdr_len < sizeof(Header) || header->hdr_len > btf_.size()) return "its header is damaged";
    const Bytes rest = btf_.subspan(header->hdr_len);
    if (!fits(header->type_off, header->type_len, rest.size()) || !fits(header->str_off, header->str_len, rest.size()))
      return "its parts lie outside of it";
    if (header->type_off % 4 != 0 || header->type_len % 4 != 0 || header->type_off + header->type_len > header->str_off)
      return "its parts overlap";
    records_ = rest.subspan(header->type_off, header->type_len);
    texts_ = rest.subspan(header->str_off, header->str_len);
    if (texts_.empty() || texts_.front() != 0 || texts_.back() != 0) return "its names are damaged";
    return {};
  }

  // The length of what follows a record; nothing for an unknown kind.
  static std::optional<uint64_t> rest_of(const btf_type& type) {
    const uint64_t count = btf_vlen(&type);
    switch (btf_kind(&type)) {
      case BTF_KIND_FWD:
      case BTF_KIND_CONST:
      case BTF_KIND_VOLATILE:
      case BTF_KIND_RESTRICT:
      case BTF_KIND_PTR:
      case BTF_KIND_TYPEDEF:
      case BTF_KIND_FUNC:
      case BTF_KIND_FLOAT:
      case BTF_KIND_TYPE_TAG:
        return 0;
      case BTF_KIND_INT:
      case BTF_KIND_VAR:
      case BTF_KIND_DECL_TAG:
        return 4;
      case BTF_KIND_ENUM:
        return count * sizeof(Enum32);
      case BTF_KIND_ENUM64:
        return count * sizeof(Enum64);
      case BTF_KIND_ARRAY:
        return sizeof(Array);
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION:
        return count * sizeof(btf_member);
      case BTF_KIND_FUNC_PROTO:
        return count * sizeof(btf_param);
      case BTF_KIND_DATASEC:
        return count * sizeof(btf_var_secinfo);
      default:
        return std::nullopt;
    }
  }

  std::string read_types() {
    types_.push_back({});  // type 0 is void
    for (uint64_t at = 0; at < records_.size();) {
      const auto type = read_at<btf_type>(records_, at);
      if (!type) return "its last type is cut short";
      const auto rest = rest_of(*type);
      if (!rest) return at_type(types_.size(), "is of an unknown kind");
      if (!fits(at + sizeof(btf_type), *rest, records_.size())) return "its last type is cut short";
      types_.push_back({*type, records_.subspan(at + sizeof(btf_type), *rest)});
      at += sizeof(btf_type) + *rest;
    }
    return {};
  }

  [[nodiscard]] uint32_t kind(uint64_t id) const { return btf_kind(&types_[id].head); }

  // The entries that follow a type, one by one.
  template <typename T, typename F>
  [[nodiscard]] bool each(uint64_t id, F accept) const {
    const Bytes rest = types_[id].rest;
    for (uint64_t at = 0; at + sizeof(T) <= rest.size(); at += sizeof(T)) {
      if (!accept(copy_at<T>(rest, at))) return false;
    }
    return true;
  }

  // What is wrong with the names and types that this one refers to; empty if nothing is.
  [[nodiscard]] std::string check_type(uint64_t id) const {
    const btf_type& type = types_[id].head;
    const bool is_looked_up = btf_kind(&type) == BTF_KIND_VAR || btf_kind(&type) == BTF_KIND_FUNC;
    if (!(is_looked_up ? has_utf8(type.name_off) : has_text(type.name_off))) return "has a damaged name";
    const auto named = [&](const auto& entry) { return has_text(entry.name_off); };
    const auto named_and_typed = [&](const auto& entry) { return has_text(entry.name_off) && has_type(entry.type); };
    bool is_right = true;
    switch (btf_kind(&type)) {
      case BTF_KIND_INT:
        is_right = is_integer(type, copy_at<uint32_t>(types_[id].rest, 0));
        break;
      case BTF_KIND_FLOAT:
        is_right = std::ranges::count(std::array{2, 4, 8, 12, 16}, type.size) == 1;
        break;
      case BTF_KIND_ENUM:
        is_right = is_size_of_enumeration(type.size) && each<Enum32>(id, named);
        break;
      case BTF_KIND_ENUM64:
        is_right = is_size_of_enumeration(type.size) && each<Enum64>(id, named);
        break;
      case BTF_KIND_ARRAY:
        is_right =
            each<Array>(id, [&](const Array& array) { return has_type(array.type) && has_type(array.index_type); });
        break;
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION:
        is_right = each<btf_member>(id, named_and_typed);
        break;
      case BTF_KIND_FUNC_PROTO:
        is_right = has_type(type.type) && each<btf_param>(id, named_and_typed);
        break;
      case BTF_KIND_FUNC:
        is_right = is(type.type, BTF_KIND_FUNC_PROTO);
        break;
      case BTF_KIND_DATASEC:
        is_right = each<btf_var_secinfo>(id, [&](const btf_var_secinfo& entry) {
          // An external function that the program calls is in a section too (.ksyms).
          return is(entry.type, BTF_KIND_VAR) || is(entry.type, BTF_KIND_FUNC);
        });
        break;
      case BTF_KIND_FWD:
        break;
      default:
        is_right = has_type(type.type);
    }
    return is_right ? "" : "refers to something that is missing";
  }

  static bool is_power_of_two_up_to_8(uint32_t size) { return size == 1 || size == 2 || size == 4 || size == 8; }

  // An enumeration that is only declared, enum color;, has size 0.
  static bool is_size_of_enumeration(uint32_t size) { return size == 0 || is_power_of_two_up_to_8(size); }

  static bool is_integer(const btf_type& type, uint32_t info) {
    const uint32_t bits = BTF_INT_BITS(info);
    const bool is_sized = is_power_of_two_up_to_8(type.size) || type.size == 16;
    return is_sized && bits > 0 && BTF_INT_OFFSET(info) + bits <= type.size * 8;
  }

  // Bytes of a value of the type; 0 if it has no values. The result does not depend on the path to the type.
  uint64_t size_of(uint64_t id, int depth) {
    if (depth > deepest) return endless;
    if (id == 0) return 0;
    if (sizes_[id] != unknown) return sizes_[id];
    sizes_[id] = endless;  // coming back here during the search means a cycle
    const uint64_t size = find_size(id, depth);
    sizes_[id] = size > largest_type ? endless : size;
    return sizes_[id];
  }

  uint64_t find_size(uint64_t id, int depth) {
    const btf_type& type = types_[id].head;
    switch (btf_kind(&type)) {
      case BTF_KIND_PTR:
        return sizeof(uint64_t);
      case BTF_KIND_INT:
      case BTF_KIND_FLOAT:
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64:
      case BTF_KIND_DATASEC:
        return type.size;
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION: {
        const auto ends = [&](const btf_member& member) { return size_of(member.type, depth + 1) != endless; };
        return each<btf_member>(id, ends) ? type.size : endless;
      }
      case BTF_KIND_ARRAY: {
        const auto array = copy_at<Array>(types_[id].rest, 0);
        const uint64_t element = size_of(array.type, depth + 1);
        // Both are below 2^32 here, so the product is a number.
        return element == endless ? endless : element * array.nelems;
      }
      case BTF_KIND_CONST:
      case BTF_KIND_VOLATILE:
      case BTF_KIND_RESTRICT:
      case BTF_KIND_TYPEDEF:
      case BTF_KIND_TYPE_TAG:
      case BTF_KIND_VAR:
        return size_of(type.type, depth + 1);
      default:
        return 0;  // functions, declarations without a definition
    }
  }

  [[nodiscard]] bool members_fit(uint64_t id) {
    const btf_type& type = types_[id].head;
    const bool has_bitfields = btf_kflag(&type);
    if (kind(id) == BTF_KIND_DATASEC) {
      // Filled in later by libbpf: the section's size and all offsets are 0.
      return each<btf_var_secinfo>(id, [&](const btf_var_secinfo& entry) {
        return type.size == 0 || fits(entry.offset, entry.size, type.size);
      });
    }
    if (kind(id) != BTF_KIND_STRUCT && kind(id) != BTF_KIND_UNION) return true;
    return each<btf_member>(id, [&](const btf_member& member) {
      const uint64_t size = size_of(member.type, 0) * 8;
      const uint64_t bits = has_bitfields ? BTF_MEMBER_BITFIELD_SIZE(member.offset) : 0;
      const uint64_t offset = has_bitfields ? BTF_MEMBER_BIT_OFFSET(member.offset) : member.offset;
      return bits <= size && fits(offset, bits != 0 ? bits : size, uint64_t{type.size} * 8);
    });
  }

  struct Type {
    btf_type head;
    Bytes rest;
  };

  Bytes btf_;
  Bytes records_;
  Bytes texts_;
  std::vector<Type> types_;
  std::vector<uint64_t> sizes_;
};

// .BTF.ext has three kinds of records, each about one instruction, grouped by section.
struct InfoOfSection {
  uint32_t sec_name_off, num_info;
};
struct FuncInfo {
  uint32_t insn_off, type_id;
};
struct LineInfo {
  uint32_t insn_off, file_name_off, line_off, line_col;
};
struct CoreRelo {
  uint32_t insn_off, type_id, access_str_off, kind;
};

bool is_right(const Types& types, const FuncInfo& info) { return types.is(info.type_id, BTF_KIND_FUNC); }
bool is_right(const Types& types, const LineInfo& info) {
  return types.has_text(info.file_name_off) && types.has_text(info.line_off);
}
bool is_right(const Types& types, const CoreRelo& relo) {
  return types.has_type(relo.type_id) && types.has_text(relo.access_str_off);  // libbpf knows which kinds it knows
}

template <typename T>
bool check_records(const Types& types, Bytes part) {
  if (part.empty()) return true;
  const auto record_size = read_at<uint32_t>(part, 0);
  if (!record_size || *record_size < sizeof(T) || *record_size % 4 != 0 || *record_size > part.size()) return false;
  for (uint64_t at = sizeof(uint32_t); at < part.size();) {
    const auto found = read_at<InfoOfSection>(part, at);
    if (!found || found->num_info == 0 || !types.has_text(found->sec_name_off)) return false;
    at += sizeof(InfoOfSection);
    if (!fits(at, uint64_t{found->num_info} * *record_size, part.size())) return false;
    for (uint32_t i = 0; i < found->num_info; ++i, at += *record_size) {
      const T record = copy_at<T>(part, at);
      if (record.insn_off % 8 != 0 || !is_right(types, record)) return false;
    }
  }
  return true;
}

}  // namespace

std::string check_btf(Bytes btf) { return Types(btf).check(); }

std::string check_btf_ext(Bytes ext, Bytes btf) {
  struct ExtHeader {
    uint16_t magic;
    uint8_t version, flags;
    uint32_t hdr_len, func_info_off, func_info_len, line_info_off, line_info_len;
  };
  struct CoreHeader {
    uint32_t core_relo_off, core_relo_len;
  };
  Types types(btf);
  if (std::string wrong = types.check(); !wrong.empty()) return wrong;
  const auto header = read_at<ExtHeader>(ext, 0);
  if (!header || header->magic != btf_magic || header->version != 1 || header->hdr_len < sizeof(ExtHeader) ||
      header->hdr_len > ext.size())
    return ".BTF.ext has no header";
  const Bytes rest = ext.subspan(header->hdr_len);
  const auto part = [&](uint32_t offset, uint32_t size) -> std::optional<Bytes> {
    if (size == 0) return Bytes();
    if (offset % 4 != 0 || !fits(offset, size, rest.size())) return std::nullopt;
    return rest.subspan(offset, size);
  };
  const auto functions = part(header->func_info_off, header->func_info_len);
  const auto lines = part(header->line_info_off, header->line_info_len);
  std::optional<Bytes> relocations = Bytes();
  if (header->hdr_len >= sizeof(ExtHeader) + sizeof(CoreHeader)) {
    const auto core = copy_at<CoreHeader>(ext, sizeof(ExtHeader));
    relocations = part(core.core_relo_off, core.core_relo_len);
  }
  if (!functions || !lines || !relocations || !check_records<FuncInfo>(types, *functions) ||
      !check_records<LineInfo>(types, *lines) || !check_records<CoreRelo>(types, *relocations))
    return ".BTF.ext is damaged";
  return {};
}

}  // namespace netkit_bpf
