// SPDX-License-Identifier: MIT
#include "bpf/hook.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <array>
#include <cerrno>

#include "base/error.hpp"
#include "base/netns.hpp"
#include "base/privilege.hpp"
#include "bpf/program.hpp"

namespace netkit_bpf::hook {

namespace {

struct Known {
  Hook::Kind kind;
  uint32_t attach_type;
};

// By number: the system's linux/bpf.h may be older than these members of enum bpf_attach_type.
constexpr std::array<Known, 4> known{{{Hook::Kind::netkit_primary, 54},
                                      {Hook::Kind::netkit_peer, 55},
                                      {Hook::Kind::tcx_ingress, 46},
                                      {Hook::Kind::tcx_egress, 47}}};

const Known& entry_of(Hook::Kind kind) { return known.at(static_cast<size_t>(kind)); }

struct Ranked {
  std::string_view program;
  Rank rank;
};

// The programs of the packet functions that ship, of bpf/*.bpf.c, and the filters in front of observers.
constexpr std::array<Ranked, 12> ranked_programs{{{"firewall_primary", Rank::firewall},
                                                  {"firewall_peer", Rank::firewall},
                                                  {"monitor_primary", Rank::observer},
                                                  {"monitor_peer", Rank::observer},
                                                  {"monitor_primary_again", Rank::observer},
                                                  {"monitor_peer_again", Rank::observer},
                                                  {"metrics_primary", Rank::observer},
                                                  {"metrics_peer", Rank::observer},
                                                  {"filter_primary", Rank::observer},
                                                  {"filter_peer", Rank::observer},
                                                  {"balancer_client", Rank::balancer},
                                                  {"balancer_backend", Rank::balancer}}};

constexpr size_t longest_name = 15;  // BPF_OBJ_NAME_LEN - 1: the kernel stores no more

std::string not_netkit(const Hook& hook) {
  const std::string kind = hook.device_kind.empty() ? "plain" : hook.device_kind;
  return hook.device + " is a " + kind + " device, not a netkit device";
}

}  // namespace

Hook::Kind of_side(Side side, const std::string& kind) {
  const bool is_primary = side == Side::primary;
  if (kind == "netkit") return is_primary ? Hook::Kind::netkit_primary : Hook::Kind::netkit_peer;
  return is_primary ? Hook::Kind::tcx_egress : Hook::Kind::tcx_ingress;
}

bool is_netkit(Hook::Kind kind) { return kind == Hook::Kind::netkit_primary || kind == Hook::Kind::netkit_peer; }

uint32_t attach_type(Hook::Kind kind) { return entry_of(kind).attach_type; }

std::optional<Hook::Kind> from_attach_type(uint32_t number) {
  for (const Known& each : known) {
    if (each.attach_type == number) return each.kind;
  }
  return std::nullopt;
}

std::string describe(const Hook& hook) {
  const char* const word =
      is_netkit(hook.kind) ? name_of(static_cast<Side>(hook.kind)) : word_of(direction_words, hook.kind);
  return hook.device + " (" + word + ")";
}

std::string advice(int error, const Hook& hook) {
  const std::string number = std::to_string(hook.ifindex);
  switch (error) {
    case EPERM:
      return needs_bpf(error);
    case EACCES:
      return "hooks are reached through the primary; ifindex " + number + " is the peer's";
    case ENODEV:
      return "no device with ifindex " + number + " in network namespace " + netns::describe_current();
    case ENXIO:
      return not_netkit(hook);
    case EOPNOTSUPP:
      return "this is a single netkit device; only pairs take programs";
    default:
      return "";
  }
}

Programs query(const Hook& hook) {
  LIBBPF_OPTS(bpf_prog_query_opts, options);
  std::vector<uint32_t> programs;
  std::vector<uint32_t> links;
  uint32_t room = 16;
  int error = 0;
  do {
    programs.resize(room);
    links.resize(room);
    options.prog_ids = programs.data();
    options.link_ids = links.data();
    options.count = room;
    error = -bpf_prog_query_opts(hook.ifindex, static_cast<bpf_attach_type>(attach_type(hook.kind)), &options);
    room *= 2;
  } while (error == ENOSPC);
  if (error == EINVAL && is_netkit(hook.kind))
    throw NotSupported("list the programs on " + describe(hook), "6.7", "with CONFIG_NETKIT");
  if (error == EINVAL) throw NotSupported("list the programs on " + describe(hook), "6.6", "for tcx hooks");
  if (error != 0) throw Error(error, "list the programs on " + describe(hook), advice(error, hook));
  Programs found;
  if (options.count > 0) found.revision = options.revision;
  for (uint32_t i = 0; i < options.count; ++i) found.entries.push_back({programs[i], links[i]});
  return found;
}

std::optional<Rank> rank_of(std::string_view program) {
  for (const Ranked& each : ranked_programs) {
    if (program == each.program.substr(0, longest_name)) return each.rank;
  }
  return std::nullopt;
}

std::optional<Rank> rank_of(const Entry& entry) {
  const auto name = program::name_of(entry.program_id);
  return name ? rank_of(*name) : std::nullopt;
}

void detach(const Hook& hook, const Program& program) {
  LIBBPF_OPTS(bpf_prog_detach_opts, options);
  const auto type = static_cast<bpf_attach_type>(attach_type(hook.kind));
  const int error = -bpf_prog_detach_opts(program.fd(), hook.ifindex, type, &options);
  if (error == 0) return;
  std::string reason = advice(error, hook);
  if (error == ENOENT) reason = "it is not on this hook";
  if (error == EBUSY) {
    const uint32_t id = program.info().id;
    for (const Entry& entry : query(hook).entries) {
      if (entry.program_id == id) reason = "link " + std::to_string(entry.link_id) + " holds it: detach the link";
    }
  }
  throw Error(error, "detach program '" + program.name() + "' from " + describe(hook), reason);
}

}  // namespace netkit_bpf::hook
