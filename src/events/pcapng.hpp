// SPDX-License-Identifier: MIT
// The pcapng capture file format (draft-ietf-opsawg-pcapng): its blocks, appended to a string.
#pragma once

#include <netkit_bpf/event.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace netkit_bpf::pcapng {

// Begins a file, or another section of one. Interfaces are numbered from 0 in each.
void append_section(std::string& out, const std::string& application);

// All packets are Ethernet frames, and all times nanoseconds since 1970.
struct Interface {
  std::string name;
  std::string description;
  std::string filter;  // a pcap-filter(7) expression; empty for none
  uint32_t snaplen = 0;
};
void append_interface(std::string& out, const Interface& interface);

// A packet event with its data.
class Packet {
 public:
  // `record` is an nk_event followed by the packet's first bytes; the offset converts its timestamp to Unix time.
  // Throws std::invalid_argument if it is too short. The memory stays the caller's.
  Packet(std::span<const std::byte> record, int64_t clock_offset_ns);
  // Of an event whose timestamp is Unix time.
  Packet(const nk_event& event, std::span<const std::byte> data) : event_(event), data_(data) {}

  [[nodiscard]] size_t pair() const noexcept { return event_.pair; }
  [[nodiscard]] size_t side() const noexcept { return event_.side; }

  // Appends it as a packet that the interface sends; one of no pair, which was read from another program's file, as one
  // that it received, or without a direction. `dropped` is how many packets were lost since the interface's last one.
  void append_to(std::string& out, uint32_t interface, uint64_t dropped, bool is_of_pair = true) const;

 private:
  nk_event event_{};
  std::span<const std::byte> data_;
};

struct Statistics {
  uint64_t start_ns = 0;
  uint64_t end_ns = 0;
  uint64_t received = 0;  // by the hook, before the filter
  uint64_t accepted = 0;  // by the filter
  uint64_t dropped = 0;   // no room for them
  uint64_t delivered = 0;
};
void append_statistics(std::string& out, uint32_t interface, const Statistics& statistics);

}  // namespace netkit_bpf::pcapng
