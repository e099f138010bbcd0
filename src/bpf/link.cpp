// SPDX-License-Identifier: MIT
#include "bpf/link.hpp"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

#include "base/error.hpp"
#include "base/privilege.hpp"
#include "bpf/pin.hpp"
#include "bpf/program.hpp"

namespace netkit_bpf {

namespace {

constexpr uint32_t flag_before = 1U << 3;  // BPF_F_BEFORE; with no anchor: before all
constexpr uint32_t flag_after = 1U << 4;   // BPF_F_AFTER
constexpr uint32_t flag_id = 1U << 5;      // BPF_F_ID: the anchor is given by its id
constexpr uint32_t flag_link = 1U << 13;   // BPF_F_LINK: the anchor is a link

constexpr const char* programs_that_fit = "hooks take programs of the sections netkit/…, tcx/… and tc";

uint32_t flags_of(const Placement& placement) {
  const uint32_t anchor = flag_id | (placement.is_link ? flag_link : 0);
  switch (placement.where) {
    case Placement::Where::first:
      return flag_before;
    case Placement::Where::before:
      return flag_before | anchor;
    case Placement::Where::after:
      return flag_after | anchor;
    default:
      return 0;
  }
}

std::string anchor_of(const Placement& placement) {
  return placement.is_link ? "link " + std::to_string(placement.id) : program::describe(placement.id);
}

std::string stale(const Hook& hook, uint64_t expected) {
  const auto found = hook::query(hook).revision;
  return "ESTALE: expected revision " + std::to_string(expected) + ", found " +
         (found ? std::to_string(*found) : "an empty hook, whose revision the kernel does not tell");
}

// EINVAL has two meanings: the kernel has no such hooks, or the program is of another type.
[[noreturn]] void fail_invalid(const std::string& operation, const Hook& hook, const Program& program) {
  if (program.info().type != BPF_PROG_TYPE_SCHED_CLS) throw Error(EINVAL, operation, programs_that_fit);
  try {
    hook::query(hook);
  } catch (const NotSupported& error) {
    throw NotSupported(operation, error.needs, hook::is_netkit(hook.kind) ? "with CONFIG_NETKIT" : "for tcx hooks");
  }
  throw Error(EINVAL, operation, "the anchor is a program of another type, or this kernel does not know the flags");
}

[[noreturn]] void fail(int error, const Hook& hook, const Program& program, const Placement& placement) {
  const std::string operation = "attach program '" + program.name() + "' to " + hook::describe(hook);
  switch (error) {
    case EINVAL:
      fail_invalid(operation, hook, program);
    case EEXIST:
      throw Error(
          error, operation,
          program::describe(program.info().id) + " is on this hook already; load it once more to have it there twice");
    case ESTALE:
      throw Error(error, operation, stale(hook, placement.expected_revision));
    case ENOENT:
      throw Error(error, operation, anchor_of(placement) + " is not on this hook");
    case ERANGE:
      throw Error(error, operation, "there are 63 programs on this hook, more do not fit");
    default:
      throw Error(error, operation, hook::advice(error, hook));
  }
}

Fd create(const Hook& hook, const Program& program, const Placement& placement) {
  LIBBPF_OPTS(bpf_link_create_opts, options);
  options.flags = flags_of(placement);
  const auto fill = [&](auto& family) {
    family.relative_id = placement.id;
    family.expected_revision = placement.expected_revision;
  };
  if (hook::is_netkit(hook.kind))
    fill(options.netkit);
  else
    fill(options.tcx);
  Fd link(bpf_link_create(program.fd(), hook.ifindex, static_cast<bpf_attach_type>(hook::attach_type(hook.kind)),
                          &options));
  if (!link) fail(errno, hook, program, placement);
  return link;
}

constexpr int most_tries = 100;  // each time another process has changed the hook

bool is_below(const hook::Entry& entry, Rank rank) {
  const auto found = hook::rank_of(entry);
  return found && *found < rank;
}

// The last program that must stay in front of this rank.
const hook::Entry* last_below(const std::vector<hook::Entry>& entries, Rank rank) {
  const auto found =
      std::find_if(entries.rbegin(), entries.rend(), [&](const hook::Entry& entry) { return is_below(entry, rank); });
  return found == entries.rend() ? nullptr : &*found;
}

Placement by_rank(const hook::Programs& found, const Placement& asked) {
  Placement chosen{.where = Placement::Where::first, .expected_revision = asked.expected_revision};
  if (asked.expected_revision == 0) chosen.expected_revision = found.revision.value_or(0);
  if (const hook::Entry* const anchor = last_below(found.entries, asked.rank)) {
    chosen.where = Placement::Where::after;
    chosen.is_link = anchor->link_id != 0;
    chosen.id = chosen.is_link ? anchor->link_id : anchor->program_id;
  }
  return chosen;
}

// Other programs may come and go while the place is chosen: the revision shows that, except for an empty hook.
Fd create_by_rank(const Hook& hook, const Program& program, const Placement& asked) {
  if (asked.rank == Rank::firewall || asked.rank == Rank::balancer) {  // wherever the others are
    Placement chosen = asked;
    chosen.where = asked.rank == Rank::firewall ? Placement::Where::first : Placement::Where::last;
    return create(hook, program, chosen);
  }
  for (int tries = 1;; ++tries) {
    const bool is_last_try = tries == most_tries || asked.expected_revision != 0;
    const hook::Programs found = hook::query(hook);
    try {
      Fd link = create(hook, program, by_rank(found, asked));
      if (found.revision || is_last_try) return link;
      const auto now = hook::query(hook).entries;
      const auto is_ours = [id = program.info().id](const hook::Entry& entry) { return entry.program_id == id; };
      const auto goes_before = [&](const hook::Entry& entry) { return is_below(entry, asked.rank); };
      if (std::none_of(std::find_if(now.begin(), now.end(), is_ours), now.end(), goes_before)) return link;
    } catch (const Error& error) {
      if (error.number() != ESTALE || is_last_try) throw;
    }
  }
}

}  // namespace

Link::Link(const Hook& hook, const Program& program, const Placement& placement)
    : fd_(placement.where == Placement::Where::by_rank ? create_by_rank(hook, program, placement)
                                                       : create(hook, program, placement)),
      place_(" on " + hook::describe(hook)) {}

Link::Link(const std::string& path) : fd_(pin::open(path, "link")), path_(path) {
  static_cast<void>(info());  // throws if it is a link to something else
}

Link::Info Link::info() const {
  // The beginning of struct bpf_link_info, which in older headers has no netkit and no tcx member.
  struct {
    uint32_t type;
    uint32_t id;
    uint32_t program_id;
    uint32_t padding;
    uint32_t ifindex;
    uint32_t attach_type;
  } found{};
  constexpr uint32_t type_tcx = 11;     // BPF_LINK_TYPE_TCX
  constexpr uint32_t type_netkit = 13;  // BPF_LINK_TYPE_NETKIT
  uint32_t size = sizeof(found);
  if (bpf_obj_get_info_by_fd(fd_.get(), reinterpret_cast<bpf_link_info*>(&found), &size) != 0)
    throw Error(errno, "read what a link is attached to");
  const auto kind = hook::from_attach_type(found.attach_type);
  if ((found.type != type_tcx && found.type != type_netkit) || !kind)
    throw std::invalid_argument("link " + std::to_string(found.id) + " is not attached to a netkit or tcx hook");
  return {found.id, found.program_id, *kind, static_cast<int>(found.ifindex)};
}

std::string Link::name() const { return "link " + std::to_string(info().id) + place_; }

void Link::update(const Program& program, const Program* expected) {
  LIBBPF_OPTS(bpf_link_update_opts, options);
  if (expected != nullptr) {
    options.flags = BPF_F_REPLACE;
    options.old_prog_fd = static_cast<uint32_t>(expected->fd());
  }
  if (bpf_link_update(fd_.get(), program.fd(), &options) == 0) return;
  const int error = errno;
  const std::string operation = "put program '" + program.name() + "' on " + name();
  if (error == ENOLINK) throw Error(error, operation, "the device is gone, or the link was detached");
  if (error == EEXIST) throw Error(error, operation, program::describe(program.info().id) + " is on this hook already");
  if (error == EINVAL) throw Error(error, operation, programs_that_fit);
  if (error == EPERM && expected != nullptr) {
    const uint32_t wanted = expected->info().id;
    const uint32_t found = info().program_id;
    if (wanted != found)
      throw Error(ESTALE, operation,
                  "ESTALE: expected " + program::describe(wanted) + ", found " + program::describe(found));
  }
  throw Error(error, operation, needs_bpf(error));
}

void Link::detach() {
  if (bpf_link_detach(fd_.get()) == 0) return;
  const int error = errno;
  if (error != ENOLINK) throw Error(error, "detach " + name());
}

void Link::pin(const std::string& path) {
  const std::lock_guard lock(mutex_);
  if (!path_.empty()) throw std::invalid_argument(name() + " is pinned already, at " + path_);
  pin::create(fd_.get(), path, name());
  path_ = path;
}

void Link::unpin() {
  const std::lock_guard lock(mutex_);
  if (path_.empty()) throw std::invalid_argument(name() + " is not pinned");
  pin::remove(path_, name());
  path_.clear();
}

std::string Link::pinned_at() const {
  const std::lock_guard lock(mutex_);
  return path_;
}

}  // namespace netkit_bpf
