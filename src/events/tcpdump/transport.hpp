// SPDX-License-Identifier: MIT
// What tcpdump(8) prints of a transport header.
#pragma once

#include <netkit_bpf/event.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "events/tcpdump/sequences.hpp"

namespace netkit_bpf {

// A packet behind its IP headers.
struct Transport {
  Bytes bytes;                     // what was captured of it
  std::optional<uint32_t> length;  // of all of it; nothing if that is not known
  bool is_cut = false;             // the packet was captured in part

  // Whether these bytes of it were on the wire, and were not captured.
  [[nodiscard]] bool lacks(size_t size) const { return is_cut && bytes.size() < size; }
};

// " [|tcp]": the rest was not captured.
void append_cut(std::string& out, std::string_view word);

// `with_seq`: the sequence number even if the segment takes none.
void append_tcp(std::string& out, const nk_event& event, const Transport& transport, TcpSequences::Base base,
                bool with_seq);
void append_tcp_quietly(std::string& out, const Transport& transport);
void append_icmp(std::string& out, const nk_event& event, const Transport& transport);
void append_icmpv6(std::string& out, const nk_event& event, const Transport& transport);

// ", length 64", if it is known.
void append_length(std::string& out, std::optional<uint32_t> length);

// The address at `offset` of the bytes, if it is there: of IPv4 (4) or of IPv6 (6).
void append_address_at(std::string& out, Bytes bytes, size_t offset, int family);
// A number in network order.
std::optional<uint32_t> number_at(Bytes bytes, size_t offset, size_t size);

}  // namespace netkit_bpf
