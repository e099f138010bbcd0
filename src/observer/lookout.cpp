// SPDX-License-Identifier: MIT
#include "observer/lookout.hpp"

#include <algorithm>
#include <exception>

#include "bpf/program.hpp"

namespace netkit_bpf {

std::optional<Lookout::Found> Lookout::look(const std::vector<Observers::Watched>& observers) {
  due_.store((Clock::now() + interval).time_since_epoch().count(), std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  std::erase_if(sightings_, [](const auto& each) { return each.second.observer.expired(); });
  if (observers.empty()) return std::nullopt;
  try {
    const Observers::Watched& next = observers[next_++ % observers.size()];
    if (!next.observer->sees_all()) return std::nullopt;
    return Found{next, next.observer->predecessors()};
  } catch (const std::exception&) {
    return std::nullopt;  // the device is gone, which whoever reads is told
  }
}

std::string Lookout::judge(const Found& found, const std::array<uint64_t, 2>& seen) {
  const std::lock_guard lock(mutex_);
  const Observer* const observer = found.who.observer.get();
  const auto has_left = [&](const auto& each) {
    const auto& [of, side, id] = each.first;
    return of == observer && std::ranges::none_of(found.programs, [&](const Observer::Predecessor& there) {
             return there.side == side && there.program.program_id == id;
           });
  };
  std::erase_if(sightings_, has_left);
  std::string warning;
  for (const Observer::Predecessor& each : found.programs) {
    const uint64_t seen_now = seen.at(static_cast<size_t>(each.side));
    const auto [at, is_new] =
        sightings_.try_emplace(Key{observer, each.side, each.program.program_id},
                               Sighting{found.who.observer, found.who.number, each.program, seen_now});
    Sighting& before = at->second;
    if (is_new) continue;
    if (seen_now != before.seen) {
      before.seen = seen_now;
      before.sent.reset();
      before.unseen = 0;
    } else if (!before.sent) {
      before.sent = each.sent;
    } else if (each.sent > *before.sent) {
      before.unseen = each.sent - *before.sent;
      if (before.is_told || !warning.empty()) continue;
      before.is_told = true;
      warning = program::describe(each.program.program_id) + " came in front on " + each.hook + ", and " +
                std::to_string(before.unseen) +
                " packets went by unseen: nothing behind a program runs on packets that it passes, drops or "
                "redirects. This warning is given once for each program";
    }
  }
  return warning;
}

std::vector<Lookout::Hiding> Lookout::hiding() const {
  const std::lock_guard lock(mutex_);
  std::vector<Hiding> found;
  for (const auto& [key, each] : sightings_) {
    if (each.unseen > 0 && !each.observer.expired())
      found.push_back({each.number, std::get<Side>(key), each.program, each.unseen});
  }
  return found;
}

}  // namespace netkit_bpf
