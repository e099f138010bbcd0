// SPDX-License-Identifier: MIT
#include "events/pcapng.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

namespace netkit_bpf::pcapng {

namespace {

enum : uint32_t {
  section_header_block = 0x0A0D0D0A,
  interface_description_block = 1,
  interface_statistics_block = 5,
  enhanced_packet_block = 6,
};

enum : uint16_t {
  opt_endofopt = 0,
  shb_hardware = 2,
  shb_os = 3,
  shb_userappl = 4,
  if_name = 2,
  if_description = 3,
  if_tsresol = 9,
  if_filter = 11,
  epb_flags = 2,
  epb_dropcount = 4,
  isb_starttime = 2,
  isb_endtime = 3,
  isb_ifrecv = 4,
  isb_ifdrop = 5,
  isb_filteraccept = 6,
  isb_usrdeliv = 8,
};

constexpr uint16_t linktype_ethernet = 1;
constexpr uint8_t nanoseconds = 9;  // 10 to the power of minus this
constexpr uint32_t inbound = 1, outbound = 2;
constexpr size_t longest_option = 0xffff;

// Numbers are in the writer's byte order, which the section header shows.
template <typename Number>
void put(std::string& out, Number value) {
  char bytes[sizeof(value)];
  std::memcpy(bytes, &value, sizeof(value));
  out.append(bytes, sizeof(value));
}

void pad(std::string& out) { out.append(-out.size() % 4, '\0'); }

// Timestamps are two halves, the upper one first.
void put_time(std::string& out, uint64_t time_ns) {
  put(out, static_cast<uint32_t>(time_ns >> 32));
  put(out, static_cast<uint32_t>(time_ns));
}

void put_option_header(std::string& out, uint16_t code, size_t length) {
  put(out, code);
  put(out, static_cast<uint16_t>(length));
}

void put_option(std::string& out, uint16_t code, const std::string& text) {
  if (text.empty()) return;
  const size_t length = std::min(text.size(), longest_option);
  put_option_header(out, code, length);
  out.append(text, 0, length);
  pad(out);
}

template <typename Number>
void put_option(std::string& out, uint16_t code, Number value) {
  put_option_header(out, code, sizeof(value));
  put(out, value);
  pad(out);
}

void put_option_time(std::string& out, uint16_t code, uint64_t time_ns) {
  put_option_header(out, code, sizeof(time_ns));
  put_time(out, time_ns);
}

// A block begins and ends with its length.
class BlockWriter {
 public:
  BlockWriter(std::string& out, uint32_t type) : out_(out), start_(out.size()) {
    put(out, type);
    put(out, uint32_t{0});
  }
  void end() {
    const auto length = static_cast<uint32_t>(out_.size() - start_ + sizeof(uint32_t));
    std::memcpy(&out_[start_ + sizeof(uint32_t)], &length, sizeof(length));
    put(out_, length);
  }

 private:
  std::string& out_;
  size_t start_;
};

}  // namespace

void append_section(std::string& out, const std::string& application) {
  utsname system{};
  uname(&system);
  BlockWriter block(out, section_header_block);
  put(out, uint32_t{0x1A2B3C4D});  // tells the byte order
  put(out, uint16_t{1});           // the version, 1.0
  put(out, uint16_t{0});
  put(out, int64_t{-1});  // the section's length is not known
  put_option(out, shb_hardware, std::string(system.machine));
  put_option(out, shb_os, std::string(system.sysname) + " " + system.release);
  put_option(out, shb_userappl, application);
  put_option_header(out, opt_endofopt, 0);
  block.end();
}

void append_interface(std::string& out, const Interface& interface) {
  BlockWriter block(out, interface_description_block);
  put(out, linktype_ethernet);
  put(out, uint16_t{0});
  put(out, interface.snaplen);
  put_option(out, if_name, interface.name);
  put_option(out, if_description, interface.description);
  put_option(out, if_tsresol, nanoseconds);
  if (!interface.filter.empty()) put_option(out, if_filter, '\0' + interface.filter);  // 0: a string for libpcap
  put_option_header(out, opt_endofopt, 0);
  block.end();
}

Packet::Packet(std::span<const std::byte> record, int64_t clock_offset_ns) {
  if (record.size() < sizeof(event_)) throw std::invalid_argument("a record is not a packet event");
  std::memcpy(&event_, record.data(), sizeof(event_));
  event_.timestamp += static_cast<uint64_t>(clock_offset_ns);
  data_ = record.subspan(sizeof(event_));
}

void Packet::append_to(std::string& out, uint32_t interface, uint64_t dropped, bool is_of_pair) const {
  const uint32_t tag = (event_.flags & NK_TAG_BESIDE) != 0 ? 4 : 0;
  BlockWriter block(out, enhanced_packet_block);
  put(out, interface);
  put_time(out, event_.timestamp);
  put(out, static_cast<uint32_t>(data_.size()));
  put(out, event_.length + tag);
  out.append(reinterpret_cast<const char*>(data_.data()), data_.size());
  pad(out);
  if (is_of_pair)
    put_option(out, epb_flags, outbound);
  else if (event_.side == NK_PEER)
    put_option(out, epb_flags, inbound);
  if (dropped != 0) put_option(out, epb_dropcount, dropped);
  put_option_header(out, opt_endofopt, 0);
  block.end();
}

void append_statistics(std::string& out, uint32_t interface, const Statistics& statistics) {
  BlockWriter block(out, interface_statistics_block);
  put(out, interface);
  put_time(out, statistics.end_ns);
  put_option_time(out, isb_starttime, statistics.start_ns);
  put_option_time(out, isb_endtime, statistics.end_ns);
  put_option(out, isb_ifrecv, statistics.received);
  put_option(out, isb_ifdrop, statistics.dropped);
  put_option(out, isb_filteraccept, statistics.accepted);
  put_option(out, isb_usrdeliv, statistics.delivered);
  put_option_header(out, opt_endofopt, 0);
  block.end();
}

}  // namespace netkit_bpf::pcapng
