// SPDX-License-Identifier: MIT
// A packet event as tcpdump(8) prints a packet.
//
// Addresses, ports, flags and types come from the record. What a record does not hold comes from the packet's first
// bytes, if they are there: the length of a TCP segment and its options, Ethernet addresses, what ARP and neighbour
// discovery ask for. Payloads are not decoded, names not looked up, checksums not verified.
#pragma once

#include <netkit_bpf/event.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "events/tcpdump/sequences.hpp"
#include "events/tcpdump/time.hpp"

namespace netkit_bpf {

struct TcpdumpOptions {
  enum class Dump : uint8_t { none, characters, hex, both };

  LineTime::Style time = LineTime::Style::clock;
  bool nanoseconds = false;
  bool number = false;    // --number
  bool link = false;      // -e
  bool quiet = false;     // -q
  bool absolute = false;  // -S
  int verbose = 0;        // how many -v
  Dump dump = Dump::none;
  bool dump_link = false;  // with the Ethernet header
  bool color = false;
};

class TcpdumpLines {
 public:
  explicit TcpdumpLines(const TcpdumpOptions& options) : options_(options), time_(options.time, options.nanoseconds) {}

  // Appends the packet's line, and those of -v and -x, with a new line at the end. The timestamp is Unix time; `data`
  // the packet's first bytes; `pair` what stands in front of the side, if anything. Without a side, as for packets of a
  // file that tells of none, neither is written.
  void append(std::string& out, const nk_event& event, Bytes data, std::string_view pair, bool with_side);

 private:
  void append_source(std::string& out, const nk_event& event, std::string_view pair) const;
  void append_dump(std::string& out, Bytes data) const;

  TcpdumpOptions options_;
  LineTime time_;
  TcpSequences sequences_;
  uint64_t count_ = 0;
};

}  // namespace netkit_bpf
