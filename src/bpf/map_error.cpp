// SPDX-License-Identifier: MIT
#include "bpf/map_error.hpp"

#include <bpf/libbpf.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string_view>

#include "base/error.hpp"
#include "base/kernel_release.hpp"
#include "base/privilege.hpp"

namespace netkit_bpf {

namespace {

constexpr int enotsupp = 524;  // the kernel's own, which has no name here

std::string type_name(uint32_t type) {
  const char* name = libbpf_bpf_map_type_str(static_cast<bpf_map_type>(type));
  return name == nullptr ? std::to_string(type) : name;
}

bool is_array(uint32_t type) {
  switch (type) {
    case BPF_MAP_TYPE_ARRAY:
    case BPF_MAP_TYPE_PERCPU_ARRAY:
    case BPF_MAP_TYPE_PROG_ARRAY:
    case BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case BPF_MAP_TYPE_CGROUP_ARRAY:
    case BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE_DEVMAP:
    case BPF_MAP_TYPE_SOCKMAP:
    case BPF_MAP_TYPE_CPUMAP:
    case BPF_MAP_TYPE_XSKMAP:
    case BPF_MAP_TYPE_REUSEPORT_SOCKARRAY:
      return true;
    default:
      return false;
  }
}

bool is_keyless(uint32_t type) {
  return type == BPF_MAP_TYPE_QUEUE || type == BPF_MAP_TYPE_STACK || type == BPF_MAP_TYPE_BLOOM_FILTER;
}

bool is_ring(uint32_t type) { return type == BPF_MAP_TYPE_RINGBUF || type == BPF_MAP_TYPE_USER_RINGBUF; }

bool is_of_maps(uint32_t type) { return type == BPF_MAP_TYPE_ARRAY_OF_MAPS || type == BPF_MAP_TYPE_HASH_OF_MAPS; }

bool is_local_storage(uint32_t type) {
  constexpr uint32_t cgrp_storage = 32;  // BPF_MAP_TYPE_CGRP_STORAGE, which older headers lack
  return type == BPF_MAP_TYPE_SK_STORAGE || type == BPF_MAP_TYPE_INODE_STORAGE || type == BPF_MAP_TYPE_TASK_STORAGE ||
         type == cgrp_storage;
}

// The first rule of its type that the definition breaks: the functions map_alloc_check of kernel/bpf/.
std::string broken_rule(const MapInfo& map) {
  constexpr uint32_t least_trie_key = 5;
  constexpr uint32_t largest_trie_key = 4 + 256;
  if (const std::string wrong = name_advice(map.name); !wrong.empty()) return wrong;
  const bool is_preallocated = (map.flags & BPF_F_NO_PREALLOC) == 0;
  if (map.type == BPF_MAP_TYPE_LPM_TRIE) {
    if (is_preallocated) return "a map of type lpm_trie needs the flag BPF_F_NO_PREALLOC";
    if (map.key_size < least_trie_key || map.key_size > largest_trie_key)
      return "the key of a map of type lpm_trie is a __u32, the bits of the prefix, and 1 to 256 bytes";
  }
  if (is_local_storage(map.type)) {
    if (is_preallocated || map.max_entries != 0) return "local storage needs BPF_F_NO_PREALLOC and max_entries 0";
    return {};
  }
  if (map.max_entries == 0) return "max_entries must be at least 1";
  if (is_ring(map.type)) {
    if (!std::has_single_bit(map.max_entries) || map.max_entries % static_cast<uint32_t>(::getpagesize()) != 0)
      return "max_entries of a ring buffer is its bytes: a power of two, and a multiple of the page size";
    if (map.key_size != 0 || map.value_size != 0) return "a ring buffer has no keys and values: leave their sizes out";
    return {};
  }
  if (is_array(map.type) && map.key_size != sizeof(uint32_t)) return "its keys are indices: key_size must be 4";
  if (is_keyless(map.type)) {
    if (map.key_size != 0) return "a map of type " + type_name(map.type) + " has no keys: leave key_size out";
  } else if (map.key_size == 0) {
    return "key_size must be at least 1";
  }
  if (map.value_size == 0) return "value_size must be at least 1";
  if (is_of_maps(map.type) && map.value_size != sizeof(uint32_t)) return "its values are maps: value_size must be 4";
  return {};
}

std::string definition_advice(const MapInfo& map) {
  if (std::string broken = broken_rule(map); !broken.empty()) return broken;
  const auto type = static_cast<bpf_map_type>(map.type);
  if (libbpf_probe_bpf_map_type(type, nullptr) == 0)
    return "Linux " + kernel_release() + " has no maps of type " + type_name(map.type);
  return "its sizes or flags are not possible for a map of type " + type_name(map.type);
}

std::string advice(int error, const MapInfo& map) {
  switch (error) {
    case EPERM:
      return needs_bpf(error);
    case ENOMEM:
    case E2BIG:
      return "it is too large: take a smaller max_entries";
    case EINVAL:
    case EOPNOTSUPP:
      return definition_advice(map);
    default:
      return shortage_advice(error);
  }
}

}  // namespace

void throw_map_error(int error, const MapInfo& map, const std::string& object) {
  const int known = error == enotsupp ? EOPNOTSUPP : error;
  throw Error(known, "create map '" + map.name + "'" + (object.empty() ? "" : " of BPF object " + object),
              advice(known, map));
}

std::string name_advice(std::string_view name) {
  // bpf_obj_name_cpy(), kernel/bpf/syscall.c; libbpf cuts what is longer.
  constexpr size_t longest = BPF_OBJ_NAME_LEN - 1;
  const bool is_right = std::ranges::all_of(name.substr(0, longest), [](char letter) {
    return (letter >= '0' && letter <= '9') || (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
           letter == '_' || letter == '.';
  });
  return is_right ? "" : "the kernel takes names of ASCII letters, digits, '_' and '.'";
}

std::string difference(const MapInfo& wanted, const MapInfo& found) {
  const auto tell = [](const char* what, const std::string& theirs, const std::string& own) {
    return std::string("its ") + what + " is " + theirs + ", not " + own;
  };
  const auto number = [&](const char* what, uint32_t theirs, uint32_t own) {
    return tell(what, std::to_string(theirs), std::to_string(own));
  };
  if (found.type != wanted.type) return tell("type", type_name(found.type), type_name(wanted.type));
  if (found.key_size != wanted.key_size) return number("key_size", found.key_size, wanted.key_size);
  if (found.value_size != wanted.value_size) return number("value_size", found.value_size, wanted.value_size);
  if (found.max_entries != wanted.max_entries) return number("max_entries", found.max_entries, wanted.max_entries);
  if (found.flags != wanted.flags) return number("flags", found.flags, wanted.flags);
  return {};
}

const char* update_advice(int error) {
  switch (error) {
    case E2BIG:
    case ENOSPC:
      return "the map is full, or the key is beyond its end";
    case EPERM:
      return "the map is read-only";
    case ENOMEM:
      return "no memory for another entry";
    default:
      return "";
  }
}

}  // namespace netkit_bpf
