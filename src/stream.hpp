// SPDX-License-Identifier: MIT
// The packet events of a monitor, one by one, and the account of every packet seen.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>

#include "../bpf/event.h"
#include "reader.hpp"

namespace netkit_bpf {

// At a quiet moment seen == delivered + lost + pending.
struct SideStats {
  uint64_t seen = 0;       // packets that reached the hook
  uint64_t delivered = 0;  // events handed out by next()
  uint64_t lost = 0;       // packets that found no room in the ring
  uint64_t pending = 0;    // events in the ring, in the queue and in the block at hand
};
using Stats = std::array<SideStats, NK_SIDES>;

// next() and stats() belong to one thread at a time; wait() and close() may be called from any.
class Stream {
 public:
  struct Event {
    const nk_event* record;  // valid until the next call of next()
    int64_t clock_offset_ns;
  };

  // Both maps belong to the caller and outlive the stream.
  Stream(int ring_map, size_t ring_size, size_t queue_size, int counts_map, std::function<void()> check);

  // The next event that is there. Throws what ended the reading once all events are out.
  std::optional<Event> next();
  // Waits until next() may have something to say. False on time-out.
  bool wait(std::optional<std::chrono::nanoseconds> timeout) { return reader_.wait(timeout); }
  [[nodiscard]] bool ended() { return at_ == block_.run.size() && reader_.ended(); }

  Stats stats();
  // Ends the reading and wakes whoever waits. What was not handed out stays pending for ever. Idempotent.
  void close() { reader_.close(); }

 private:
  const int counts_map_;
  std::array<uint64_t, NK_SIDES> delivered_{};
  Block block_;
  size_t at_ = 0;  // where the next record of block_ begins
  Reader reader_;
};

}  // namespace netkit_bpf
