// SPDX-License-Identifier: MIT
#include "hook.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <array>
#include <cerrno>

#include "error.hpp"

namespace netkit_bpf {

const char* name_of(Side side) { return side == Side::primary ? "primary" : "peer"; }

namespace hook {

namespace {

constexpr size_t most_programs = 64;  // BPF_MPROG_MAX

// By number: the system's linux/bpf.h may be older than these members of enum bpf_attach_type.
bpf_attach_type attach_type(Family family, Side side) {
  constexpr int tcx_ingress = 46;
  constexpr int tcx_egress = 47;
  constexpr int netkit_primary = 54;
  constexpr int netkit_peer = 55;
  const bool is_primary = side == Side::primary;
  if (family == Family::tcx) return static_cast<bpf_attach_type>(is_primary ? tcx_egress : tcx_ingress);
  return static_cast<bpf_attach_type>(is_primary ? netkit_primary : netkit_peer);
}
constexpr uint32_t flag_before = 1U << 3;  // BPF_F_BEFORE; with no anchor: before all

const char* advice(int error) {
  switch (error) {
    case EPERM:
      return "needs CAP_BPF and CAP_NET_ADMIN";
    case EACCES:
      return "hooks are reached through the primary; this is the peer's ifindex";
    case ENODEV:
      return "not in the network namespace of the pair";
    case ENXIO:
      return "the device is not a netkit device";
    case EINVAL:
      return "the kernel may be built without CONFIG_NETKIT";
    case ERANGE:
      return "there are 63 programs on this hook, more do not fit";
    default:
      return "";
  }
}

}  // namespace

Family family_of(const std::string& kind) { return kind == "netkit" ? Family::netkit : Family::tcx; }

Programs query(int ifindex, Family family, Side side) {
  std::array<uint32_t, most_programs> ids{};
  LIBBPF_OPTS(bpf_prog_query_opts, options);
  options.prog_ids = ids.data();
  options.count = ids.size();
  if (const int error = -bpf_prog_query_opts(ifindex, attach_type(family, side), &options); error != 0)
    throw Error(error, std::string("list the programs on the ") + name_of(side) + " hook", advice(error));
  return {options.revision, {ids.begin(), ids.begin() + options.count}};
}

uint32_t program_id(int program) {
  bpf_prog_info info{};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(program, &info, &size) != 0) throw Error(errno, "read a program's id");
  return info.id;
}

Fd attach_first(int program, int ifindex, Family family, Side side, const std::string& device) {
  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = flag_before;
  Fd link(bpf_link_create(program, ifindex, attach_type(family, side), &options));
  if (!link) {
    const int error = errno;
    throw Error(error, "attach a program to " + device + " (" + name_of(side) + ")", advice(error));
  }
  return link;
}

void detach(int link) {
  if (bpf_link_detach(link) != 0 && errno != ENOLINK) throw Error(errno, "detach a program");
}

bool is_attached(int link) {
  // struct bpf_link_info of older headers has no netkit member; tcx's, of the same shape, begins where it does.
  union {
    bpf_link_info info;
    std::array<uint8_t, 256> room;
  } answer{};
  answer.room.fill(0);
  uint32_t size = sizeof(answer);
  if (bpf_obj_get_info_by_fd(link, &answer, &size) != 0) throw Error(errno, "read what a link is attached to");
  return answer.info.xdp.ifindex != 0;  // the first member of every link to a device
}

}  // namespace hook
}  // namespace netkit_bpf
