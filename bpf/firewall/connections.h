/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * Connections of TCP and UDP that a rule let somebody open: what belongs to one passes, whatever the rules say. It is
 * established, as with nf_conntrack, once the other side has answered; until then the rules judge its opener.
 *
 * The table is bounded. No connection is forgotten for another's sake: where there is no room, what has expired goes, and
 * if nothing has, the new one is not remembered and the rules alone judge its packets.
 */
#ifndef NETKIT_BPF_FIREWALL_CONNECTIONS_H
#define NETKIT_BPF_FIREWALL_CONNECTIONS_H

#include "packet.h"

#define NK_SECOND 1000000000ULL
#define NK_TCP_FIN 0x01
#define NK_TCP_SYN 0x02
#define NK_TCP_RST 0x04
#define NK_TCP_ACK 0x10

const volatile bool established;

enum nk_fw_timeout {
	NK_TCP_OPENING,
	NK_TCP_ESTABLISHED,
	NK_TCP_CLOSING,		/* both ends have sent FIN */
	NK_TCP_RESET,
	NK_UDP_OPENING,
	NK_UDP_ESTABLISHED,
	NK_TIMEOUTS,
};

/* Seconds without a packet: the defaults of nf_conntrack (Documentation/networking/nf_conntrack-sysctl.rst). */
const volatile __u32 timeouts[NK_TIMEOUTS] = { 120, 432000, 120, 10, 30, 120 };

/* The same for both directions: the lower end comes first. */
struct nk_connection {
	__u64 low[2], high[2];
	__u16 low_port, high_port;
	__u8 protocol;
	__u8 family;
	__u8 unused[2];
};

/* Each byte is only ever set, so that the CPUs of both directions may. */
struct nk_state {
	__u64 seen;		/* when there was a packet, to about a second; CLOCK_MONOTONIC */
	__u8 side;		/* of the opener */
	__u8 low_opened;	/* the opener is the lower end */
	__u8 answered;
	__u8 reset;
	__u8 finished[2];	/* by the opener, and by the other end */
	__u8 unused[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);		/* set before load */
	__type(key, struct nk_connection);
	__type(value, struct nk_state);
} connections SEC(".maps");

volatile __u64 swept SEC(".data") = 0;	/* when what has expired was looked for */

/* False of a packet of which no connection is kept. @low_sent: whether the lower end sent it. */
static __always_inline bool nk_connection_of(const struct nk_packet *packet, struct nk_connection *connection,
					     bool *low_sent)
{
	bool is_low;

	if ((packet->family != NK_IPV4 && packet->family != NK_IPV6) || packet->src_port >= NK_FW_ABSENT)
		return false;
	if (packet->protocol == IPPROTO_TCP ? packet->tcp_flags >= NK_FW_ABSENT : packet->protocol != IPPROTO_UDP)
		return false;
	is_low = packet->src[0] != packet->dst[0] ? packet->src[0] < packet->dst[0] :
		 packet->src[1] != packet->dst[1] ? packet->src[1] < packet->dst[1] :
						    packet->src_port < packet->dst_port;
	connection->low[0] = is_low ? packet->src[0] : packet->dst[0];
	connection->low[1] = is_low ? packet->src[1] : packet->dst[1];
	connection->high[0] = is_low ? packet->dst[0] : packet->src[0];
	connection->high[1] = is_low ? packet->dst[1] : packet->src[1];
	connection->low_port = is_low ? packet->src_port : packet->dst_port;
	connection->high_port = is_low ? packet->dst_port : packet->src_port;
	connection->protocol = packet->protocol;
	connection->family = packet->family;
	*low_sent = is_low;
	return true;
}

static __always_inline bool nk_is_closed(const struct nk_state *state)
{
	return state->reset || (state->finished[0] && state->finished[1]);
}

