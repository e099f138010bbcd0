// SPDX-License-Identifier: MIT
#include "ring/clock_offset.hpp"

#include <cstdlib>
#include <ctime>
#include <fstream>
#include <limits>
#include <string>

namespace netkit_bpf {

namespace {

constexpr int attempts = 3;
constexpr int64_t good_enough = 200;  // ns between the two outer reads

int64_t read(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// BPF programs read the kernel's clock; in a time namespace the clock of this process differs (time_namespaces(7)).
int64_t read_namespace() {
  std::ifstream file("/proc/self/timens_offsets");
  std::string clock;
  int64_t seconds = 0;
  int64_t nanoseconds = 0;
  while (file >> clock >> seconds >> nanoseconds)
    if (clock == "monotonic") return seconds * 1'000'000'000 + nanoseconds;
  return 0;  // the kernel knows no time namespaces
}

}  // namespace

ClockOffset::ClockOffset() : namespace_ns_(read_namespace()) {}

int64_t ClockOffset::now() {
  // A thread that is interrupted between two reads measures its own pause, so the tightest attempt counts.
  int64_t offset = 0;
  int64_t width = std::numeric_limits<int64_t>::max();
  for (int i = 0; i < attempts && width > good_enough; ++i) {
    const int64_t before = read(CLOCK_MONOTONIC);
    const int64_t real = read(CLOCK_REALTIME);
    const int64_t after = read(CLOCK_MONOTONIC);
    if (after - before >= width) continue;
    width = after - before;
    offset = real - before - width / 2 + namespace_ns_;
  }
  if (!known_ || std::abs(offset - offset_) > width) {
    offset_ = offset;
    known_ = true;
  }
  return offset_;
}

int64_t ClockOffset::monotonic() const { return read(CLOCK_MONOTONIC) - namespace_ns_; }

}  // namespace netkit_bpf
