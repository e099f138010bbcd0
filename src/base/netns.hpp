// SPDX-License-Identifier: MIT
// Network namespaces: making them, and running something inside one.
//
// A namespace is named by a path that opens it: /run/netns/NAME, /proc/PID/ns/net or /proc/self/fd/N.
// The empty path is the calling thread's own. A path holds no reference: a namespace that somebody
// deletes is gone, whoever still knows its path.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <utility>

#include "base/fd.hpp"

namespace netkit_bpf::netns {

// A descriptor of the namespace that the path names. Throws ENOENT and the like.
Fd open_path(const std::string& path);

// Whether the path opens a network namespace (ioctl_ns(2)).
bool is_one(const std::string& path);

// The calling thread's namespace.
Fd current();

// Two paths open the same namespace if these are equal: the numbers of its file (namespaces(7)). The empty path is the
// calling thread's own. Throws ENOENT and the like.
using Identity = std::pair<dev_t, ino_t>;
Identity identity(const std::string& path);

// How an error names the calling thread's namespace: by its inode, as lsns(8) does. "net:[4026531840]"
std::string describe_current();

// A new namespace that lives as long as the descriptor. `inside` is called in it, on the thread that makes it.
Fd create(const std::function<void()>& inside = {});

// A new namespace under /run/netns, as ip-netns(8) makes it. Throws EEXIST where the name is taken.
void create_named(const std::string& name);

// Takes the name away; the namespace ends with its last user. Throws ENOENT.
void delete_named(const std::string& name);

// Moves the calling thread. For threads that end inside the namespace: nobody is brought back.
void enter(const std::string& path);

// Runs f inside the namespace: in place if the caller is there already, else on a thread of its own that
// ends there, so that the caller's thread never leaves its namespace. What f throws comes through.
void run_inside(const std::string& path, const std::function<void()>& f);

}  // namespace netkit_bpf::netns
