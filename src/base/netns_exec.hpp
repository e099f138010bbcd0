// SPDX-License-Identifier: MIT
// Making a process live in a network namespace as ip-netns(8) does with `exec`.
#pragma once

#include <string>

#include "base/netns.hpp"

namespace netkit_bpf::netns {

// Moves the calling process, a child before its execve(2), into the namespace and into a mount namespace of its own.
// There /sys shows the devices of the namespace, /sys/fs/bpf is empty and the child's own, and the files in
// /etc/netns/NAME are those in /etc. What it mounts is seen by nobody else. Where /sys may not be mounted, in a
// container, it stays the caller's. Throws where the namespace may not be entered.
void become_inhabitant(const Namespace& space, const std::string& name);

}  // namespace netkit_bpf::netns
