// SPDX-License-Identifier: MIT
#include "observer/lookout.hpp"

#include <exception>

#include "bpf/program.hpp"

namespace netkit_bpf {

std::vector<Observer::Predecessor> Lookout::look(std::span<const std::shared_ptr<Observer>> observers) {
  due_.store((Clock::now() + interval).time_since_epoch().count(), std::memory_order_relaxed);
  if (observers.empty()) return {};
  const std::lock_guard lock(mutex_);
  try {
    const Observer& observer = *observers[next_++ % observers.size()];
    return observer.sees_all() ? observer.predecessors() : std::vector<Observer::Predecessor>();
  } catch (const std::exception&) {
    return {};  // the device is gone, and reading ends with that error
  }
}

std::string Lookout::judge(const std::vector<Observer::Predecessor>& found, const std::array<uint64_t, 2>& seen) {
  const std::lock_guard lock(mutex_);
  for (const Observer::Predecessor& each : found) {
    const uint64_t seen_now = seen.at(static_cast<size_t>(each.side));
    const auto [at, is_new] =
        sightings_.try_emplace({each.observer, each.side, each.program.program_id}, Sighting{seen_now});
    Sighting& before = at->second;
    if (is_new || before.is_told) continue;
    if (seen_now != before.seen) {
      before = {seen_now};
    } else if (!before.sent) {
      before.sent = each.sent;
    } else if (each.sent > *before.sent) {
      before.is_told = true;
      return program::describe(each.program.program_id) + " came in front on " + each.hook + ", and " +
             std::to_string(each.sent - *before.sent) +
             " packets went by unseen: nothing behind a program runs on packets that it passes, drops or redirects. "
             "This warning is given once for each program";
    }
  }
  return {};
}

}  // namespace netkit_bpf
