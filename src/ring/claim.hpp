// SPDX-License-Identifier: MIT
// A ring buffer has one consumer: the second one of a process is refused. Nobody tells of those in other processes.
#pragma once

#include <cstdint>
#include <string>

namespace netkit_bpf {

struct Claims;

// Any thread may use it. A forked child has no claims of its parent's.
class RingClaim {
 public:
  // Of the map that the kernel knows by this number. Throws std::invalid_argument if this process has one already.
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
