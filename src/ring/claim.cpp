// SPDX-License-Identifier: MIT
#include "ring/claim.hpp"

#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <set>
#include <stdexcept>
#include <utility>

namespace netkit_bpf {

struct Claims {
  const pid_t process = ::getpid();
  std::mutex mutex;
  std::set<uint32_t> ids;
};

namespace {

// The claims of this process. Never freed, because a claim may outlive everything. A forked child leaves those of its
// parent alone, because their mutex may be held by a thread that the child does not have.
Claims& own_claims() {
  static std::atomic<Claims*> current = nullptr;
  Claims* found = current.load();
  while (found == nullptr || found->process != ::getpid()) {
    auto made = std::make_unique<Claims>();
    if (current.compare_exchange_strong(found, made.get())) found = made.release();
  }
  return *found;
}

}  // namespace

RingClaim::RingClaim(uint32_t id, const std::string& name) : claims_(&own_claims()), id_(id) {
  const std::lock_guard lock(claims_->mutex);
  if (!claims_->ids.insert(id).second)
    throw std::invalid_argument("map '" + name + "' already has a reader: a ring buffer has one consumer");
}

RingClaim::RingClaim(RingClaim&& other) noexcept : claims_(std::exchange(other.claims_, nullptr)), id_(other.id_) {}

void RingClaim::release() noexcept {
  Claims* const claims = std::exchange(claims_, nullptr);
  if (claims == nullptr || claims->process != ::getpid()) return;
  const std::lock_guard lock(claims->mutex);
  claims->ids.erase(id_);
}

}  // namespace netkit_bpf
