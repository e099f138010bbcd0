// SPDX-License-Identifier: MIT
#include "bpf/load_error.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "base/error.hpp"
#include "base/kernel_release.hpp"
#include "base/privilege.hpp"
#include "bpf/map.hpp"
#include "bpf/map_error.hpp"
#include "bpf/pin.hpp"

namespace netkit_bpf {

namespace {

// The last name in quotes before a phrase: libbpf writes "libbpf: prog 'NAME': BPF program load failed: …".
std::string name_before(std::string_view log, std::string_view phrase) {
  const size_t found = log.find(phrase);
  if (found == std::string_view::npos) return {};
  const size_t end = log.rfind('\'', found);
  const size_t start = end == std::string_view::npos || end == 0 ? end : log.rfind('\'', end - 1);
  return start == std::string_view::npos ? std::string() : std::string(log.substr(start + 1, end - start - 1));
}

// The name in quotes after a phrase.
std::string name_after(std::string_view log, std::string_view phrase) {
  const size_t found = log.find(phrase);
  if (found == std::string_view::npos) return {};
  std::string_view text = log.substr(found + phrase.size());
  if (!text.starts_with('\'')) return {};
  text.remove_prefix(1);
  return std::string(text.substr(0, text.find('\'')));
}

// "struct sk_buff.nix" from "failed to resolve CO-RE relocation <byte_off> [7] struct sk_buff.nix (0:3 @ offset 8)".
std::string missing_in_kernel(std::string_view log) {
  constexpr std::string_view phrase = "failed to resolve CO-RE relocation ";
  const size_t found = log.find(phrase);
  if (found == std::string_view::npos) return {};
  std::string_view text = log.substr(found + phrase.size());
  text = text.substr(0, text.find('\n'));
  if (const size_t number = text.find("] "); number != std::string_view::npos) text.remove_prefix(number + 2);
  return std::string(text.substr(0, text.find(" (")));
}

std::string trimmed(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

// Explains the last lines of the log to readers who have not met them before.
std::string cause_of(std::string_view log) {
  if (const std::string missing = missing_in_kernel(log); !missing.empty())
    return missing + " is not in Linux " + kernel_release();
  constexpr std::array<std::pair<std::string_view, const char*>, 6> causes{{
      {"GPL-restricted function from non-GPL",
       R"(it calls a helper that only GPL programs may use: add char LICENSE[] SEC("license") = "GPL")"},
      {"invalid access to packet",
       "it reads the packet without a bounds check: compare with data_end first, if (data + bytes > data_end) return"},
      {"map_value_or_null", "it uses the result of a lookup without a check: compare the pointer with NULL first"},
      {"Unreleased reference", "it keeps a reference on one of its paths: submit, discard or release it on each"},
      {"back-edge", "it has a loop whose end the verifier does not see: bound it, or use bpf_loop()"},
      {"BPF program is too large",
       "the verifier has too many paths to follow: bpf_loop() and global functions reduce their number"},
  }};
  for (const auto& [phrase, cause] : causes) {
    if (log.find(phrase) != std::string_view::npos) return cause;
  }
  return {};
}

const MapSpec* find(std::span<const MapSpec> maps, const std::string& name) {
  const auto found = std::ranges::find(maps, name, &MapSpec::name);
  return found == maps.end() ? nullptr : &*found;
}

std::string difference_of_pinned(const MapSpec& map) {
  try {
    return difference(map.info, Map::open_pinned(map.pin_path).info());
  } catch (const std::exception&) {  // it is gone meanwhile, or is not a map
    return {};
  }
}

// For a map that is pinned by name: another map is pinned there, or pinning failed.
void throw_if_pin_failed(int error, std::string_view log, const MapSpec& map, const std::string& object) {
  const std::string operation = "load BPF object " + object + ": pin map '" + map.name + "' at " + map.pin_path;
  if (log.find("parameter mismatch") != std::string_view::npos) {
    const std::string differs = difference_of_pinned(map);
    throw Error(error, operation,
                "another map is pinned there" + (differs.empty() ? "" : ", " + differs) +
                    ": remove it, or take another pin_root");
  }
  if (log.find("error reusing pinned map") != std::string_view::npos ||
      log.find("failed to auto-pin") != std::string_view::npos)
    throw Error(error, operation, pin::advice(error, map.pin_path));
}

}  // namespace

void throw_open_error(int error, const std::string& log, const std::string& object) {
  const std::string operation = "open BPF object " + object;
  if (is_shortage(error)) throw Error(error, operation, shortage_advice(error));
  std::string detail = trimmed(log);
  if (const std::string name = name_after(log, "failed to find BTF for extern "); !name.empty())
    detail = "'" + name +
             "' is used but not defined: define it, or declare a kernel function with __ksym, a kernel "
             "configuration option with __kconfig";
  // Whatever errno libbpf gives, ENOENT or one of its own, the file is at fault.
  throw Error(ENOEXEC, operation, detail);
}

void throw_load_error(int error, const std::string& log, const std::string& object, std::span<const MapSpec> maps) {
  if (error == EPERM) throw Error(error, "load BPF object " + object, needs_bpf(error));
  // Without a descriptor or memory, the verifier may not have refused the program.
  const std::string program = name_before(log, "BPF program load failed");
  if (!program.empty() && !is_shortage(error)) {
    if (log.find("BEGIN PROG LOAD LOG") != std::string::npos) throw VerifierError(error, program, log, cause_of(log));
    const std::string wrong = name_advice(program);
    throw Error(error, "load program '" + program + "'", wrong.empty() ? trimmed(log) : wrong);
  }
  if (const std::string name = name_before(log, "failed to create: "); !name.empty()) {
    const MapSpec* map = find(maps, name);
    if (map != nullptr && !map->pin_path.empty()) throw_if_pin_failed(error, log, *map, object);
    throw_map_error(error, map != nullptr ? map->info : MapInfo{.name = name}, object);
  }
  if (is_shortage(error))
    throw Error(error, program.empty() ? "load BPF object " + object : "load program '" + program + "'",
                shortage_advice(error));
  if (log.find("failed to find valid kernel BTF") != std::string::npos)
    throw Error(EOPNOTSUPP, "load BPF object " + object,
                "its CO-RE relocations need a kernel with CONFIG_DEBUG_INFO_BTF=y: /sys/kernel/btf/vmlinux is missing");
  // libbpf's errnos for a missing kernel function or variable mean other things elsewhere.
  if (const std::string name = name_after(log, "ksym) ");
      !name.empty() && log.find("not found in kernel") != std::string::npos)
    throw Error(EOPNOTSUPP, "load BPF object " + object,
                "Linux " + kernel_release() + " has no '" + name +
                    "': declare it __weak, and use it only where bpf_ksym_exists() is true");
  throw Error(error == ESRCH || error == ENOENT ? EOPNOTSUPP : error, "load BPF object " + object, trimmed(log));
}

}  // namespace netkit_bpf
