// SPDX-License-Identifier: MIT
// The two hooks of a netkit pair, and the links that hold programs on them.
//
// Both are reached through the primary's ifindex, from inside the primary's network namespace: the
// caller sees to that (netns::run_inside).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "handle.hpp"

namespace netkit_bpf {

enum class Side : uint8_t { primary = 0, peer = 1 };

const char* name_of(Side side);

namespace hook {

struct Programs {
  uint64_t revision = 0;
  std::vector<uint32_t> ids;  // in the order in which they run
};

Programs query(int ifindex, Side side);

// Attaches a program as the first of the hook, where it sees what later ones will decide on. The
// returned link detaches it when it is closed.
Fd attach_first(int program, int ifindex, Side side, const std::string& device);

// False once the device is gone: the link is still there, and holds nothing.
bool is_attached(int link);

}  // namespace hook
}  // namespace netkit_bpf
