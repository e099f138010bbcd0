// SPDX-License-Identifier: MIT
#include "bpf/load_error.hpp"

#include <algorithm>
#include <cerrno>
#include <string_view>

#include "base/error.hpp"
#include "base/kernel_release.hpp"

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

const char* map_advice(int error) {
  switch (error) {
    case EPERM:
      return "needs CAP_BPF and CAP_NET_ADMIN";
    case ENOMEM:
    case E2BIG:
      return "it is too large: take a smaller max_entries";
    case EINVAL:
      return "its definition is not possible for its type, or this kernel does not know the type";
    default:
      return "";
  }
}

}  // namespace

void throw_map_error(int error, const std::string& map, const std::string& object) {
  throw Error(error, "create map '" + map + "'" + (object.empty() ? "" : " of BPF object " + object),
              map_advice(error));
}

void throw_load_error(int error, const std::string& log, const std::string& object) {
  const std::string program = name_before(log, "BPF program load failed");
  // Without the privilege the verifier never saw the program.
  if (!program.empty() && error != EPERM) {
    std::string cause;
    if (const std::string missing = missing_in_kernel(log); !missing.empty())
      cause = missing + " is not in Linux " + kernel_release();
    else if (log.find("GPL-restricted function from non-GPL") != std::string::npos)
      cause = R"(it calls what is for GPL programs: add char LICENSE[] SEC("license") = "GPL")";
    throw VerifierError(error, program, log, cause);
  }
  if (const std::string map = name_before(log, "failed to create: "); !map.empty() && error != EPERM)
    throw_map_error(error, map, object);
  if (error == EPERM) throw Error(error, "load BPF object " + object, "needs CAP_BPF and CAP_NET_ADMIN");
  if (log.find("failed to find valid kernel BTF") != std::string::npos)
    throw Error(EOPNOTSUPP, "load BPF object " + object,
                "its CO-RE relocations need a kernel with CONFIG_DEBUG_INFO_BTF=y: /sys/kernel/btf/vmlinux is missing");
  // libbpf's numbers for a function or variable of the kernel's that is not there mean other things elsewhere.
  throw Error(error == ESRCH || error == ENOENT ? EOPNOTSUPP : error, "load BPF object " + object, trimmed(log));
}

}  // namespace netkit_bpf
