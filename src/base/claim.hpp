// SPDX-License-Identifier: MIT
// A lock that shows whether a process, or one that it forked, may still use what it made.
//
// A process id is not enough: the parent of a daemon has ended while its child works with what the parent made. So the
// process locks one byte, picked at random, of the file /run/netkit-bpf/claims. It is a lock of the open file
// description (fcntl_locking(2)): forks inherit it, and the kernel releases it with the last of them. A memory mapping
// keeps the description open: no descriptor is used, and a daemon that closes all its descriptors keeps the lock.
// Programs started by execve(2) do not inherit it.
#pragma once

#include <string>

namespace netkit_bpf::claim {

// Locks a byte for as long as this process or a fork of it lives, and returns the name of the claim: that of the file
// and the byte's number. Throws if /run/netkit-bpf, which belongs to root, cannot be used.
std::string make();

enum class State {
  held,     // its maker, or a process forked from that, lives
  free,     // certainly none does
  unknown,  // the name is that of another file: of another mount namespace, or deleted meanwhile; or the file cannot be
            // read
};

State look_up(const std::string& name);

}  // namespace netkit_bpf::claim
