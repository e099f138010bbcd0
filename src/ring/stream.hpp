// SPDX-License-Identifier: MIT
// The records of one or more BPF ring buffers, one by one or by the block, and the account of them.
#pragma once

#include <netkit_bpf/event.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/fd.hpp"
#include "ring/block.hpp"
#include "ring/ring.hpp"

namespace netkit_bpf {

class BlockQueue;
class Poller;
class ReaderThread;

struct StreamOptions {
  std::vector<int> rings;        // descriptors of the maps
  bool ordered = false;          // the records of all rings come in the order of their times: see Merge
  size_t queue_size = 16 << 20;  // bytes that may wait behind the rings

  // Who empties the rings: a thread, which may serve other streams too. Null: whoever waits for records.
  std::shared_ptr<ReaderThread> reader;

  // Which source a record is of. What each source has seen and lost is counted in an array map per CPU of
  // nk_counts by source; -1: there is none.
  SourceField field;
  int counts_map = -1;

  // Called some times a second by whoever reads; what it throws ends the reading.
  std::function<void()> check = [] {};
};

// At a quiet moment seen == delivered + lost + pending. Without a map of counts seen and lost are zero.
struct SourceStats {
  uint64_t seen = 0;       // what the program was called for
  uint64_t delivered = 0;  // records handed out by next() and take()
  uint64_t lost = 0;       // what found no room in the ring
  uint64_t pending = 0;    // records in the rings, in the queue and in the block at hand
};

struct StreamStats {
  std::vector<SourceStats> sources;
  size_t ring_fill = 0;  // bytes
  size_t queue_fill = 0;
  // Of whoever empties the rings, for all the streams that it serves.
  uint64_t naps = 0;
  uint64_t wakeups = 0;
};

// Consecutive records, the caller's own: no other part of the program reads or writes them any more.
struct Slice {
  std::shared_ptr<const Block> block;  // holds the memory
  std::span<std::byte> run;            // each record behind its 8-byte header (struct Record)
  size_t records = 0;                  // discarded ones not counted
  // From each record to the next, so that record i has its data at run[i * stride + Record::header_size].
  // 0 if their sizes differ or discarded ones lie between.
  size_t stride = 0;
  int64_t clock_offset_ns = 0;  // CLOCK_REALTIME minus CLOCK_MONOTONIC when they were read
};

// next(), take(), ended() and stats() belong to one thread at a time; any may call the rest.
class Stream {
 public:
  struct View {
    std::span<const std::byte> data;  // valid until the next call of next() or take()
    int64_t clock_offset_ns;
  };

  // The maps belong to the caller and outlive the stream.
  explicit Stream(const StreamOptions& options);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  // The next record that is there. Throws what ended the reading once all records are out.
  std::optional<View> next() {
    do {
      const Records rest({at_, end_});
      if (const Records::Iterator first = rest.begin(); first != Records::end()) {
        at_ += first->end() - at_;
        return View{first->data(), block_->clock_offset_ns};
      }
    } while (next_block());
    return std::nullopt;
  }

  // The next records that are there, at most `most` of them and only those of one block: no more are to be had
  // without a copy. Otherwise like next().
  std::optional<Slice> take(size_t most);

  // Gives back what is behind the first `taken` bytes, whole records, of a slice that take() gave: they come next. So
  // several slices are given back last one first.
  void put_back(const Slice& slice, size_t taken);

  // Waits until next() may have something to say; that can be too early. With no time looks at the rings.
  void wait(std::chrono::nanoseconds timeout);
  [[nodiscard]] bool ended();

  // A descriptor that is readable while next() has something to say, until it had nothing to say.
  [[nodiscard]] int fileno();

  // Whether records were lost, as of some tenths of a second ago. Any thread may ask, and it takes a nanosecond.
  [[nodiscard]] bool has_lost() const noexcept { return has_lost_.load(std::memory_order_relaxed); }

  StreamStats stats();
  // Ends the reading and wakes whoever waits. What was not handed out stays pending for ever. Idempotent.
  void close();

 private:
  bool next_block();
  void check();

  const SourceField field_;
  const int counts_map_;
  const std::shared_ptr<ReaderThread> reader_;
  const std::unique_ptr<Poller> inline_;  // without a reader
  Poller& poller_;
  std::mutex turning_;
  const std::function<void()> check_;
  std::atomic<bool> has_lost_ = false;
  std::mutex watching_;
  Fd watched_;  // without a reader: an epoll instance, made when fileno() is called
  const std::shared_ptr<BlockQueue> queue_;

  struct Rest {
    std::shared_ptr<const Block> block;
    std::span<std::byte> run;
  };
  std::vector<Rest> returned_;  // the last one is the next one
  std::shared_ptr<const Block> block_;
  std::byte* at_ = nullptr;  // the next record of block_
  std::byte* end_ = nullptr;
  std::vector<uint64_t> popped_;  // records by source, those of block_ included
};

}  // namespace netkit_bpf
