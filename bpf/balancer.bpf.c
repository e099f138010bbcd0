// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * The load balancer: what clients send to a virtual address and port goes to one of many backends, and their replies come
 * back from the virtual address.
 *
 * balancer_client runs on the peer hook of the clients' pair and sends to the primaries of the backends' pairs;
 * balancer_backend runs on the peer hooks of these and sends to the primary of the clients' pair. No packet meets the
 * host's stack: neither forwarding nor a route there is needed. bpf_redirect_peer() would drop here.
 *
 * A new connection goes to the backend that the Maglev table names for its client's address and port; the table of
 * connections keeps it there, whatever becomes of the Maglev table. Both are read without a lock.
 */
#include "balancer/icmp.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* --- From clients. --- */

/* The backend of a connection, which begins now if there is none; NK_LB_NOBODY. */
static __always_inline __u32 nk_backend_for(struct __sk_buff *skb, struct nk_key *key)
{
	struct nk_lb_backend *backend;
	struct nk_lb_flow *flow;
	struct nk_place place;
	__u32 index, now;
	bool is_new, is_over;

	nk_set_hash(key);
	if (!nk_find(key, &place))
		return nk_begin(skb, key);
	index = nk_backend_of(place.word);
	flow = &place.set->flows[place.way];
	now = nk_now();
	backend = nk_backend_at(index);
	is_new = !is_tcp || (key->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	is_over = nk_is_over(flow, now - flow->seen);
	if (!backend || backend->generation != nk_generation_of(place.word)) {
		if (is_tcp && !is_new && nk_is_over(flow, 0))
			return NK_LB_NOBODY;	/* what comes behind the end of a connection */
		if (!is_over)
			nk_tell(NK_LB_MOVED);
		return nk_begin(skb, key);
	}
	/* A client that takes its port once more, or datagrams after a pause; or nobody has answered its SYN yet. */
	if (is_new && (is_over || (is_tcp && !backend->serves && !flow->from_backend)))
		return nk_begin(skb, key);
	nk_touch(flow, now, nk_seen_by(key->tcp_flags), true);
	return index;
}

static __always_inline bool nk_is_client(const struct nk_key *key, const struct nk_lb_backend *backend)
{
	const __u64 *words = (const __u64 *)backend->address;

	if (!is_ipv6)
		return key->low == *(const __be32 *)backend->address;
	return key->high == words[0] && key->low == words[1];
}

SEC("tc")
int balancer_client(struct __sk_buff *skb)
{
	struct nk_packet packet = {};
	struct nk_lb_backend *backend;
	struct nk_lb_count *count;
	__u32 index;

	nk_read(skb, &packet, true);
	if (packet.kind == NK_NOT_OURS)
		return client_verdict;
	if (packet.kind == NK_PART) {
		nk_tell(NK_LB_FRAGMENT);
		return VERDICT_DROP;
	}
	if (packet.kind == NK_ERROR) {
		__s32 sent = nk_error_to_backend(skb, packet.offset);

		return sent == VERDICT_NEXT ? client_verdict : sent;
	}
	index = nk_backend_for(skb, &packet.key);
	backend = nk_backend_at(index);
	if (!backend) {
		nk_tell(NK_LB_NO_BACKEND);
		return VERDICT_DROP;
	}
	if (!is_dsr && nk_is_client(&packet.key, backend)) {
		nk_tell(NK_LB_HAIRPIN);
		return VERDICT_DROP;
	}
	count = bpf_map_lookup_elem(&counts, &index);
	if (count) {
		count->packets++;
		count->bytes += skb->len;
	}
	if (is_dsr)
		return nk_send(skb, backend->ifindex, &backend->macs);
	if (!nk_translate(skb, packet.offset, &backend->macs, (const __be32 *)backend->address, backend->port, backend->to_sum, true))
		return VERDICT_DROP;
	return bpf_redirect(backend->ifindex, 0);
}

/* --- From backends. --- */

/* Whether a backend sent this from its service. */
static __always_inline bool nk_is_reply(struct __sk_buff *skb, const struct nk_packet *packet,
					const struct nk_lb_backend *backend)
{
	return packet->service_port == backend->port && skb->ifindex == backend->ifindex &&
	       nk_is_at(packet->service, backend);
}

/*
 * A reply of a connection that is known, or was evicted; returns the verdict. Others are not touched: they may be another
 * balancer's, or of a client that came another way.
 */
static __always_inline int nk_reply(struct __sk_buff *skb, struct nk_packet *packet, const int other)
{
	struct nk_lb_backend *backend;
	struct nk_lb_count *count;
	struct nk_place place;
	bool is_known;
	__u32 index;

	is_known = nk_find(&packet->key, &place);
	index = is_known ? nk_backend_of(place.word) : nk_backend_behind(skb, &packet->key);
	backend = nk_backend_at(index);
	if (!backend || !nk_is_reply(skb, packet, backend))
		return other;
	if (packet->kind == NK_PART) {
		nk_tell(NK_LB_FRAGMENT);
		return VERDICT_DROP;
	}
	if (is_known)
		nk_touch(&place.set->flows[place.way], nk_now(), nk_seen_by(packet->key.tcp_flags), false);
	count = bpf_map_lookup_elem(&counts, &index);
	if (count) {
		count->reply_packets++;
		count->reply_bytes += skb->len;
	}
	if (is_dsr)
		return nk_send(skb, client_ifindex, &client_macs);
	if (!nk_translate(skb, packet->offset, &client_macs, vip, vip_port, backend->from_sum, false))
		return VERDICT_DROP;
	return bpf_redirect(client_ifindex, 0);
}

static __always_inline int nk_from_backend(struct __sk_buff *skb, const int other)
{
	struct nk_packet packet = {};

	nk_read(skb, &packet, false);
	if (packet.kind == NK_NOT_OURS)
		return other;
	if (packet.kind == NK_ERROR) {
		__s32 sent = nk_error_to_client(skb, packet.offset);

		return sent == VERDICT_NEXT ? other : sent;
	}
	nk_set_hash(&packet.key);
	return nk_reply(skb, &packet, other);
}

SEC("tc")
int balancer_backend(struct __sk_buff *skb)
{
	return nk_from_backend(skb, VERDICT_NEXT);
}

/* The same on a blackhole, which is none any more while a program is attached. */
SEC("tc")
int balancer_backend_shut(struct __sk_buff *skb)
{
	return nk_from_backend(skb, VERDICT_DROP);
}

/* --- For a test run: how many connections of each backend are not over, or only just. --- */

static long nk_forget(__u32 index, void *context __attribute__((unused)))
{
	struct nk_open *count = bpf_map_lookup_elem(&open, &index);

	if (count)
		*count = (struct nk_open){};
	return 0;
}

static long nk_survey_set(__u32 index, void *context)
{
	struct nk_lb_set *set = bpf_map_lookup_elem(&connections, &index);
	__u32 now = *(__u32 *)context;

	if (!set)
		return 1;
	for (int i = 0; i < NK_LB_WAYS; i++) {
		__u32 key = nk_backend_of(set->words[i]), age = now - set->flows[i].seen;
		__u64 word = set->words[i];
		struct nk_lb_backend *backend;
		struct nk_open *count;

		if (word == NK_FREE || word == NK_BUSY)
			continue;
		backend = nk_backend_at(key);
		count = bpf_map_lookup_elem(&open, &key);
		if (!count || !backend || backend->generation != nk_generation_of(word))
			continue;
		if (!nk_is_over(&set->flows[i], age))
			count->open++;
		else if (age <= linger)
			count->lingering++;
	}
	return 0;
}

SEC("tc")
int balancer_survey(struct __sk_buff *skb __attribute__((unused)))
{
	__u32 now = nk_now();

	bpf_loop(NK_LB_BACKENDS, nk_forget, &now, 0);
	bpf_loop(set_mask + 1, nk_survey_set, &now, 0);
	return 0;
}
