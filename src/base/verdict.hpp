// SPDX-License-Identifier: MIT
// What a program returns for a packet: enum netkit_action of include/uapi/linux/if_link.h, and enum tcx_action_base.
#pragma once

#include <cstdint>

#include "base/words.hpp"

namespace netkit_bpf {

enum class Verdict : int32_t { next = -1, pass = 0, drop = 2, redirect = 7 };

inline constexpr Words<Verdict, 4> verdict_words{
    {{"next", Verdict::next}, {"pass", Verdict::pass}, {"drop", Verdict::drop}, {"redirect", Verdict::redirect}}};

}  // namespace netkit_bpf
