// SPDX-License-Identifier: MIT
// A BPF link, which holds a program on a hook.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "base/fd.hpp"
#include "bpf/hook.hpp"

namespace netkit_bpf {

class Program;

// The place of a new program among the programs of a hook.
struct Placement {
  // By rank: behind the programs of lower ranks, else in front of all; the highest rank goes last.
  enum class Where : uint8_t { last, first, before, after, by_rank };

  Where where = Where::last;
  Rank rank = Rank::observer;
  // The anchor of before and after.
  bool is_link = false;
  uint32_t id = 0;
  // The revision that the hook must have; 0: any. By rank: the place is then chosen only once.
  uint64_t expected_revision = 0;
};

// Closes the link when it is destroyed; that detaches the program unless a pin or another process also holds the link.
// Any thread may call.
class Link {
 public:
  // To be called inside the hook's network namespace.
  Link(const Hook& hook, const Program& program, const Placement& placement);
  // Throws std::invalid_argument if something else is pinned at the path.
  explicit Link(const std::string& path);

  struct Info {
    uint32_t id = 0;
    uint32_t program_id = 0;
    Hook::Kind kind = Hook::Kind::netkit_primary;
    // 0 once the link holds nothing: the device is gone, or the link was detached. For the peer hook it is the peer's
    // ifindex, in the peer's namespace.
    int ifindex = 0;
  };
  [[nodiscard]] Info info() const;
  [[nodiscard]] bool is_attached() const { return info().ifindex != 0; }

  // Replaces the program: each packet is handled by one of the two. With `expected`, throws ESTALE if the link holds
  // another program.
  void update(const Program& program, const Program* expected = nullptr);

  // Detaches the program at once, even if others hold the link. Does nothing if it is detached already.
  void detach();

  // One path at a time. pin() throws std::invalid_argument if there is one already, unpin() if there is none.
  void pin(const std::string& path);
  void unpin();
  [[nodiscard]] std::string pinned_at() const;

 private:
  [[nodiscard]] std::string name() const;

  Fd fd_;
  std::string place_;  // " on nk0 (peer)"; empty if it was opened by its pin: then the device is unknown
  mutable std::mutex mutex_;
  std::string path_;
};

}  // namespace netkit_bpf
