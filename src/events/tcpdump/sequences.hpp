// SPDX-License-Identifier: MIT
// Sequence numbers of TCP as distances from the first of their connection, as tcpdump shows them.
#pragma once

#include <netkit_bpf/event.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>

namespace netkit_bpf {

class TcpSequences {
 public:
  // What is subtracted from the numbers of one segment.
  struct Base {
    uint32_t seq = 0;
    uint32_t ack = 0;
  };

  // The first segment with an acknowledgement begins a connection, and so does each with SYN: their own numbers are
  // shown whole. A segment without an acknowledgement is shown whole too.
  Base base_of(const nk_event& event);

 private:
  using Key = std::array<char, 36>;  // both addresses and ports, the lower one first
  struct Hash {
    size_t operator()(const Key& key) const noexcept {
      return std::hash<std::string_view>{}(std::string_view(key.data(), key.size()));
    }
  };
  static constexpr size_t most = 65536;  // connections; then all are forgotten, and their numbers are shown whole again

  std::unordered_map<Key, Base, Hash> bases_;
};

}  // namespace netkit_bpf
