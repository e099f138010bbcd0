// SPDX-License-Identifier: MIT
// What tells whether a process, or one that it forked, may still use what it made.
//
// A process id tells too little: a daemon's parent has ended while its child works with what the parent made. So the
// process locks one byte of a file, /run/netkit-bpf/claims, that it picked at random: a lock of the open file
// description (fcntl_locking(2)), which its forks inherit and the kernel takes away with the last of them. The
// description is kept by a memory mapping: no descriptor is used, and a daemon that closes all of its own lets go of
// nothing. What execve(2) starts inherits nothing.
#pragma once

#include <string>

namespace netkit_bpf::claim {

// Locks a byte for as long as this process or a fork of it lives, and returns its name: that of the file and the
// byte's number. Throws where /run/netkit-bpf cannot be used, as it is root's.
std::string make();

enum class State {
  held,     // a process lives that made it, or was forked from one
  free,     // none does, for sure
  unknown,  // the name is that of another file: of another mount namespace, or deleted meanwhile; or the file cannot be
            // read
};

State look_up(const std::string& name);

}  // namespace netkit_bpf::claim
