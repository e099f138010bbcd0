// SPDX-License-Identifier: MIT
#include "observer/observer.hpp"

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <span>
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

// Beside the copy that records, in the cell of a side: enum nk_recording in bpf/monitor.bpf.c.
constexpr int32_t other_waits = 2;
constexpr int32_t other_leaves = 4;

bool is_firewall(const hook::Entry& entry) { return hook::rank_of(entry) == Rank::firewall; }

// Whether a program of somebody else is where an observer's belongs, which is behind the firewalls and before the rest.
// One whose name cannot be read may be another observer.
bool is_preceded(std::span<const hook::Entry> in_front) {
  const auto last_firewall = std::find_if(in_front.rbegin(), in_front.rend(), is_firewall);
  return std::any_of(last_firewall.base(), in_front.end(), [](const hook::Entry& entry) {
    const auto name = program::name_of(entry.program_id);
    return name && hook::rank_of(*name) != Rank::observer;
  });
}

// Throws Error unless the names of programs can be read.
void expect_names(uint32_t program, const std::string& observer) {
  try {
    static_cast<void>(program::open(program));
  } catch (const Error& error) {
    if (error.number() != EPERM) throw;
    throw Error(EPERM, "keep the place of " + observer,
                "CAP_SYS_ADMIN is missing, which it takes to read the names of programs in front");
  }
}

// Whether a program attached at this place can be the last one.
bool can_be_last(const Placement& planned) {
  return planned.where == Placement::Where::last || planned.where == Placement::Where::after ||
         (planned.where == Placement::Where::by_rank && planned.rank == Rank::balancer);
}

}  // namespace

SideCells::SideCells(int fd, size_t offset)
    : mapping_(map(fd, offset)), cells_(reinterpret_cast<int32_t*>(mapping_.start() + offset)) {}

Mapping SideCells::map(int fd, size_t offset) {
  bpf_map_info info{};
  uint32_t size = sizeof(info);
  if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) throw Error(errno, "read what the kernel knows of a map");
  if (info.type != BPF_MAP_TYPE_ARRAY || (info.map_flags & BPF_F_MMAPABLE) == 0 ||
      (info.map_flags & BPF_F_RDONLY_PROG) != 0 || offset % sizeof(int32_t) != 0 ||
      offset + sides * sizeof(int32_t) > info.value_size)
    throw std::invalid_argument(
        "what is told to each side's program must be a variable of two __s32 in the section .data or .bss");
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t length = (info.value_size + page - 1) / page * page;
  return {fd, length, PROT_READ | PROT_WRITE, 0, "map the section of an observer's variables"};
}

// In place: the other variables of the section belong to the user, who may be writing them now.
void SideCells::set(Side side, int32_t value) {
  std::atomic_ref<int32_t>(cells_[static_cast<size_t>(side)]).store(value, std::memory_order_relaxed);
}

Observer::Observer(std::string observer, Place place, const std::array<const Program*, 2>& programs, SideCells verdicts,
                   const Placement& placement, const std::optional<Place>& receiver, bool sees_all,
                   std::optional<Standby> standby)
    : observer_(std::move(observer)),
      place_(std::move(place)),
      sees_all_(sees_all),
      is_by_rank_(placement.where == Placement::Where::by_rank),
      verdicts_(std::move(verdicts)),
      standby_(std::move(standby)) {
  netns::run_inside(place_.space, [&] {
    NetlinkSocket netlink;
    kind_ = device::get(netlink, place_.ifindex).kind;
    for (const Side side : {Side::primary, Side::peer}) {
      const Program* program = programs.at(static_cast<size_t>(side));
      if (program == nullptr) continue;
      attached_.push_back({side, program->info().id, nullptr, receiver && side == Side::primary});
      if (standby_) attached_.back().copy = program->duplicate();
    }
    if (standby_ && !attached_.empty()) expect_names(attached_[0].program_id, observer_ + " " + place_.device);
    set_verdicts(&placement);
    for (Attached& each : attached_) {
      if (each.at_receiver) continue;
      const Program& program = *programs.at(static_cast<size_t>(each.side));
      each.link = std::make_unique<Link>(hook(each.side), program, placement);
    }
    set_verdicts();  // another program may have been attached in between
  });
  if (!receiver) return;
  const Hook ingress{Hook::Kind::tcx_ingress, receiver->ifindex, receiver->device, kind_};
  netns::run_inside(receiver->space, [&] {
    for (Attached& each : attached_) {
      if (!each.at_receiver) continue;
      each.link = std::make_unique<Link>(ingress, *programs.at(static_cast<size_t>(each.side)), placement);
    }
  });
}

Hook Observer::hook(Side side) const { return {hook::of_side(side, kind_), place_.ifindex, place_.device, kind_}; }

// Each program is on its hook, or is about to be attached at the planned place.
void Observer::set_verdicts(const Placement* planned) {
  NetlinkSocket netlink;
  const NetkitAttributes netkit = device::get(netlink, place_.ifindex).netkit;
  constexpr auto blackhole = static_cast<uint32_t>(netkit::Policy::blackhole);
  bool has_blackhole = false;
  for (Attached& each : attached_) {
    if (each.at_receiver) continue;
    const auto is_ours = [&](const hook::Entry& entry) { return entry.program_id == each.program_id; };
    auto entries = hook::query(hook(each.side)).entries;
    auto ours = std::find_if(entries.begin(), entries.end(), is_ours);
    // The primary was moved, and another device got its number here.
    if (each.link && ours == entries.end()) return;
    if (each.link && standby_ && is_preceded({entries.begin(), ours})) {
      come_to_front(each);
      entries = hook::query(hook(each.side)).entries;
      ours = std::find_if(entries.begin(), entries.end(), is_ours);
    }
    const bool is_last = entries.empty() || is_ours(entries.back()) || (planned != nullptr && can_be_last(*planned));
    const bool is_blackhole = (each.side == Side::primary ? netkit.policy : netkit.peer_policy) == blackhole;
    has_blackhole = has_blackhole || is_blackhole;
    const bool drops = is_blackhole && is_last && std::none_of(entries.begin(), ours, is_firewall);
    if (verdicts_) verdicts_->set(each.side, static_cast<int32_t>(drops ? Verdict::drop : Verdict::next));
  }
  has_blackhole_ = has_blackhole;  // not before all was read: else a failure would end the looks at a blackhole
}