static __always_inline bool nk_has_expired(const struct nk_state *state, __u8 protocol, __u64 now)
{
	enum nk_fw_timeout timeout;

	if (protocol == IPPROTO_UDP)
		timeout = state->answered ? NK_UDP_ESTABLISHED : NK_UDP_OPENING;
	else if (state->reset)
		timeout = NK_TCP_RESET;
	else if (nk_is_closed(state))
		timeout = NK_TCP_CLOSING;
	else
		timeout = state->answered ? NK_TCP_ESTABLISHED : NK_TCP_OPENING;
	return (__s64)(now - state->seen) > (__s64)(timeouts[timeout] * NK_SECOND);
}

static __always_inline void nk_see(struct nk_state *state, __u64 now)
{
	if ((__s64)(now - state->seen) > (__s64)NK_SECOND)	/* else each packet would write to a line that CPUs share */
		state->seen = now;
}

static __always_inline bool nk_opens(const struct nk_packet *packet)
{
	return packet->protocol == IPPROTO_TCP && (packet->tcp_flags & (NK_TCP_SYN | NK_TCP_ACK)) == NK_TCP_SYN;
}

/* Whether a packet belongs to an established connection, of which it may change the state. */
__noinline int nk_is_established(struct nk_packet *packet, __u32 side)
{
	struct nk_connection connection = {};
	bool low_sent, is_answer;
	struct nk_state *state;
	__u64 now;

	if (!established || !packet || !nk_connection_of(packet, &connection, &low_sent))
		return 0;
	state = bpf_map_lookup_elem(&connections, &connection);
	if (!state)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	if (nk_has_expired(state, connection.protocol, now) || (nk_opens(packet) && nk_is_closed(state)))
		return 0;
	/* An answer comes by the other hook: nobody answers himself by giving another's address for his own. */
	is_answer = state->side != side;
	if ((low_sent == !!state->low_opened) == is_answer)
		return 0;
	if (is_answer && !state->answered) {
		if (packet->protocol == IPPROTO_TCP && packet->tcp_flags & NK_TCP_RST) {	/* refused */
			bpf_map_delete_elem(&connections, &connection);
			return 1;
		}
		state->answered = 1;
	}
	if (!state->answered)
		return 0;
	if (packet->protocol == IPPROTO_TCP) {
		if (packet->tcp_flags & NK_TCP_RST)
			state->reset = 1;
		if (packet->tcp_flags & NK_TCP_FIN)
			state->finished[is_answer & 1] = 1;
	}
	nk_see(state, now);
	return 1;
}

static long nk_forget(void *map, const struct nk_connection *connection, struct nk_state *state, __u64 *now)
{
	if (nk_has_expired(state, connection->protocol, *now))
		bpf_map_delete_elem(map, connection);
	return 0;
}

/* Remembers the connection of a packet that passes; returns whether there was no room for it. */
__noinline int nk_remember(struct nk_packet *packet, __u32 side)
{
	struct nk_connection connection = {};
	struct nk_state *state, opened = {};
	bool low_sent;
	__u64 now;

	if (!established || !packet || !nk_connection_of(packet, &connection, &low_sent))
		return 0;
	/* One that was open before the firewall came is taken up by what is neither its beginning nor its end. */
	if (connection.protocol == IPPROTO_TCP && !nk_opens(packet) &&
	    (packet->tcp_flags & (NK_TCP_SYN | NK_TCP_ACK | NK_TCP_FIN | NK_TCP_RST)) != NK_TCP_ACK)
		return 0;
	now = bpf_ktime_get_coarse_ns();
	state = bpf_map_lookup_elem(&connections, &connection);
	if (state && !nk_has_expired(state, connection.protocol, now) && !(nk_opens(packet) && nk_is_closed(state))) {
		if (state->side == side)
			nk_see(state, now);
		return 0;
	}
	opened.seen = now;
	opened.side = side;
	opened.low_opened = low_sent;
	if (!bpf_map_update_elem(&connections, &connection, &opened, BPF_ANY))
		return 0;
	/* All of them are walked through, 10 ms at a million, so not for each packet. */
	if ((__s64)(now - swept) < (__s64)NK_SECOND && swept)
		return 1;
	swept = now;
	bpf_for_each_map_elem(&connections, nk_forget, &now, 0);
	return bpf_map_update_elem(&connections, &connection, &opened, BPF_ANY) != 0;
}

#endif
