// SPDX-License-Identifier: MIT
// From the clock that BPF programs read to Unix time.
#pragma once

#include <cstdint>

namespace netkit_bpf {

// For one thread.
class ClockOffset {
 public:
  ClockOffset();

  // CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds. Stays the same until the clocks have drifted by more than the
  // accuracy of the measurement, so that times of neighbouring blocks are comparable.
  int64_t now();
  // What BPF programs read now, in nanoseconds.
  [[nodiscard]] int64_t monotonic() const;

 private:
  int64_t namespace_ns_;  // how far this process's CLOCK_MONOTONIC is ahead of the kernel's
  int64_t offset_ = 0;
  bool known_ = false;
};

}  // namespace netkit_bpf
