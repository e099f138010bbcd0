// SPDX-License-Identifier: MIT
// The hooks of a device, on which programs run in order.
//
// Both hooks of a netkit pair are reached through the primary's ifindex. Every device, a netkit one too,
// also has the two tcx hooks. Where a pair of other devices stands in for a netkit pair, its two sides are
// the tcx hooks of one end: egress for what it sends, ingress for what its other end sent. The caller makes all calls
// inside the device's network namespace (netns::run_inside).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
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
// A side and its hook have the same number.
static_assert(static_cast<int>(Hook::Kind::netkit_primary) == static_cast<int>(Side::primary) &&
              static_cast<int>(Hook::Kind::netkit_peer) == static_cast<int>(Side::peer));

// The order of packet functions on a hook. After PASS, DROP or REDIRECT nothing else on the hook runs. So functions
// that drop come first, those that only observe come next, and one that redirects packets is last, in whatever order
// they are attached.
enum class Rank : uint8_t { firewall, observer, balancer };

inline constexpr Words<Rank, 3> rank_words{
    {{"firewall", Rank::firewall}, {"observer", Rank::observer}, {"balancer", Rank::balancer}}};

namespace hook {

// The hook that sees what this side of the device sends. `kind` is the device's (IFLA_INFO_KIND).
Hook::Kind of_side(Side side, const std::string& kind);

bool is_netkit(Hook::Kind kind);
// Conversion to enum bpf_attach_type and back. Empty for a number that is not a hook's.
uint32_t attach_type(Hook::Kind kind);
std::optional<Hook::Kind> from_attach_type(uint32_t number);

// "nk0 (peer)"
std::string describe(const Hook& hook);

struct Entry {
  uint32_t program_id = 0;
  uint32_t link_id = 0;  // 0: attached without a link
};

struct Programs {
  // Counts the changes of the hook. Empty if the hook is empty: then the kernel reports 1, whatever the real counter
  // is.
  std::optional<uint64_t> revision;
  std::vector<Entry> entries;  // in the order in which they run
};

Programs query(const Hook& hook);

// The rank of one of the shipped packet functions, by its program's name in the kernel, which is the same in every
// process. Empty for any other program.
std::optional<Rank> rank_of(std::string_view program);
// The same for a program on a hook. Also empty without CAP_SYS_ADMIN, which reading names takes.
std::optional<Rank> rank_of(const Entry& entry);

// Detaches a program that no link holds (BPF_PROG_DETACH). If a link holds it, throws EBUSY with the link's id.
void detach(const Hook& hook, const Program& program);

// What to do about an errno of any request on a hook; asks the kernel for more details.
std::string advice(int error, const Hook& hook);

}  // namespace hook
}  // namespace netkit_bpf
