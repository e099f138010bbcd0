// SPDX-License-Identifier: MIT
// ICMP in the words of tcpdump 4.99: print-icmp.c and print-icmp6.c.
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <span>
#include <string_view>
#include <utility>

#include "events/summary_line.hpp"
#include "events/tcpdump/transport.hpp"
#include "events/text.hpp"

namespace netkit_bpf {

namespace {

using namespace std::string_view_literals;

using Name = std::pair<unsigned, std::string_view>;

std::string_view name_of(std::span<const Name> names, unsigned value) {
  const auto found = std::ranges::find(names, value, &Name::first);
  return found == names.end() ? std::string_view() : found->second;
}

constexpr std::array icmp_names{
    Name{0, "echo reply"sv},           Name{3, "unreachable"sv},
    Name{4, "source quench"sv},        Name{5, "redirect"sv},
    Name{8, "echo request"sv},         Name{9, "router advertisement"sv},
    Name{10, "router solicitation"sv}, Name{11, "time exceeded"sv},
    Name{12, "parameter problem"sv},   Name{13, "time stamp request"sv},
    Name{14, "time stamp reply"sv},    Name{15, "information request"sv},
    Name{16, "information reply"sv},   Name{17, "address mask request"sv},
    Name{18, "address mask reply"sv},
};

constexpr std::array icmpv6_names{
    Name{1, "destination unreachable"sv},
    Name{2, "packet too big"sv},
    Name{3, "time exceeded"sv},
    Name{4, "parameter problem"sv},
    Name{128, "echo request"sv},
    Name{129, "echo reply"sv},
    Name{130, "multicast listener query"sv},
    Name{131, "multicast listener report"sv},
    Name{132, "multicast listener done"sv},
    Name{133, "router solicitation"sv},
    Name{134, "router advertisement"sv},
    Name{135, "neighbor solicitation"sv},
    Name{136, "neighbor advertisement"sv},
    Name{137, "redirect"sv},
    Name{138, "router renumbering"sv},
    Name{143, "multicast listener report v2"sv},
};

constexpr std::array icmpv6_unreachable{
    Name{0, "unreachable route"sv},   Name{1, "unreachable prohibited"sv}, Name{2, "beyond scope"sv},
    Name{3, "unreachable address"sv}, Name{4, "unreachable port"sv},
};

constexpr size_t icmp_quote = 8;  // where an ICMP error quotes the packet that it is about
constexpr size_t ipv4_dst = icmp_quote + 16;
constexpr size_t ipv6_dst = icmp_quote + 24;

void append_echo(std::string& out, const nk_event& event) {
  out += ", id ";
  append_decimal(out, event.icmp_id);
  out += ", seq ";
  append_decimal(out, event.icmp_seq);
}

std::string_view word_of_protocol(uint32_t number) {
  if (number == IPPROTO_TCP) return "tcp";
  return number == IPPROTO_UDP ? "udp"sv : std::string_view();
}

// "192.0.2.1 udp port 53 unreachable"
void append_port_unreachable(std::string& out, Bytes bytes) {
  const uint32_t header = (number_at(bytes, icmp_quote, 1).value_or(0) & 0xf) * 4;
  const uint32_t protocol = number_at(bytes, icmp_quote + 9, 1).value_or(0);
  const auto port = number_at(bytes, icmp_quote + header + 2, 2);
  append_address_at(out, bytes, ipv4_dst, 4);
  if (const std::string_view word = word_of_protocol(protocol); !word.empty() && port) {
    out += ' ';
    out += word;
  } else {
    out += " protocol ";
    append_decimal(out, protocol);
  }
  if (port) {
    out += " port ";
    append_decimal(out, *port);
  }
  out += " unreachable";
}

void append_icmp_unreachable(std::string& out, uint16_t code, Bytes bytes) {
  enum : uint8_t {
    net = 0,
    host = 1,
    protocol = 2,
    port = 3,
    need_to_fragment = 4,
    host_prohibited = 10,
    filtered = 13
  };
  if (bytes.size() < ipv4_dst + 4) {
    out += "unreachable";
    return;
  }
  if (code == port) {
    append_port_unreachable(out, bytes);
    return;
  }
  if (code == net) out += "net ";
  if (code == host || code == host_prohibited || code == filtered) out += "host ";
  append_address_at(out, bytes, ipv4_dst, 4);
  if (code == protocol) {
    out += " protocol ";
    append_decimal(out, bytes[icmp_quote + 9]);
  }
  out += " unreachable";
  if (code == need_to_fragment) {
    out += " - need to frag (mtu ";
    append_decimal(out, number_at(bytes, 6, 2).value_or(0));
    out += ')';
  } else if (code == host_prohibited) {
    out += " - admin prohibited";
  } else if (code == filtered) {
    out += " - admin prohibited filter";
  } else if (code > port) {
    out += " - #";
    append_decimal(out, code);
  }
}

void append_icmpv6_unreachable(std::string& out, uint16_t code, Bytes bytes) {
  enum : uint8_t { port = 4 };
  constexpr size_t ports = icmp_quote + 40 + 2;
  out += ", ";
  const std::string_view word = name_of(icmpv6_unreachable, code);
  out += word.empty() ? "unknown unreach code"sv : word;
  if (bytes.size() < ipv6_dst + 16) return;
  if (code == port) out += ',';
  out += ' ';
  append_address_at(out, bytes, ipv6_dst, 6);
  if (const auto number = number_at(bytes, ports, 2); code == port && number) {
    out += ' ';
    out += word_of_protocol(bytes[icmp_quote + 6]);
    out += " port ";
    append_decimal(out, *number);
  }
}

enum : uint8_t {
  unreachable = 1,
  too_big = 2,
  time_exceeded = 3,
  echo_request = 128,
  echo_reply = 129,
  solicitation = 135,
  advertisement = 136,
  redirect = 137,
  listener_report = 143,
};

// How many bytes of a message are printed from.
size_t needed_of_icmpv6(uint16_t type) {
  if (type == unreachable || type == time_exceeded || type == redirect) return 40;
  if (type == solicitation || type == advertisement) return 24;
  return type == too_big || type == echo_request || type == echo_reply || type == listener_report ? 8 : 4;
}

// What follows the type's name.
void append_icmpv6_rest(std::string& out, const nk_event& event, Bytes bytes) {
  const auto has_address = [&](size_t offset) { return bytes.size() >= offset + 16; };
  switch (event.src_port) {
    case unreachable:
      append_icmpv6_unreachable(out, event.dst_port, bytes);
      break;
    case too_big:
      if (const auto mtu = number_at(bytes, 4, 4)) {
        out += ", mtu ";
        append_decimal(out, *mtu);
      }
      break;
    case time_exceeded:
      out += event.dst_port == 0 ? " in-transit" : " in-transit (reassembly)";
      if (event.dst_port == 0 && has_address(ipv6_dst)) {
        out += " for ";
        append_address_at(out, bytes, ipv6_dst, 6);
      }
      break;
    case solicitation:
    case advertisement:
      if (!has_address(8)) break;
      out += event.src_port == solicitation ? ", who has " : ", tgt is ";
      append_address_at(out, bytes, 8, 6);
      break;
    case redirect:
      if (!has_address(24)) break;
      out += ", ";
      append_address_at(out, bytes, 24, 6);
      out += " to ";
      append_address_at(out, bytes, 8, 6);
      break;
    case listener_report:
      if (const auto records = number_at(bytes, 6, 2)) {
        out += ", ";
        append_decimal(out, *records);
        out += " group record(s)";
      }
      break;
    default:
      break;
  }
}

}  // namespace

void append_icmp(std::string& out, const nk_event& event, const Transport& transport) {
  enum : uint8_t { unreachable = 3, redirect = 5, time_exceeded = 11 };
  const uint16_t type = event.src_port;
  const std::string_view name = name_of(icmp_names, type);
  const size_t needed = type == unreachable || type == redirect ? ipv4_dst + 4 : icmp_quote;
  out += "ICMP ";
  if (type == unreachable && !transport.lacks(needed)) {
    append_icmp_unreachable(out, event.dst_port, transport.bytes);
  } else if (type == time_exceeded) {
    out += event.dst_port == 0 ? "time exceeded in-transit" : "ip reassembly time exceeded";
  } else if (type == redirect && transport.bytes.size() >= ipv4_dst + 4) {
    out += "redirect ";
    append_address_at(out, transport.bytes, ipv4_dst, 4);
    out += event.dst_port % 2 == 1 ? " to host " : " to net ";
    append_address_at(out, transport.bytes, 4, 4);
  } else if (name.empty()) {
    out += "type-#";
    append_decimal(out, type);
  } else {
    out += name;
  }
  if ((event.flags & NK_ECHO) != 0) {
    append_echo(out, event);
  } else if (transport.lacks(needed)) {
    append_cut(out, "icmp");
    return;
  }
  append_length(out, transport.length);
}

void append_icmpv6(std::string& out, const nk_event& event, const Transport& transport) {
  out += "ICMP6, ";
  if (const std::string_view name = name_of(icmpv6_names, event.src_port); !name.empty()) {
    out += name;
  } else {
    out += "unknown icmp6 type (";
    append_decimal(out, event.src_port);
    out += ')';
  }
  if ((event.flags & NK_ECHO) != 0) {
    append_echo(out, event);
  } else if (transport.lacks(needed_of_icmpv6(event.src_port))) {
    append_cut(out, "icmp6");
    return;
  }
  append_icmpv6_rest(out, event, transport.bytes);
  append_length(out, transport.length);
}

}  // namespace netkit_bpf
