// SPDX-License-Identifier: MIT
// The two hooks of a pair, and the links that hold programs on them.
//
// Both hooks of a netkit pair are reached through the primary's ifindex. Of any other device the same two
// sides are its tcx hooks: egress for what it sends, ingress for what its other end sent. All calls are
// made from inside the device's network namespace: the caller sees to that (netns::run_inside).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "handle.hpp"

namespace netkit_bpf {

enum class Side : uint8_t { primary = 0, peer = 1 };

const char* name_of(Side side);

namespace hook {

enum class Family : uint8_t { netkit, tcx };

// Which hooks a device of this kind (IFLA_INFO_KIND) has.
Family family_of(const std::string& kind);

struct Programs {
  uint64_t revision = 0;
  std::vector<uint32_t> ids;  // in the order in which they run
};

Programs query(int ifindex, Family family, Side side);

uint32_t program_id(int program);

// Attaches a program as the first of the hook, where it sees what later ones will decide on. The
// returned link detaches it when it is closed.
Fd attach_first(int program, int ifindex, Family family, Side side, const std::string& device);

// Takes the link's program off its hook at once, even if a forked child holds the link too. A device that
// is gone is no error.
void detach(int link);

// False once the device is gone: the link is still there, and holds nothing.
bool is_attached(int link);

}  // namespace hook
}  // namespace netkit_bpf
