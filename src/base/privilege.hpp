// SPDX-License-Identifier: MIT
// The one text of a capability that is missing: capabilities(7).
#pragma once

#include <cerrno>

namespace netkit_bpf {

// For what loads programs, makes maps and attaches.
constexpr const char* needs_bpf(int error) { return error == EPERM ? "needs CAP_BPF and CAP_NET_ADMIN" : ""; }
// For what opens a program, map or link by its number.
constexpr const char* needs_sys_admin(int error) { return error == EPERM ? "needs CAP_SYS_ADMIN" : ""; }

// Whether the errno speaks of this process or machine, and not of what it asked for.
constexpr bool is_shortage(int error) {
  return error == EMFILE || error == ENFILE || error == ENOMEM || error == EAGAIN || error == EINTR;
}
// What to do about it.
constexpr const char* shortage_advice(int error) {
  if (error == EMFILE) return "this process has no descriptor left: raise its limit (ulimit -n), or close something";
  return error == ENFILE ? "the system has no descriptor left: sysctl fs.file-max" : "";
}

}  // namespace netkit_bpf
