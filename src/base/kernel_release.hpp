// SPDX-License-Identifier: MIT
// Which kernel runs.
#pragma once

#include <string>

namespace netkit_bpf {

// The release of the running kernel, as uname(2) gives it.
std::string kernel_release();

// Whether a release, "7.1+deb14-amd64", is at least major.minor. The text behind the numbers, which distributions add,
// does not count; a release without numbers counts as older than any other.
bool is_at_least(const std::string& release, unsigned major, unsigned minor);

}  // namespace netkit_bpf
