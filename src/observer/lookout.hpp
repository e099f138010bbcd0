// SPDX-License-Identifier: MIT
// Notices when a program of somebody else that came in front of an observer's hides packets from it: nothing behind
// PASS, DROP and REDIRECT runs. The kernel does not tell who comes, so one looks, and compares what the devices count
// as sent with what the observer saw.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "observer/observer.hpp"

namespace netkit_bpf {

// Any thread may call.
class Lookout {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds interval{1};

  // Whether it is time to look again: once an interval.
  [[nodiscard]] bool is_due() const noexcept {
    return Clock::now().time_since_epoch().count() >= due_.load(std::memory_order_relaxed);
  }

  // Looks at the hooks of the next one of the observers: of one each time, so that a thousand cost little more than
  // one. What an observer behind a filter did not count may have been filtered, so there it finds nothing.
  std::vector<Observer::Predecessor> look(std::span<const std::shared_ptr<Observer>> observers);

  // Compares what was found, if anything was, with what had been seen of each side after that. Returns a warning of a
  // program behind which nothing was seen, though packets were sent, since it was looked at before; once for each.
  std::string judge(const std::vector<Observer::Predecessor>& found, const std::array<uint64_t, 2>& seen);

 private:
  struct Sighting {
    uint64_t seen;
    std::optional<uint64_t> sent = std::nullopt;  // after that was seen, while nothing more was: what comes between the
                                                  // two readings is no reason for a warning
    bool is_told = false;
  };

  std::atomic<Clock::rep> due_{(Clock::now() + interval).time_since_epoch().count()};
  std::mutex mutex_;
  size_t next_ = 0;
  std::map<std::tuple<const Observer*, Side, uint32_t>, Sighting> sightings_;  // by hook and program
};

}  // namespace netkit_bpf
