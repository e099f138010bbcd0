// SPDX-License-Identifier: MIT
// A BPF link: what holds a program on a hook.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "base/fd.hpp"
#include "bpf/hook.hpp"

namespace netkit_bpf {

class Program;

// Where among the programs of a hook a new one goes.
struct Placement {
  enum class Where : uint8_t { last, first, before, after };

  Where where = Where::last;
  // The anchor of before and after.
  bool is_link = false;
  uint32_t id = 0;
  // What the hook's revision must be; 0: whatever it is.
  uint64_t expected_revision = 0;
};

// Lets go of the link when it is destroyed; that detaches the program unless a pin or somebody else holds
// the link too. Any thread may call.
class Link {
 public:
  // From inside the hook's network namespace.
  Link(const Hook& hook, const Program& program, const Placement& placement);
  // Throws std::invalid_argument where something else is pinned at the path.
  explicit Link(const std::string& path);

  struct Info {
    uint32_t id = 0;
    uint32_t program_id = 0;
    Hook::Kind kind = Hook::Kind::netkit_primary;
    // 0 once the link holds nothing: the device is gone, or somebody detached the link. The peer hook's is
    // the peer's, in the peer's namespace.
    int ifindex = 0;
  };
  [[nodiscard]] Info info() const;
  [[nodiscard]] bool is_attached() const { return info().ifindex != 0; }

  // Puts another program in the place of the one that is there: each packet meets one of the two. With
  // `expected`, only if that program is the one there; throws ESTALE where it is not.
  void update(const Program& program, const Program* expected = nullptr);

  // Takes the program off at once, whoever else holds the link. Nothing happens where it is off already.
  void detach();

  // One path at a time. Throws std::invalid_argument where there is one already, and none to take away.
  void pin(const std::string& path);
  void unpin();
  [[nodiscard]] std::string pinned_at() const;

 private:
  [[nodiscard]] std::string name() const;

  Fd fd_;
  std::string place_;  // " on nk0 (peer)"; empty for one opened by its pin, whose device has no name here
  mutable std::mutex mutex_;
  std::string path_;
};

}  // namespace netkit_bpf
