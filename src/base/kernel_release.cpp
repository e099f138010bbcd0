// SPDX-License-Identifier: MIT
#include "base/kernel_release.hpp"

#include <sys/utsname.h>

#include <charconv>
#include <utility>

namespace netkit_bpf {

std::string kernel_release() {
  utsname name{};
  return uname(&name) == 0 ? name.release : "unknown";
}

bool is_at_least(const std::string& release, unsigned major, unsigned minor) {
  std::pair<unsigned, unsigned> found{0, 0};
  const char* const end = release.data() + release.size();
  const auto [next, error] = std::from_chars(release.data(), end, found.first);
  if (error == std::errc{} && next != end && *next == '.') std::from_chars(next + 1, end, found.second);
  return found >= std::pair(major, minor);
}

}  // namespace netkit_bpf
