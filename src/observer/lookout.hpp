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
#include <string>
#include <tuple>
#include <vector>

#include "observer/observer.hpp"
#include "observer/observers.hpp"

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

  struct Found {
    Observers::Watched who;
    std::vector<Observer::Predecessor> programs;
  };
  // Looks at the hooks of the next one of the observers: of one each time, so that a thousand cost little more than
  // one. What an observer behind a filter did not count may have been filtered, so there it finds nothing.
  std::optional<Found> look(const std::vector<Observers::Watched>& observers);

  // Compares what was found with what had been seen of each side after that. Returns a warning of a program behind
  // which nothing was seen, though packets were sent, since it was looked at before; once for each.
  std::string judge(const Found& found, const std::array<uint64_t, 2>& seen);

  struct Hiding {
    size_t number;  // the observer's
    Side side;
    hook::Entry program;
    uint64_t unseen;  // packets that were sent meanwhile
  };
  // The programs behind which nothing was seen when they were last looked at.
  [[nodiscard]] std::vector<Hiding> hiding() const;

 private:
  struct Sighting {
    std::weak_ptr<const Observer> observer;
    size_t number;
    hook::Entry program;
    uint64_t seen;
    std::optional<uint64_t> sent = std::nullopt;  // after that was seen, while nothing more was: what comes between the
                                                  // two readings is no reason for a warning
    uint64_t unseen = 0;
    bool is_told = false;
  };
  using Key = std::tuple<const Observer*, Side, uint32_t>;  // a hook and a program

  std::atomic<Clock::rep> due_{(Clock::now() + interval).time_since_epoch().count()};
  mutable std::mutex mutex_;
  size_t next_ = 0;
  std::map<Key, Sighting> sightings_;
};

}  // namespace netkit_bpf
