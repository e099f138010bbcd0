// SPDX-License-Identifier: MIT
// Adds up what a program of <netkit_bpf/flow.h> keeps: the tables of all CPUs, and the flows that made room in them.
#pragma once

#include <netkit_bpf/flow.h>
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/fd.hpp"
#include "flows/flow_maps.hpp"
#include "flows/flow_sums.hpp"
#include "flows/flow_table.hpp"
#include "ring/clock_offset.hpp"
#include "ring/ring.hpp"

namespace netkit_bpf {

// Any thread may use it. A thread of its own empties the ring before it is full.
class FlowReader {
 public:
  struct Options {
    int sets = -1;  // descriptors of the maps, which the caller keeps
    int evicted = -1;
    int unattributed = -1;
    FlowTable::Names names;  // of the pairs
    size_t most_flows = 0;
    uint64_t jiffies = 0;  // at this time
    int64_t monotonic_ns = 0;
    // Called five times a second: what has to be looked after. One that throws is not called again.
    std::vector<std::function<void()>> checks;
  };

  explicit FlowReader(Options options);
  ~FlowReader();
  FlowReader(const FlowReader&) = delete;
  FlowReader& operator=(const FlowReader&) = delete;

  // Everything that was counted until now, each packet once. After close(), until then.
  // Throws Error where another program has read the ring.
  FlowTable snapshot();
  // Takes the last snapshot and ends the thread. Idempotent.
  void close();

 private:
  void run();
  void run_checks();
  void stop_thread();
  size_t drain(std::vector<nk_flow_record>* pending);
  void drain_all(std::vector<nk_flow_record>& pending);
  void copy_tables(FlowSums& sums, std::vector<uint32_t>& versions, std::vector<nk_flow_record>& pending);
  FlowTable take();
  [[nodiscard]] FlowRow to_row(const FlowSum& sum, int64_t realtime_offset) const;

  Options options_;
  int64_t tick_ns_;
  const pid_t owner_;
  std::unique_ptr<FlowMaps> maps_;  // null once it is closed

  std::mutex mutex_;            // of what follows
  std::unique_ptr<Ring> ring_;  // null once it is closed
  ClockOffset clock_;
  FlowSums sums_;
  std::exception_ptr failure_;
  std::optional<FlowTable> last_;

  Fd epoll_;
  Fd stop_;
  std::mutex thread_mutex_;
  std::unique_ptr<std::thread> thread_;  // last: it uses all of the above
};

}  // namespace netkit_bpf
