// SPDX-License-Identifier: MIT
// What is added up of flows, in bounded memory.
#pragma once

#include <netkit_bpf/event.h>
#include <netkit_bpf/flow.h>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "flows/key_index.hpp"

namespace netkit_bpf {

// A flow as it is in a set, in a record and in a sum.
struct FlowSum {
  nk_flow flow{};
  nk_flow_start start{};
  uint64_t last = 0;  // jiffies
  uint8_t tcp_flags = 0;
};

class FlowSums {
 public:
  static constexpr size_t unlimited = std::numeric_limits<size_t>::max();

  // Of `pairs` pairs. Of more than `most` flows those are let go of that were seen longest ago: they are counted in
  // the rows of what is not attributed.
  FlowSums(size_t pairs, size_t most) : most_(most), unattributed_(pairs * NK_SIDES) {}

  void add(const FlowSum& sum);
  // Faster than one by one: what they are added to is fetched some at a time.
  void add(std::span<const FlowSum> sums);
  void add_unattributed(size_t row, const nk_flow_unattributed& sum);

  [[nodiscard]] std::span<const FlowSum> flows() const noexcept { return flows_; }
  // By pair and side.
  [[nodiscard]] std::span<const nk_flow_unattributed> unattributed() const noexcept { return unattributed_; }

 private:
  void forget_oldest();

  size_t most_;
  std::vector<FlowSum> flows_;
  KeyIndex<nk_flow_key> index_;
  std::vector<nk_flow_unattributed> unattributed_;
};

}  // namespace netkit_bpf
