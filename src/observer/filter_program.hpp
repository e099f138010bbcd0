// SPDX-License-Identifier: MIT
// A filter in front of an observer: a program that is attached in place of the observer's own and runs it, by a tail
// call, on matching packets. Other packets cost only the filter. The verdict is the observer's in both cases.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <optional>
#include <span>

#include "base/fd.hpp"
#include "bpf/hook.hpp"
#include "bpf/program.hpp"

namespace netkit_bpf {

class FilterProgram {
 public:
  // The part behind a filter: the observer's program for one side, and the place of its verdict, a 32-bit cell in the
  // only value of a map. An observer that keeps its place has two copies of the program, each behind a filter of its
  // own: then also which one this is, and the place of the cell that says which one records.
  struct Observer {
    int program;
    Side side;
    int verdict_map;
    uint32_t verdict_offset;
    std::optional<uint32_t> recording_offset = std::nullopt;  // in the same map
    bool is_second = false;
  };

  // Loads the program. Throws std::invalid_argument for an invalid or too long classic program, VerifierError, or Error
  // with what the kernel refused. The observer's descriptors still belong to the caller and may be closed. `first` is
  // the filter before the first copy, if this is that before the second: of the packets that do not match, which pass
  // both, one of them counts each.
  FilterProgram(std::span<const sock_filter> classic, const Observer& observer, const FilterProgram* first = nullptr);

  // The program to attach. Once the filter is destroyed it matches nothing.
  [[nodiscard]] const Program& program() const noexcept { return program_; }

  // How many packets did not match; of two copies' filters the first has the number.
  [[nodiscard]] uint64_t filtered() const;

 private:
  Fd observer_;  // a program array of one
  Fd left_;      // of the first of two: on each CPU, whether the copy that waits left its packet to the one behind
  Fd filtered_;  // one counter per CPU
  Program program_;
};

}  // namespace netkit_bpf