// Each packet is recorded by one of the two copies meanwhile, and a blackhole stays shut: a copy that has another one
// behind it leaves the packet to that.
void Observer::come_to_front(Attached& each) {
  if (!standby_ || !verdicts_) return;
  std::optional<Program>& second = standby_->programs.at(static_cast<size_t>(each.side));
  if (!second) return;
  SideCells& recording = standby_->recording;
  recording.set(each.side, int32_t{each.is_second} | other_waits);
  std::unique_ptr<Link> link;
  try {
    link = std::make_unique<Link>(hook(each.side), *second,
                                  Placement{.where = Placement::Where::by_rank, .rank = Rank::observer});
  } catch (const std::exception&) {
    recording.set(each.side, int32_t{each.is_second});
    throw;
  }
  recording.set(each.side, int32_t{!each.is_second} | other_leaves);
  each.link->detach();
  each.link = std::move(link);
  each.program_id = second->info().id;
  each.is_second = !each.is_second;
  std::swap(each.copy, second);
  verdicts_->set(each.side, static_cast<int32_t>(Verdict::next));  // others are behind it
  recording.set(each.side, int32_t{each.is_second});
}

// Every packet that a netkit device sends while both ends are up runs its hook, and counts as sent or dropped. For
// other devices a side is what one end sends or receives.
uint64_t Observer::sent(Side side) const {
  NetlinkSocket netlink;
  const DeviceInfo primary = device::get(netlink, place_.ifindex);
  const auto count = [](const DeviceInfo& device, size_t number) {
    return number < device.statistics.size() ? device.statistics[number] : 0;
  };
  constexpr auto number_of = [](size_t offset) { return offset / sizeof(uint64_t); };
  constexpr size_t rx_packets = number_of(offsetof(rtnl_link_stats64, rx_packets));
  constexpr size_t tx_packets = number_of(offsetof(rtnl_link_stats64, tx_packets));
  constexpr size_t tx_dropped = number_of(offsetof(rtnl_link_stats64, tx_dropped));
  if (kind_ != "netkit") return count(primary, side == Side::primary ? tx_packets : rx_packets);
  if (side == Side::primary) return count(primary, tx_packets) + count(primary, tx_dropped);
  DeviceInfo peer;
  Request request = device::getting({primary.link, "the peer of " + place_.device}, peer);
  if (primary.link_netnsid) request.message.put_u32(IFLA_TARGET_NETNSID, static_cast<uint32_t>(*primary.link_netnsid));
  netlink.request(std::move(request));
  return count(peer, tx_packets) + count(peer, tx_dropped);
}

std::vector<Observer::Predecessor> Observer::predecessors() const {
  const std::lock_guard lock(mutex_);
  std::vector<Predecessor> found;
  if (!is_by_rank_ || attached_.empty()) return found;
  netns::run_inside(place_.space, [&] {
    for (const Attached& each : attached_) {
      if (each.at_receiver) continue;
      const Hook on = hook(each.side);
      const auto entries = hook::query(on).entries;
      const auto ours = std::find_if(entries.begin(), entries.end(),
                                     [&](const hook::Entry& entry) { return entry.program_id == each.program_id; });
      if (ours == entries.end()) continue;
      std::optional<uint64_t> sent_until_now;
      for (const hook::Entry& entry : std::span(entries.begin(), ours)) {
        const auto rank = hook::rank_of(entry);
        if (rank == Rank::firewall || rank == Rank::observer) continue;
        if (!sent_until_now) sent_until_now = sent(each.side);
        found.push_back({each.side, entry, hook::describe(on), *sent_until_now});
      }
    }
  });
  return found;
}

void Observer::detach() {
  const std::lock_guard lock(mutex_);
  is_detached_ = true;
  for (const Attached& each : attached_) each.link->detach();
}

void Observer::close() {
  const std::lock_guard lock(mutex_);
  for (const Attached& each : attached_) each.link->detach();
  let_go();
}

void Observer::let_go() {
  attached_.clear();
  verdicts_.reset();
  standby_.reset();
}

std::vector<uint32_t> Observer::program_ids() const {
  const std::lock_guard lock(mutex_);
  std::vector<uint32_t> ids;
  ids.reserve(attached_.size());
  for (const Attached& each : attached_) ids.push_back(each.program_id);
  return ids;
}

bool Observer::check() {
  const std::lock_guard lock(mutex_);
  if (is_detached_) return false;
  for (const Attached& each : attached_) is_gone_ = is_gone_ || !each.link->is_attached();
  if (is_gone_) {
    for (const Attached& each : attached_) each.link->detach();  // a forked child may hold the links too
    let_go();
    throw Error(ENODEV, observer_ + " " + place_.device,
                "the device or its network namespace was deleted, or somebody detached the program");
  }
  if (attached_.empty()) return false;
  try {
    netns::run_inside(place_.space, [&] { set_verdicts(); });
  } catch (const std::exception&) {
    // The primary was moved, or only others hold its namespace: still attached, so the last verdicts stay.
  }
  return has_blackhole_ || standby_.has_value();
}

}  // namespace netkit_bpf
