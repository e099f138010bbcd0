// SPDX-License-Identifier: MIT
#include "events/tcpdump/sequences.hpp"

#include <cstring>
#include <utility>

namespace netkit_bpf {

namespace {

constexpr uint8_t syn = 0x02;
constexpr uint8_t ack = 0x10;
constexpr size_t end_size = 18;  // an address and a port

using End = std::array<char, end_size>;

End end_of(const __u8 (&address)[16], uint16_t port) {
  End end{};
  std::memcpy(end.data(), &address[0], sizeof(address));
  std::memcpy(end.data() + sizeof(address), &port, sizeof(port));
  return end;
}

}  // namespace

TcpSequences::Base TcpSequences::base_of(const nk_event& event) {
  if ((event.tcp_flags & ack) == 0) return {};
  End first = end_of(event.src, event.src_port);
  End second = end_of(event.dst, event.dst_port);
  const bool reversed = second < first;
  if (reversed) std::swap(first, second);
  Key key{};
  std::memcpy(key.data(), first.data(), end_size);
  std::memcpy(key.data() + end_size, second.data(), end_size);

  const auto found = bases_.find(key);
  if (found == bases_.end() || (event.tcp_flags & syn) != 0) {
    if (bases_.size() >= most) bases_.clear();
    // What is acknowledged is one more than the other's first number.
    const Base base{event.tcp_seq, event.tcp_ack - 1};
    bases_[key] = reversed ? Base{base.ack, base.seq} : base;
    return {};
  }
  return reversed ? Base{found->second.ack, found->second.seq} : found->second;
}

}  // namespace netkit_bpf
