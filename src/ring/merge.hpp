// SPDX-License-Identifier: MIT
// The records of several rings as one sequence, in the order of their times.
//
// Each CPU fills a ring of its own. Its records begin with their time (uint64_t, nanoseconds of the kernel's
// CLOCK_MONOTONIC), which it reads after the record has its place in the ring, and before the next one has. So a reader
// that first takes the time, and then looks how far the rings are filled, has seen all records up to that time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ring/block.hpp"
#include "ring/clock_offset.hpp"
#include "ring/records.hpp"
#include "ring/ring.hpp"

namespace netkit_bpf {

// One thread at a time. Records are copied only into the blocks; those that cannot be ordered yet stay in the rings.
class Merge {
 public:
  // Both outlive it.
  Merge(std::vector<Ring>& rings, const ClockOffset& clock);

  // Examines the rings. Until the next look, records older than any that may still come can be drained. False if the
  // next record, too, will be old enough in a microsecond.
  bool look();
  // The bytes that the next record takes in a block; 0 if there is none.
  [[nodiscard]] size_t next_size() const;
  // Like Ring::drain(), for all rings. Discarded records are not copied.
  size_t drain(Block& block, size_t limit, const SourceField& field);

 private:
  // A ring's records that were there at the last look.
  struct Lane {
    Records::Iterator next;
    const std::byte* freed = nullptr;  // end of the drained ones
    const std::byte* end = nullptr;
  };
  struct Next {
    uint64_t time;
    size_t ring;
  };
  [[nodiscard]] uint64_t time_of(const Record& record, size_t ring) const;
  static bool is_later(const Next& one, const Next& other);
  void free_room();

  std::vector<Ring>& rings_;
  const ClockOffset& clock_;
  uint64_t bound_ = 0;      // records up to this time are complete
  std::vector<Next> next_;  // a heap: the earliest is the first; a ring without records has none
  // By ring.
  std::vector<Lane> lanes_;
  std::vector<uint64_t> newest_;  // the time of what was drained last
  struct Drained {
    size_t length = 0;
    size_t last = 0;  // bytes of the last record
  };
  std::vector<Drained> drained_;
};

}  // namespace netkit_bpf
