// SPDX-License-Identifier: MIT
// The tables of <netkit_bpf/flow.h>, read while a program writes them.
#pragma once

#include <netkit_bpf/flow.h>

#include <cstddef>
#include <vector>

#include "base/mapping.hpp"

namespace netkit_bpf {

// Immutable; any thread may use it.
class FlowMaps {
 public:
  // Descriptors of the maps, which the caller keeps. Throws std::invalid_argument if they are others.
  FlowMaps(int sets, int unattributed, size_t pairs);

  // As many as the numbers of CPUs go up to: some may be missing.
  [[nodiscard]] size_t cpus() const noexcept { return cpus_; }
  [[nodiscard]] size_t sets_per_cpu() const noexcept { return sets_per_cpu_; }
  // A set as it is at one moment, the CPUs' sets one after the other; false if it never held a flow.
  bool copy(size_t set, nk_flow_set& own) const;
  // What is not attributed, of each pair and side.
  [[nodiscard]] std::vector<nk_flow_unattributed> unattributed(size_t cpu) const;

 private:
  size_t rows_;  // of a CPU: a pair and a side each
  size_t cpus_;
  size_t sets_per_cpu_;
  Mapping sets_;
  Mapping unattributed_;
};

}  // namespace netkit_bpf
