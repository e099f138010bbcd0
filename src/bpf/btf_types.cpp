// SPDX-License-Identifier: MIT
#include "bpf/btf_types.hpp"

#include <cerrno>

#include "base/error.hpp"
#include "base/libbpf_log.hpp"

namespace netkit_bpf {

namespace {

struct Enum64 {  // struct btf_enum64, which older headers lack
  uint32_t name_off, val_lo32, val_hi32;
};

void add_enumerators(BtfType& type, const btf* types, const btf_type* raw) {
  for (uint16_t i = 0; i < btf_vlen(raw); ++i) {
    const struct btf_enum& entry = btf_enum(raw)[i];
    const int64_t value = btf_kflag(raw) ? int64_t{entry.val} : int64_t{static_cast<uint32_t>(entry.val)};
    type.members.push_back({btf__str_by_offset(types, entry.name_off), 0, 0, 0, value});
  }
}

void add_wide_enumerators(BtfType& type, const btf* types, const btf_type* raw) {
  const auto* entries = reinterpret_cast<const Enum64*>(raw + 1);
  for (uint16_t i = 0; i < btf_vlen(raw); ++i) {
    const uint64_t value = (uint64_t{entries[i].val_hi32} << 32) | entries[i].val_lo32;
    type.members.push_back({btf__str_by_offset(types, entries[i].name_off), 0, 0, 0, static_cast<int64_t>(value)});
  }
}

void add_members(BtfType& type, const btf* types, const btf_type* raw) {
  for (uint16_t i = 0; i < btf_vlen(raw); ++i) {
    const btf_member& member = btf_members(raw)[i];
    type.members.push_back({btf__str_by_offset(types, member.name_off), member.type, btf_member_bit_offset(raw, i),
                            btf_member_bitfield_size(raw, i), 0});
  }
}

}  // namespace

BtfTypes BtfTypes::from_kernel(uint32_t id) {
  const LibbpfLog log;
  btf* types = btf__load_from_kernel_by_id(id);
  if (types == nullptr) throw Error(errno, "read the types of BTF object " + std::to_string(id));
  return BtfTypes({types, btf__free});
}

BtfType BtfTypes::get(uint32_t id) const {
  const btf_type* raw = btf__type_by_id(types_.get(), id);
  if (raw == nullptr) throw Error(ENOENT, "find type " + std::to_string(id));
  BtfType type;
  type.kind = btf_kind(raw);
  type.name = btf__str_by_offset(types_.get(), raw->name_off);
  switch (type.kind) {
    case BTF_KIND_INT:
      type.size = raw->size;
      type.encoding = btf_int_encoding(raw);
      type.bits = btf_int_bits(raw);
      type.bit_offset = btf_int_offset(raw);
      break;
    case BTF_KIND_FLOAT:
      type.size = raw->size;
      break;
    case BTF_KIND_ENUM:
      type.size = raw->size;
      type.encoding = btf_kflag(raw) ? 1 : 0;
      add_enumerators(type, types_.get(), raw);
      break;
    case BTF_KIND_ENUM64:
      type.size = raw->size;
      type.encoding = btf_kflag(raw) ? 1 : 0;
      add_wide_enumerators(type, types_.get(), raw);
      break;
    case BTF_KIND_ARRAY:
      type.type = btf_array(raw)->type;
      type.size = btf_array(raw)->nelems;
      break;
    case BTF_KIND_STRUCT:
    case BTF_KIND_UNION:
      type.size = raw->size;
      add_members(type, types_.get(), raw);
      break;
    case BTF_KIND_UNKN:
    case BTF_KIND_FWD:
    case BTF_KIND_FUNC_PROTO:
    case BTF_KIND_DATASEC:
      break;
    default:
      type.type = raw->type;
  }
  return type;
}

uint32_t BtfTypes::find(const std::string& name, uint32_t kind) const {
  const int id = btf__find_by_name_kind(types_.get(), name.c_str(), kind);
  return id > 0 ? static_cast<uint32_t>(id) : 0;
}

}  // namespace netkit_bpf
