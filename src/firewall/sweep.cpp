// SPDX-License-Identifier: MIT
#include "firewall/sweep.hpp"

#include <algorithm>

namespace netkit_bpf::firewall {

std::vector<Boundary> sweep(Rows& rows, uint32_t base, std::span<const Group> groups) {
  struct Change {
    Address at;
    uint32_t group;
  };
  std::vector<Change> changes;
  for (uint32_t group = 0; group < groups.size(); ++group) {
    for (const Interval& interval : groups[group].intervals) {
      changes.push_back({interval.first, group});
      Address behind = interval.last;
      if (++behind.low == 0) ++behind.high;
      if (behind != Address{}) changes.push_back({behind, group});  // else it goes to the end
    }
  }
  std::ranges::sort(changes, {}, &Change::at);

  std::vector<bool> active(groups.size());
  std::vector<Boundary> all{{.first = {}, .row = 0}};
  rows.begin(base);
  size_t next = 0;
  for (;;) {
    // A group's intervals do not touch, and no rule is in two groups: each change sets or clears the group's rules.
    for (; next < changes.size() && changes[next].at == all.back().first; ++next) {
      const uint32_t group = changes[next].group;
      if (active[group])
        rows.clear(groups[group].rules);
      else
        rows.set(groups[group].rules);
      active[group] = !active[group];
    }
    all.back().row = rows.finish();
    if (all.size() > 1 && all[all.size() - 2].row == all.back().row) all.pop_back();
    if (next == changes.size()) return all;
    all.push_back({.first = changes[next].at, .row = 0});
  }
}

}  // namespace netkit_bpf::firewall
