// SPDX-License-Identifier: MIT
// The records of one or more BPF ring buffers, one by one or by the block, and their counts.
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

  // The thread that empties the rings; it may serve other streams too. Null: the threads that wait for records.
  std::shared_ptr<ReaderThread> reader;

  // The fields with the source of a record. `counts_map` is a per-CPU array map of nk_counts, by source: what each
  // source has seen and lost, in all groups; -1: there is none, or there are maps for groups (add_groups()).
  SourceField field;
  int counts_map = -1;

  // Called by the reader: at first, when `check_fd` becomes readable (-1: never), and, as long as it returns true, some
  // times a second. An exception ends the reading.
  std::function<bool()> check = [] { return false; };
  int check_fd = -1;
};

// While nothing is written, seen == delivered + lost + pending. Without a map of counts, seen and lost are zero.
struct SourceStats {
  uint64_t seen = 0;       // packets that the program was called for
  uint64_t delivered = 0;  // records handed out by next() and take()
  uint64_t lost = 0;       // records that found no room in the ring
  uint64_t pending = 0;    // records in the rings, in the queue and in the block at hand
};

struct StreamStats {
  std::vector<SourceStats> sources;
  std::vector<SourceStats> groups;  // the sources of each group, if there are maps of counts for groups
  size_t ring_fill = 0;             // bytes
  size_t queue_fill = 0;
  // Of the thread that empties the rings, for all streams that it serves.
  uint64_t naps = 0;
  uint64_t wakeups = 0;
};

// Consecutive records, owned by the caller: nothing else reads or writes them any more.
struct Slice {
  std::shared_ptr<const Block> block;  // holds the memory
  std::span<std::byte> run;            // each record behind its 8-byte header (struct Record)
  size_t records = 0;                  // discarded ones not counted
  // From each record to the next, so that record i has its data at run[i * stride + Record::header_size].
  // 0 if their sizes differ or there are discarded ones in between.
  size_t stride = 0;
  int64_t clock_offset_ns = 0;  // CLOCK_REALTIME minus CLOCK_MONOTONIC when they were read
};

// next(), take(), ended(), add_groups(), set_groups(), release_group() and stats() belong to one thread at a time; any
// may call the rest.
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

  // The next available record. Once there are none, throws the error that ended the reading.
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

  // The next available records, at most `most`, and only from one block: more would need a copy. Otherwise like next().
  std::optional<Slice> take(size_t most);

  // Gives back the records behind the first `taken` bytes of a slice from take(): they come next. So give back several
  // slices in reverse order.
  void put_back(const Slice& slice, size_t taken);

  // Waits until next() may have a record or an error; may return early. With a timeout of 0 it only looks at the rings.
  void wait(std::chrono::nanoseconds timeout);
  [[nodiscard]] bool ended();

  // A descriptor that is readable while next() has a record or an error, until a call that has neither.
  [[nodiscard]] int fileno();

  // Whether records were lost, as of some tenths of a second ago. Any thread may call it; it takes a nanosecond.
  [[nodiscard]] bool has_lost() const noexcept { return has_lost_.load(std::memory_order_relaxed); }

  // `counts` has the counts of the sources of so many further groups: a per-CPU array map of nk_counts. Throws
  // std::invalid_argument if it is another map.
  void add_groups(Fd counts, size_t groups);
  // How many of these groups there are now; to be called before there is a record of a new one.
  void set_groups(size_t groups);
  // To be called once nothing writes records of a group any more: makes its number free for another, and returns what
  // its sources had counted, which their sums keep. Empty while records of it were not handed out.
  std::optional<std::vector<SourceStats>> release_group(size_t group);

  StreamStats stats();
  // Ends the reading and wakes all waiting threads. Records that were not handed out stay pending for ever. Idempotent.
  void close();

 private:
  bool next_block();
  bool check();
  bool look_for_loss();
  [[nodiscard]] std::vector<SourceStats> read_groups() const;
  [[nodiscard]] std::vector<uint64_t> count_left() const;

  SourceField field_;
  const size_t sources_;
  const int counts_map_;
  struct Counts {
    Fd map;
    size_t groups;
  };
  std::mutex counting_;  // guards groups_
  std::vector<Counts> groups_;
  std::vector<SourceStats> released_;  // by source, of the groups that were released
  const std::shared_ptr<ReaderThread> reader_;
  const std::unique_ptr<Poller> inline_;  // without a reader
  Poller& poller_;
  std::mutex turning_;
  const std::function<bool()> check_;
  std::atomic<bool> has_lost_ = false;
  std::mutex watching_;
  Fd watched_;  // without a reader: an epoll instance, made when fileno() is called
  const std::shared_ptr<BlockQueue> queue_;

  struct Rest {
    std::shared_ptr<const Block> block;
    std::span<std::byte> run;
  };
  std::vector<Rest> returned_;  // a stack: the last one comes next
  std::shared_ptr<const Block> block_;
  std::byte* at_ = nullptr;  // the next record of block_
  std::byte* end_ = nullptr;
  std::vector<uint64_t> popped_;  // records by group and source, those of block_ included
};

}  // namespace netkit_bpf
