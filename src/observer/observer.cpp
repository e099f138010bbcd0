// SPDX-License-Identifier: MIT
#include "observer/observer.hpp"

#include <bpf/bpf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <stdexcept>
#include <utility>

#include "base/error.hpp"
#include "base/netns.hpp"
#include "bpf/program.hpp"
#include "devices/device.hpp"
#include "devices/pair.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t sides = 2;

}  // namespace

VerdictCells::VerdictCells(int fd, size_t offset)
    : mapping_(map(fd, offset)), cells_(reinterpret_cast<int32_t*>(mapping_.start() + offset)) {}

Mapping VerdictCells::map(int fd, size_t offset) {
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) throw Error(errno, "read what the kernel knows of a map");
  if (info.type != BPF_MAP_TYPE_ARRAY || (info.map_flags & BPF_F_MMAPABLE) == 0 ||
      (info.map_flags & BPF_F_RDONLY_PROG) != 0 || offset % sizeof(int32_t) != 0 ||
      offset + sides * sizeof(int32_t) > info.value_size)
    throw std::invalid_argument("the verdicts must be a variable of two __s32 in the section .data or .bss");
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t length = (info.value_size + page - 1) / page * page;
  return {fd, length, PROT_READ | PROT_WRITE, 0, "map the section of the verdicts"};
}

// In place: the section's other variables are the user's, who may be writing them now.
void VerdictCells::set(Side side, Verdict verdict) {
  std::atomic_ref<int32_t>(cells_[static_cast<size_t>(side)])
      .store(static_cast<int32_t>(verdict), std::memory_order_relaxed);
}

Observer::Observer(std::string observer, Place place, const std::array<const Program*, 2>& programs,
                   VerdictCells verdicts)
    : observer_(std::move(observer)), place_(std::move(place)), verdicts_(std::move(verdicts)) {
  netns::run_inside(place_.space, [&] {
    NetlinkSocket netlink;
    kind_ = device::get(netlink, place_.ifindex).kind;
    for (const Side side : {Side::primary, Side::peer}) {
      if (const Program* program = programs.at(static_cast<size_t>(side)))
        attached_.push_back({side, program->info().id, nullptr});
    }
    set_verdicts();
    for (Attached& each : attached_) {
      const Program& program = *programs.at(static_cast<size_t>(each.side));
      each.link = std::make_unique<Link>(hook(each.side), program, Placement{.where = Placement::Where::first});
    }
    set_verdicts();  // somebody may have come between
  });
}

Hook Observer::hook(Side side) const { return {hook::of_side(side, kind_), place_.ifindex, place_.device, kind_}; }

// Each program is on its hook, or about to be its first.
void Observer::set_verdicts() {
  NetlinkSocket netlink;
  const NetkitAttributes netkit = device::get(netlink, place_.ifindex).netkit;
  constexpr auto blackhole = static_cast<uint32_t>(netkit::Policy::blackhole);
  for (const Attached& each : attached_) {
    const auto entries = hook::query(hook(each.side)).entries;
    const auto is_ours = [&](const hook::Entry& entry) { return entry.program_id == each.program_id; };
    // The primary was moved, and a stranger's device got its number here.
    if (each.link && std::none_of(entries.begin(), entries.end(), is_ours)) return;
    const bool is_last = entries.empty() || is_ours(entries.back());
    const bool is_blackhole = (each.side == Side::primary ? netkit.policy : netkit.peer_policy) == blackhole;
    verdicts_.set(each.side, is_blackhole && is_last ? Verdict::drop : Verdict::next);
  }
}

void Observer::close() {
  const std::lock_guard lock(mutex_);
  const std::vector<Attached> attached = std::exchange(attached_, {});
  for (const Attached& each : attached) each.link->detach();
}

void Observer::check() {
  const std::lock_guard lock(mutex_);
  if (attached_.empty()) return;
  for (const Attached& each : attached_) {
    if (!each.link->is_attached())
      throw Error(ENODEV, observer_ + " " + place_.device,
                  "the device or its network namespace was deleted, or somebody detached the program");
  }
  try {
    netns::run_inside(place_.space, [&] { set_verdicts(); });
  } catch (const std::exception&) {
    // The primary was moved, or its namespace is held by a stranger alone: still attached, and the last verdicts stand.
  }
}

}  // namespace netkit_bpf
