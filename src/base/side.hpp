// SPDX-License-Identifier: MIT
// The two ends of a pair.
#pragma once

#include <cstdint>

namespace netkit_bpf {

enum class Side : uint8_t { primary = 0, peer = 1 };

}  // namespace netkit_bpf
