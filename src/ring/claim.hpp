// SPDX-License-Identifier: MIT
// A ring buffer has one consumer: a second one in the same process is refused. Consumers in other processes are
// unknown.
#pragma once

#include <cstdint>
#include <string>

namespace netkit_bpf {

struct Claims;

// Any thread may use it. A forked child does not have its parent's claims.
class RingClaim {
 public:
  // Claims the map with this id. Throws std::invalid_argument if this process has claimed it already.
  RingClaim(uint32_t id, const std::string& name);
  RingClaim(RingClaim&& other) noexcept;
  RingClaim& operator=(RingClaim&&) = delete;
  RingClaim(const RingClaim&) = delete;
  RingClaim& operator=(const RingClaim&) = delete;
  ~RingClaim() { release(); }

  // Idempotent.
  void release() noexcept;

 private:
  Claims* claims_;  // null: released
  uint32_t id_;
};

}  // namespace netkit_bpf
