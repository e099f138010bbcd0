// SPDX-License-Identifier: MIT
// The places of a device where programs run, in order.
//
// Both hooks of a netkit pair are reached through the primary's ifindex. Every device, a netkit one too,
// also has the two tcx hooks. Where a pair of other devices stands in for a netkit pair, its two sides are
// the tcx hooks of one end: egress for what it sends, ingress for what its other end sent. All calls are
// made from inside the device's network namespace: the caller sees to that (netns::run_inside).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/side.hpp"

namespace netkit_bpf {

class Program;

struct Hook {
  enum class Kind : uint8_t { netkit_primary, netkit_peer, tcx_ingress, tcx_egress };

  Kind kind;
  int ifindex;
  std::string device;       // its name, for errors
  std::string device_kind;  // IFLA_INFO_KIND, for errors; empty of loopback and hardware
};

inline constexpr Words<Hook::Kind, 2> direction_words{
    {{"ingress", Hook::Kind::tcx_ingress}, {"egress", Hook::Kind::tcx_egress}}};
// A side's number is its hook's too.
static_assert(static_cast<int>(Hook::Kind::netkit_primary) == static_cast<int>(Side::primary) &&
              static_cast<int>(Hook::Kind::netkit_peer) == static_cast<int>(Side::peer));

namespace hook {

// The hook that sees what this side of the device sends. `kind` is the device's (IFLA_INFO_KIND).
Hook::Kind of_side(Side side, const std::string& kind);

bool is_netkit(Hook::Kind kind);
// enum bpf_attach_type, and back. Empty for a number that is no hook's.
uint32_t attach_type(Hook::Kind kind);
std::optional<Hook::Kind> from_attach_type(uint32_t number);

// "nk0 (peer)"
std::string describe(const Hook& hook);

struct Entry {
  uint32_t program_id = 0;
  uint32_t link_id = 0;  // 0: attached without a link
};

struct Programs {
  // Counts the changes of the hook. Empty where the hook is: once the last program has left it, the kernel
  // says 1, whatever the real counter is.
  std::optional<uint64_t> revision;
  std::vector<Entry> entries;  // in the order in which they run
};

Programs query(const Hook& hook);

// Takes a program off that no link holds (BPF_PROG_DETACH). Throws EBUSY with the link's id where one does.
void detach(const Hook& hook, const Program& program);

// What to do about an errno of any request on a hook; asks the kernel for what the errno does not tell.
std::string advice(int error, const Hook& hook);

}  // namespace hook
}  // namespace netkit_bpf
