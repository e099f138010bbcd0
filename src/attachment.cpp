// SPDX-License-Identifier: MIT
#include "attachment.hpp"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "device.hpp"
#include "error.hpp"
#include "netkit.hpp"
#include "netns.hpp"
#include "object.hpp"

namespace netkit_bpf {

namespace {

constexpr int32_t verdict_next = -1;
constexpr int32_t verdict_drop = 2;

}  // namespace

Attachment::Attachment(std::shared_ptr<Object> object, std::string device, int ifindex, std::string netns,
                       const std::vector<Side>& sides)
    : object_(std::move(object)),
      device_(std::move(device)),
      ifindex_(ifindex),
      netns_(std::move(netns)),
      sides_(sides) {
  netns::run_inside(netns_, [&] {
    Netlink netlink("");
    family_ = hook::family_of(device::get(netlink, ifindex_).kind);
    set_verdicts();
    for (const Side side : sides_) {
      links_.push_back(hook::attach_first(program(side), ifindex_, family_, side, device_));
    }
    set_verdicts();  // somebody may have come between
  });
}

// The program of this side, which is on its hook or about to be its first.
int Attachment::program(Side side) const { return object_->program(std::string("monitor_") + name_of(side)); }

void Attachment::set_verdicts() {
  Netlink netlink("");
  const NetkitAttributes netkit = device::get(netlink, ifindex_).netkit;
  constexpr auto blackhole = static_cast<uint32_t>(netkit::Policy::blackhole);
  std::array<int32_t, 2> verdicts{verdict_next, verdict_next};
  for (const Side side : sides_) {
    const auto policy = side == Side::primary ? netkit.policy : netkit.peer_policy;
    if (policy != blackhole) continue;
    const std::vector<uint32_t> ids = hook::query(ifindex_, family_, side).ids;
    if (ids.empty() || ids.back() == hook::program_id(program(side)))
      verdicts[static_cast<size_t>(side)] = verdict_drop;
  }
  std::vector<uint8_t> bytes(sizeof(verdicts));
  std::memcpy(bytes.data(), verdicts.data(), sizeof(verdicts));
  if (bytes == verdicts_) return;
  object_->set_section(".data", bytes);
  verdicts_ = std::move(bytes);
}

void Attachment::close() {
  const std::lock_guard lock(mutex_);
  const std::vector<Fd> links = std::exchange(links_, {});
  for (const Fd& link : links) hook::detach(link.get());
}

void Attachment::check() {
  const std::lock_guard lock(mutex_);
  if (links_.empty()) return;
  for (const Fd& link : links_) {
    if (!hook::is_attached(link.get()))
      throw Error(ENODEV, "monitor " + device_, "the device or its network namespace was deleted");
  }
  try {
    netns::run_inside(netns_, [&] { set_verdicts(); });
  } catch (const Error&) {
    // The primary was moved, or its namespace lost its name: still attached, and the last verdicts stand.
  }
}

}  // namespace netkit_bpf
