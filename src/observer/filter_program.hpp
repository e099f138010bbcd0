// SPDX-License-Identifier: MIT
// A filter before an observer: a program that is attached in the place of the observer's own and runs it, by a tail
// call, on the packets that match. The others cost no more than the filter. The verdict is the observer's either way.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <span>

#include "base/fd.hpp"
#include "bpf/hook.hpp"
#include "bpf/program.hpp"

namespace netkit_bpf {

class FilterProgram {
 public:
  // What stands behind a filter: the observer's program for one side, and where it reads its verdict, a 32-bit cell in
  // the only value of a map.
  struct Observer {
    int program;
    Side side;
    int verdict_map;
    uint32_t verdict_offset;
  };

  // Loads the program. Throws std::invalid_argument for what is no classic program or too long a one, VerifierError, or
  // Error with what the kernel refused. The observer's descriptors stay the caller's and may be closed.
  FilterProgram(std::span<const sock_filter> classic, const Observer& observer);

  // The program to attach. It matches nothing any more once the filter is gone.
  [[nodiscard]] const Program& program() const noexcept { return program_; }

  // How many packets did not match.
  [[nodiscard]] uint64_t filtered() const;

 private:
  Fd observer_;  // a program array of one
  Fd filtered_;  // a counter a CPU
  Program program_;
};

}  // namespace netkit_bpf
