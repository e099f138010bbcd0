// SPDX-License-Identifier: MIT
// TCP in the words of tcpdump 4.99: print-tcp.c.
#include <algorithm>
#include <array>
#include <utility>

#include "events/summary_line.hpp"
#include "events/tcpdump/transport.hpp"
#include "events/text.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t tcp_header = 20;
constexpr size_t offset_of_data_offset = 12;
constexpr size_t offset_of_urgent = 18;

void append_flags(std::string& out, uint8_t flags) {
  constexpr std::array<char, 8> letters{'F', 'S', 'R', 'P', '.', 'U', 'E', 'W'};
  out += "Flags [";
  for (size_t bit = 0; bit < letters.size(); ++bit)
    if ((flags >> bit & 1) != 0) out += letters.at(bit);
  if (flags == 0) out += "none";
  out += ']';
}

std::optional<size_t> tcp_header_length(Bytes bytes) {
  const auto offset = number_at(bytes, offset_of_data_offset, 1);
  if (!offset || *offset >> 4 < tcp_header / 4) return std::nullopt;
  return size_t{*offset >> 4} * 4;
}

std::optional<uint32_t> tcp_payload(const Transport& transport) {
  const auto header = tcp_header_length(transport.bytes);
  if (!header || !transport.length || *transport.length < *header) return std::nullopt;
  return *transport.length - static_cast<uint32_t>(*header);
}

void append_sack(std::string& out, Bytes blocks, uint32_t base) {
  out += "sack ";
  append_decimal(out, blocks.size() / 8);
  out += ' ';
  for (size_t at = 0; at + 8 <= blocks.size(); at += 8) {
    out += '{';
    append_decimal(out, number_at(blocks, at, 4).value_or(0) - base);
    out += ':';
    append_decimal(out, number_at(blocks, at + 4, 4).value_or(0) - base);
    out += '}';
  }
}

// `value` is what follows kind and length.
void append_tcp_option(std::string& out, uint8_t kind, Bytes value, uint32_t ack_base) {
  enum : uint8_t { mss = 2, window_scale = 3, sack_permitted = 4, sack = 5, timestamps = 8 };
  if (kind == mss && value.size() == 2) {
    out += "mss ";
    append_decimal(out, number_at(value, 0, 2).value_or(0));
  } else if (kind == window_scale && value.size() == 1) {
    out += "wscale ";
    append_decimal(out, value[0]);
  } else if (kind == sack_permitted && value.empty()) {
    out += "sackOK";
  } else if (kind == sack && value.size() % 8 == 0) {
    append_sack(out, value, ack_base);
  } else if (kind == timestamps && value.size() == 8) {
    out += "TS val ";
    append_decimal(out, number_at(value, 0, 4).value_or(0));
    out += " ecr ";
    append_decimal(out, number_at(value, 4, 4).value_or(0));
  } else {
    out += "unknown-";
    append_decimal(out, kind);
    if (!value.empty()) out += " 0x";
    for (const uint8_t byte : value) append_hex(out, byte, 2);
  }
}

// `options` has what was captured of the header's `size` bytes. False if that is not all that there is to be said.
bool append_tcp_options(std::string& out, Bytes options, size_t size, uint32_t ack_base) {
  const auto cut = [&] {
    append_cut(out, "tcp");
    return false;
  };
  const char* between = ", options [";
  for (size_t at = 0; at < size;) {
    out += std::exchange(between, ",");
    if (at >= options.size()) return cut();
    const uint8_t kind = options[at];
    if (kind == 0) {
      out += "eol";
      break;
    }
    if (kind == 1) {
      out += "nop";
      ++at;
      continue;
    }
    if (at + 1 < size && at + 1 >= options.size()) return cut();
    const size_t length = at + 1 < size ? options[at + 1] : 0;
    if (length < 2 || at + length > size) {
      out += "bad opt";
      break;
    }
    if (at + length > options.size()) return cut();
    append_tcp_option(out, kind, options.subspan(at + 2, length - 2), ack_base);
    at += length;
  }
  out += ']';
  return true;
}

}  // namespace

void append_tcp(std::string& out, const nk_event& event, const Transport& transport, TcpSequences::Base base,
                bool with_seq) {
  enum : uint8_t { fin = 1, syn = 2, rst = 4, ack = 0x10, urg = 0x20 };
  const std::optional<uint32_t> payload = tcp_payload(transport);
  const uint32_t length = payload.value_or(0);
  append_flags(out, event.tcp_flags);
  if (with_seq || length > 0 || (event.tcp_flags & (fin | syn | rst)) != 0) {
    out += ", seq ";
    append_decimal(out, event.tcp_seq - base.seq);
    if (length > 0) {
      out += ':';
      append_decimal(out, event.tcp_seq - base.seq + length);
    }
  }
  if ((event.tcp_flags & ack) != 0) {
    out += ", ack ";
    append_decimal(out, event.tcp_ack - base.ack);
  }
  out += ", win ";
  append_decimal(out, event.tcp_window);
  if (const auto urgent = number_at(transport.bytes, offset_of_urgent, 2); urgent && (event.tcp_flags & urg) != 0) {
    out += ", urg ";
    append_decimal(out, *urgent);
  }
  if (transport.lacks(tcp_header)) {
    append_cut(out, "tcp");
    return;
  }
  const size_t header = tcp_header_length(transport.bytes).value_or(0);
  if (header > tcp_header && (header <= transport.bytes.size() || transport.lacks(header))) {
    const Bytes captured = transport.bytes.first(std::min(header, transport.bytes.size())).subspan(tcp_header);
    if (!append_tcp_options(out, captured, header - tcp_header, base.ack)) return;
  }
  append_length(out, payload);
}

void append_tcp_quietly(std::string& out, const Transport& transport) {
  out += "tcp";
  if (const auto length = tcp_payload(transport)) {
    out += ' ';
    append_decimal(out, *length);
  }
}

}  // namespace netkit_bpf
