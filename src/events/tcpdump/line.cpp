// SPDX-License-Identifier: MIT
// The words are those of tcpdump 4.99: print-ether.c, print-ip.c, print-ip6.c and print-arp.c.
#include "events/tcpdump/line.hpp"

#include <linux/if_ether.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "base/side.hpp"
#include "events/summary_line.hpp"
#include "events/tcpdump/transport.hpp"
#include "events/text.hpp"

namespace netkit_bpf {

namespace {

constexpr size_t mac_size = 6;
constexpr size_t tag_size = 4;
constexpr size_t ipv4_header = 20;
constexpr size_t ipv6_header = 40;
constexpr size_t longest_side = 7;  // "primary"

bool is_tag(uint32_t ethertype) { return ethertype == ETH_P_8021Q || ethertype == ETH_P_8021AD; }
bool is_ipv4(const nk_event& event) { return event.ip_word >> 28 == 4; }
// With a tag that was beside the packet.
uint32_t wire_length(const nk_event& event) {
  return event.length + ((event.flags & NK_TAG_BESIDE) != 0 ? uint32_t{tag_size} : 0);
}
// Whether only the first bytes of a frame were captured.
bool was_cut(const nk_event& event, Bytes data) { return !data.empty() && data.size() < wire_length(event); }
bool is_later_fragment(const nk_event& event) { return event.fragment >= 8; }

// The bytes from the IP header on; none if they were not captured.
Bytes network_of(Bytes data) {
  size_t offset = ETH_HLEN;
  while (is_tag(number_at(data, offset - 2, 2).value_or(0)) && offset < ETH_HLEN + 2 * tag_size) offset += tag_size;
  return offset < data.size() ? data.subspan(offset) : Bytes();
}

Bytes behind(Bytes bytes, size_t size) { return size < bytes.size() ? bytes.subspan(size) : Bytes(); }

// Ethernet's types and IP's protocols in tcpdump's words.
std::string_view name_of_ethertype(uint32_t number) {
  switch (number) {
    case ETH_P_IP:
      return "IPv4";
    case ETH_P_IPV6:
      return "IPv6";
    case ETH_P_ARP:
      return "ARP";
    case ETH_P_8021Q:
      return "802.1Q";
    case ETH_P_8021AD:
      return "802.1Q-QinQ";
    case 0x88cc:
      return "LLDP";
    default:
      return "Unknown";
  }
}

std::string_view name_of_protocol(uint32_t number) {
  switch (number) {
    case IPPROTO_ICMP:
      return "ICMP";
    case IPPROTO_IGMP:
      return "IGMP";
    case IPPROTO_IPIP:
      return "IPIP";
    case IPPROTO_TCP:
      return "TCP";
    case IPPROTO_UDP:
      return "UDP";
    case IPPROTO_IPV6:
      return "IPv6";
    case IPPROTO_ROUTING:
      return "Routing";
    case IPPROTO_FRAGMENT:
      return "Fragment";
    case IPPROTO_GRE:
      return "GRE";
    case IPPROTO_ESP:
      return "ESP";
    case IPPROTO_AH:
      return "AH";
    case IPPROTO_ICMPV6:
      return "ICMPv6";
    case IPPROTO_SCTP:
      return "SCTP";
    case IPPROTO_HOPOPTS:
      return "Options";
    default:
      return "unknown";
  }
}

void append_named(std::string& out, std::string_view name, uint32_t number) {
  out += name;
  out += " (";
  append_decimal(out, number);
  out += ')';
}

void append_ethertype(std::string& out, uint32_t number) {
  out += "ethertype ";
  out += name_of_ethertype(number);
  out += " (0x";
  append_hex(out, number, 4);
  out += ')';
}

// "02:00:00:00:00:01 > 02:02:02:02:02:02, ethertype IPv4 (0x0800), length 70: ", with VLAN tags.
void append_link(std::string& out, const nk_event& event, Bytes data) {
  if (data.size() >= ETH_HLEN) {
    append_mac(out, data.subspan(mac_size, mac_size));
    out += " > ";
    append_mac(out, data.first(mac_size));
    out += ", ";
  }
  uint32_t type = number_at(data, 2 * mac_size, 2).value_or(event.ethertype);
  append_ethertype(out, type);
  append_length(out, wire_length(event));
  out += ": ";
  for (size_t at = ETH_HLEN; is_tag(type) && fits(at, tag_size, data.size()); at += tag_size) {
    const uint32_t tci = number_at(data, at, 2).value_or(0);
    type = number_at(data, at + 2, 2).value_or(0);
    out += "vlan ";
    append_decimal(out, tci & 0xfff);
    out += ", p ";
    append_decimal(out, tci >> 13);
    if ((tci & 0x1000) != 0) out += ", DEI";
    out += ", ";
    append_ethertype(out, type);
    out += ", ";
  }
  if (is_tag(type) && was_cut(event, data)) append_cut(out, "vlan");
}

// The words in parentheses of -v.
void append_ipv4_header(std::string& out, const nk_event& event, Bytes network) {
  constexpr std::array ecn{"", ",ECT(1)", ",ECT(0)", ",CE"};
  const uint32_t traffic_class = event.ip_word >> 20 & 0xff;
  const uint32_t fragment = number_at(network, 6, 2).value_or(0);
  out += "(tos 0x";
  append_hex(out, traffic_class);
  out += ecn.at(traffic_class & 3);
  out += ", ttl ";
  append_decimal(out, event.hop_limit);
  if (network.size() >= ipv4_header) {
    out += ", id ";
    append_decimal(out, number_at(network, 4, 2).value_or(0));
    out += ", offset ";
    append_decimal(out, uint64_t{fragment & 0x1fff} * 8);
    out += ", flags [";
    const char* between = "";
    for (const auto& [bit, word] : {std::pair{0x2000U, "+"}, std::pair{0x4000U, "DF"}, std::pair{0x8000U, "rsvd"}})
      if ((fragment & bit) != 0) out.append(std::exchange(between, ", ")).append(word);
    if (fragment >> 13 == 0) out += "none";
    out += ']';
  }
  out += ", proto ";
  append_named(out, name_of_protocol(event.protocol), event.protocol);
  const size_t header = network.empty() ? ipv4_header : size_t{network[0] & 0xfU} * 4;
  append_length(out, event.payload_len + static_cast<uint32_t>(header));
  out += ")\n    ";
}

void append_ipv6_header(std::string& out, const nk_event& event) {
  const uint32_t traffic_class = event.ip_word >> 20 & 0xff;
  const uint32_t flow_label = event.ip_word & 0xfffff;
  out += '(';
  if (traffic_class != 0) {
    out += "class 0x";
    append_hex(out, traffic_class, 2);
    out += ", ";
  }
  if (flow_label != 0) {
    out += "flowlabel 0x";
    append_hex(out, flow_label, 5);
    out += ", ";
  }
  out += "hlim ";
  append_decimal(out, event.hop_limit);
  out += ", next-header ";
  append_named(out, name_of_protocol(event.next_header), event.next_header);
  out += " payload length: ";
  append_decimal(out, event.payload_len);
  out += ") ";
}

void append_addresses(std::string& out, const nk_event& event, bool with_ports) {
  out += format_address(event, event.src);
  if (with_ports) {
    out += '.';
    append_decimal(out, event.src_port);
  }
  out += " > ";
  out += format_address(event, event.dst);
  if (with_ports) {
    out += '.';
    append_decimal(out, event.dst_port);
  }
  out += ": ";
}

std::string_view word_of_extension(uint32_t number) {
  if (number == IPPROTO_HOPOPTS) return "hbhopt";
  if (number == IPPROTO_DSTOPTS) return "dstopt";
  if (number == IPPROTO_ROUTING) return "srcrt";
  return number == IPPROTO_FRAGMENT ? "frag6" : "ah";
}

// Follows the extension headers, and names each; returns what is behind them, or nothing if that was not captured.
// Their number has a limit, as in packet.h.
std::optional<Transport> append_extensions(std::string& out, const nk_event& event, Bytes network, bool is_cut) {
  constexpr size_t least = 8;
  Transport rest{behind(network, ipv6_header), event.payload_len, is_cut};
  uint32_t next = event.next_header;
  while (next != event.protocol || (event.flags & NK_PROTOCOL) == 0) {
    if (rest.lacks(least)) {
      append_cut(out, word_of_extension(next));
      return std::nullopt;
    }
    const auto following = number_at(rest.bytes, 0, 1);
    const auto units = number_at(rest.bytes, 1, 1);
    if (!following || !units) return Transport{};
    uint32_t length = (*units + 1) * 8;
    if (next == IPPROTO_HOPOPTS) {
      out += "HBH ";
    } else if (next == IPPROTO_DSTOPTS) {
      out += "DSTOPT ";
    } else if (next == IPPROTO_ROUTING) {
      out += "RT6 ";
    } else if (next == IPPROTO_AH) {
      length = (*units + 2) * 4;
      out += "AH ";
    } else if (next == IPPROTO_FRAGMENT) {
      length = 8;
      out += "frag (";
      append_decimal(out, event.fragment & ~7U);
      out += '|';
      append_decimal(out, rest.length.value_or(0) - length);
      out += is_later_fragment(event) ? ")" : ") ";
    } else {
      return Transport{};  // the chain is cut short
    }
    if (length > rest.length.value_or(0)) return Transport{};
    rest = {behind(rest.bytes, length), rest.length.value_or(0) - length, is_cut};
    next = *following;
  }
  return rest;
}

// The word of a transport protocol whose header the event does not tell of.
std::string_view word_of_cut(const nk_event& event) {
  if ((event.flags & NK_PROTOCOL) == 0 || is_later_fragment(event)) return {};
  if (event.protocol == IPPROTO_TCP && (event.flags & NK_TCP) == 0) return "tcp";
  if (event.protocol == IPPROTO_UDP && (event.flags & NK_PORTS) == 0) return "udp";
  if (event.protocol == IPPROTO_ICMP && (event.flags & NK_ICMP) == 0) return "icmp";
  return event.protocol == IPPROTO_ICMPV6 && (event.flags & NK_ICMP) == 0 ? "icmp6" : "";
}

void append_transport(std::string& out, const nk_event& event, const Transport& transport,
                      const TcpdumpOptions& options, TcpSequences& sequences) {
  constexpr uint32_t udp_header = 8;
  if (const std::string_view word = word_of_cut(event); transport.is_cut && !word.empty()) {
    if (word == "tcp" && (event.flags & NK_PORTS) == 0) out.pop_back();  // as tcpdump has it
    append_cut(out, word);
  } else if ((event.flags & NK_TCP) != 0) {
    const TcpSequences::Base base = options.absolute ? TcpSequences::Base() : sequences.base_of(event);
    if (options.quiet)
      append_tcp_quietly(out, transport);
    else
      append_tcp(out, event, transport, base, options.verbose > 1);
  } else if ((event.flags & NK_ICMP) != 0 && event.protocol == IPPROTO_ICMP) {
    append_icmp(out, event, transport);
  } else if ((event.flags & NK_ICMP) != 0) {
    append_icmpv6(out, event, transport);
  } else if ((event.flags & NK_PORTS) != 0 && event.protocol == IPPROTO_UDP) {
    const uint32_t in_header = number_at(transport.bytes, 4, 2).value_or(0);  // 0 in a jumbogram
    const uint32_t length = in_header >= udp_header ? in_header : transport.length.value_or(udp_header);
    out += "UDP";
    append_length(out, length - udp_header);
  } else if (event.protocol == IPPROTO_SCTP) {
    out += "sctp";
  } else if (event.protocol == IPPROTO_NONE && !is_later_fragment(event)) {
    out += "no next header";
  } else if ((event.flags & NK_PROTOCOL) != 0) {
    out += "ip-proto-";
    append_decimal(out, event.protocol);
    if (transport.length && !is_later_fragment(event)) {
      out += ' ';
      append_decimal(out, *transport.length);
    }
  } else {
    out += "[header chain cut short]";
  }
}

void append_ip(std::string& out, const nk_event& event, Bytes data, const TcpdumpOptions& options,
               TcpSequences& sequences) {
  const Bytes network = network_of(data);
  const bool is_cut = was_cut(event, data);
  const bool has_ports = (event.flags & NK_PORTS) != 0;
  if (is_ipv4(event)) {
    if (!options.link) out += "IP ";
    if (options.verbose > 0) append_ipv4_header(out, event, network);
    append_addresses(out, event, has_ports);
    const size_t header = network.empty() ? ipv4_header : size_t{network[0] & 0xfU} * 4;
    append_transport(out, event, {behind(network, header), event.payload_len, is_cut}, options, sequences);
    return;
  }
  const bool is_chain = event.next_header != event.protocol || (event.flags & NK_PROTOCOL) == 0;
  if (!options.link) out += "IP6 ";
  if (options.verbose > 0) append_ipv6_header(out, event);
  append_addresses(out, event, has_ports && !is_chain);
  const std::optional<Transport> transport = append_extensions(out, event, network, is_cut);
  if (!transport) return;
  if (has_ports && is_chain) {
    append_decimal(out, event.src_port);
    out += " > ";
    append_decimal(out, event.dst_port);
    out += ": ";
  }
  if (is_later_fragment(event)) return;
  append_transport(out, event, *transport, options, sequences);
}

void append_arp(std::string& out, const nk_event& event, Bytes data, const TcpdumpOptions& options) {
  enum : uint32_t { request = 1, reply = 2, ethernet = 1 };
  constexpr size_t arp_size = 28;
  const Bytes arp = network_of(data);
  if (was_cut(event, data) && arp.size() < arp_size) {
    append_cut(out, "arp");
    return;
  }
  if (!options.link) out += "ARP, ";
  const uint32_t operation = number_at(arp, 6, 2).value_or(0);
  const bool is_usual = arp.size() >= arp_size && number_at(arp, 0, 2) == uint32_t{ethernet} &&
                        number_at(arp, 2, 2) == uint32_t{ETH_P_IP} && number_at(arp, 4, 2) == 0x0604;
  if (options.verbose > 0 && is_usual) out += "Ethernet (len 6), IPv4 (len 4), ";
  if (is_usual && operation == request) {
    out += "Request who-has ";
    append_address_at(out, arp, 24, 4);
    if (std::ranges::any_of(arp.subspan(18, mac_size), [](uint8_t byte) { return byte != 0; })) {
      out += " (";
      append_mac(out, arp.subspan(18, mac_size));
      out += ')';
    }
    out += " tell ";
    append_address_at(out, arp, 14, 4);
  } else if (is_usual && operation == reply) {
    out += "Reply ";
    append_address_at(out, arp, 14, 4);
    out += " is-at ";
    append_mac(out, arp.subspan(8, mac_size));
  } else {
    out += "op ";
    append_decimal(out, operation);
  }
  const size_t link = arp.empty() ? size_t{ETH_HLEN} : data.size() - arp.size();
  append_length(out, wire_length(event) - static_cast<uint32_t>(std::min(link, size_t{wire_length(event)})));
}

}  // namespace

void append_cut(std::string& out, std::string_view word) {
  out += " [|";
  out += word;
  out += ']';
}

void TcpdumpLines::append_source(std::string& out, const nk_event& event, std::string_view pair) const {
  const std::string_view side = name_of(static_cast<Side>(event.side));
  if (!pair.empty()) {
    out += pair;
    out += ' ';
  }
  if (options_.color) out += event.side == NK_PRIMARY ? "\x1b[36m" : "\x1b[33m";
  out += side;
  if (options_.color) out += "\x1b[0m";
  out.append(longest_side + 1 - side.size(), ' ');
}

void TcpdumpLines::append_dump(std::string& out, Bytes data) const {
  const Bytes dumped = options_.dump_link ? data : network_of(data);
  if (options_.dump == TcpdumpOptions::Dump::characters)
    append_characters(out, dumped);
  else if (options_.dump != TcpdumpOptions::Dump::none)
    append_hexdump(out, dumped, options_.dump == TcpdumpOptions::Dump::both);
}

void TcpdumpLines::append(std::string& out, const nk_event& event, Bytes data, std::string_view pair, bool with_side) {
  ++count_;
  if (options_.number) {
    const std::string digits = std::to_string(count_);
    out.append(digits.size() < 5 ? 5 - digits.size() : 0, ' ');
    out += digits;
    out += "  ";
  }
  time_.append(out, static_cast<int64_t>(event.timestamp));
  if (with_side) append_source(out, event, pair);
  const bool is_ip = (event.flags & NK_IP) != 0;
  const bool is_cut_ip =
      !is_ip && was_cut(event, data) && (event.ethertype == ETH_P_IP || event.ethertype == ETH_P_IPV6);
  if (options_.link || (!is_ip && !is_cut_ip && event.ethertype != ETH_P_ARP)) append_link(out, event, data);
  if (is_cut_ip && event.ethertype == ETH_P_IP && !options_.link) out += "IP ";
  if (is_cut_ip)
    append_cut(out, event.ethertype == ETH_P_IP ? "ip" : "ip6");
  else if (is_ip)
    append_ip(out, event, data, options_, sequences_);
  else if (event.ethertype == ETH_P_ARP)
    append_arp(out, event, data, options_);
  append_dump(out, data);
  out += '\n';
}

}  // namespace netkit_bpf
