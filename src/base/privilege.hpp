// SPDX-License-Identifier: MIT
// The texts for missing capabilities: capabilities(7).
#pragma once

#include <cerrno>

namespace netkit_bpf {

// For loading programs, making maps and attaching.
constexpr const char* needs_bpf(int error) { return error == EPERM ? "needs CAP_BPF and CAP_NET_ADMIN" : ""; }
// For opening a program, map or link by its id.
constexpr const char* needs_sys_admin(int error) { return error == EPERM ? "needs CAP_SYS_ADMIN" : ""; }

// Whether the errno is about this process or machine, not about the request.
constexpr bool is_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN || error == EINTR;
}
// What to do about it.
constexpr const char* shortage_advice(int error) {
  if (error == EMFILE) return "this process has no descriptor left: raise its limit (ulimit -n), or close something";
  return error == ENFILE ? "the system has no descriptor left: sysctl fs.file-max" : "";
}

}  // namespace netkit_bpf
