// SPDX-License-Identifier: MIT
// An observer's programs on the two hooks of one pair.
//
// A policy holds only while no program is attached, and when every program says NEXT the packet passes.
// So an observer that is the last on the hook of a blackhole side must say DROP, and NEXT while other
// programs follow that may decide. Both can change while it is attached: check() looks again.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "handle.hpp"
#include "hook.hpp"

namespace netkit_bpf {

class Object;

class Attachment {
 public:
  // `object` is loaded and has the programs monitor_primary and monitor_peer and the verdicts of both
  // sides in its section .data. Throws with nothing attached.
  Attachment(std::shared_ptr<Object> object, std::string device, int ifindex, std::string netns,
             const std::vector<Side>& sides);

  // Sets the verdicts anew. Throws ENODEV once the device is gone. Any thread may call.
  void check();

  // Detaches: once this returns no packet is seen any more. Idempotent; any thread may call.
  void close();

 private:
  [[nodiscard]] int program(Side side) const;
  void set_verdicts();

  std::shared_ptr<Object> object_;
  std::string device_;
  int ifindex_;
  hook::Family family_ = hook::Family::netkit;
  std::string netns_;
  std::vector<Side> sides_;
  std::vector<uint8_t> verdicts_;
  std::mutex mutex_;
  std::vector<Fd> links_;
};

}  // namespace netkit_bpf
