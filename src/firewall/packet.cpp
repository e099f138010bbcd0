// SPDX-License-Identifier: MIT
#include "firewall/packet.hpp"

#include <netinet/in.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "firewall/words.hpp"

namespace netkit_bpf::firewall {

namespace {

constexpr uint32_t ethernet_length = 14;
constexpr uint8_t syn = 0x02;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument("a packet " + what); }

Address address_of(const Endpoint& endpoint, Family family, const std::string& word) {
  const bool is_one = endpoint.networks.size() == 1 && endpoint.set.empty() &&
                      endpoint.networks[0].length == (family == Family::ipv4 ? 32 : 128);
  if (!is_one) refuse("has one address: say " + word + " ADDRESS");
  return endpoint.networks[0].first;
}

uint32_t number_of(const std::vector<Range>& ranges, const std::string& what) {
  if (ranges.size() != 1 || ranges[0].first != ranges[0].last) refuse("has " + what);
  return ranges[0].first;
}

uint32_t transport_length(uint8_t protocol) {
  if (protocol == IPPROTO_TCP) return 20;
  if (protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP) return 12;
  return has_ports(protocol) || protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6 ? 8 : 0;
}

// What a first fragment and a whole packet have, and a later fragment lacks.
void set_transport(Packet& packet, const Rule& rule, uint8_t protocol) {
  if (has_ports(protocol)) {
    packet.src_port = number_of(rule.from.ports, "one port at each end: say from ADDRESS port PORT");
    packet.dst_port = number_of(rule.to.ports, "one port at each end: say to ADDRESS port PORT");
  }
  if (protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6) {
    packet.src_port = number_of(rule.icmp_types, "one type: say icmp-type TYPE");
    packet.dst_port = rule.icmp_code.value_or(0);
  }
  if (protocol == IPPROTO_TCP) packet.tcp_flags = rule.tcp_flags ? rule.tcp_flags->set : syn;
}

}  // namespace

Packet packet_of(const Rule& rule, Side side) {
  Packet packet{.side = side};
  uint32_t length = ethernet_length;
  if (rule.family == Family::arp) {
    packet.family = Family::arp;
  } else {
    if (rule.from.networks.empty()) refuse("has one address: say from ADDRESS");
    packet.family = rule.from.networks[0].family;
    packet.src = address_of(rule.from, packet.family, "from");
    packet.dst = address_of(rule.to, packet.family, "to");
    if (rule.protocols.size() != 1) refuse("has one protocol: say tcp, udp, icmp or proto NUMBER");
    const uint8_t protocol = rule.protocols[0];
    packet.protocol = protocol;
    length += packet.family == Family::ipv4 ? 20 : 40;
    if (rule.fragment == Fragment::any) refuse("is the first fragment, or a later one");
    if (rule.fragment) packet.fragment = rule.fragment == Fragment::later ? NK_LATER : NK_FIRST;
    if (packet.fragment != NK_LATER) {
      set_transport(packet, rule, protocol);
      length += transport_length(protocol);
    }
  }
  packet.length = rule.lengths.empty() ? length : number_of(rule.lengths, "one length");
  return packet;
}

}  // namespace netkit_bpf::firewall
