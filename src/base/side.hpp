// SPDX-License-Identifier: MIT
// The two ends of a pair.
#pragma once

#include <cstdint>

#include "base/words.hpp"

namespace netkit_bpf {

enum class Side : uint8_t { primary = 0, peer = 1 };

inline constexpr Words<Side, 2> side_words{{{"primary", Side::primary}, {"peer", Side::peer}}};

constexpr const char* name_of(Side side) { return word_of(side_words, side); }

}  // namespace netkit_bpf
