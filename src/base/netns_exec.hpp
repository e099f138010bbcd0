// SPDX-License-Identifier: MIT
// Moving a process into a network namespace, like `ip netns exec`.
#pragma once

#include <string>

#include "base/netns.hpp"

namespace netkit_bpf::netns {

// Moves the calling process, a child before its execve(2), into the namespace and into a mount namespace of its own.
// There /sys shows the devices of the namespace, /sys/fs/bpf is empty and private, the files in /etc/netns/NAME replace
// those in /etc, and /etc/hosts holds the text, if it is not empty. No other process sees its mounts. If /sys may not
// be mounted, as in a container, the caller's /sys stays. Throws if the namespace may not be entered.
void become_inhabitant(const Namespace& space, const std::string& name, const std::string& hosts);

}  // namespace netkit_bpf::netns
