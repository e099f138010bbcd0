// SPDX-License-Identifier: MIT
// An observer's programs on the hooks of one pair.
//
// A policy holds only while no program is attached, and when every program says NEXT the packet passes.
// So an observer that is the last on the hook of a blackhole side must say DROP, and NEXT while other
// programs follow that may decide. Both can change while it is attached: check() looks again.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/mapping.hpp"
#include "base/netns.hpp"
#include "base/verdict.hpp"
#include "bpf/hook.hpp"
#include "bpf/link.hpp"

namespace netkit_bpf {

// The variable from which an observer's programs read what to return: an int32_t per side.
class VerdictCells {
 public:
  // In the section of global variables that the map `fd` is. Throws std::invalid_argument where the map
  // is none that can be written while programs run.
  VerdictCells(int fd, size_t offset);

  void set(Side side, Verdict verdict);

 private:
  static Mapping map(int fd, size_t offset);

  Mapping mapping_;
  int32_t* cells_;
};

class Observer {
 public:
  struct Place {
    std::string device;  // its name when it was attached
    int ifindex;
    netns::Namespace space;
  };

  // Attaches each side's program, if there is one, before all others of its hook. `observer` names it in
  // errors. Throws with nothing attached.
  Observer(std::string observer, Place place, const std::array<const Program*, 2>& programs, VerdictCells verdicts);

  // Sets the verdicts anew. Throws ENODEV once the device is gone. Any thread may call.
  void check();

  // Detaches: once this returns no packet is seen any more, even if a forked child holds the links too.
  // Idempotent; any thread may call.
  void close();

 private:
  void set_verdicts();
  [[nodiscard]] Hook hook(Side side) const;

  struct Attached {
    Side side;
    uint32_t program_id;
    std::unique_ptr<Link> link;
  };

  std::string observer_;
  Place place_;
  std::string kind_;  // the device's
  VerdictCells verdicts_;
  std::mutex mutex_;
  std::vector<Attached> attached_;
};

}  // namespace netkit_bpf
