/* SPDX-License-Identifier: MIT */
/*
 * The peer: libbpf's own consumer of a ring buffer, named by its map's id.
 *
 * consumer MAP_ID drain|print|poll|latency|seed
 *
 * Says "ready". Then drain and print look once for each line on stdin, and say how many records there were and how many
 * nanoseconds that took; the others poll until SIGTERM, and say how many records there were and how many nanoseconds of
 * CPU that took; latency: also the median and the 99th percentile of the time from the record's timestamp to here, in
 * nanoseconds. All that goes to stderr. print and seed write a line for every record to stdout.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../../bpf/include/netkit_bpf/event.h"
#include "seed.h"

#define MOST_LATENCIES (1 << 20)

static unsigned long records;
static double latencies[MOST_LATENCIES];
static volatile sig_atomic_t stopped;

static double now(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int count(void *context, void *data, size_t size)
{
	(void)context;
	(void)data;
	(void)size;
	records++;
	return 0;
}

static int take_latency(void *context, void *data, size_t size)
{
	const struct nk_event *event = data;

	(void)context;
	(void)size;
	if (records < MOST_LATENCIES)
		latencies[records++] = now(CLOCK_MONOTONIC) - (double)event->timestamp;
	return 0;
}

static int print_event(void *context, void *data, size_t size)
{
	const struct nk_event *event = data;
	int family = event->ip_word >> 28 == 6 ? AF_INET6 : AF_INET;
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];

	(void)context;
	(void)size;
	inet_ntop(family, event->src, src, sizeof(src));
	inet_ntop(family, event->dst, dst, sizeof(dst));
	printf("[%s] IPv%c: %s -> %s | next=%u len=%u ttl=%u\n", event->side ? "peer" : "primary",
	       family == AF_INET6 ? '6' : '4', src, dst, event->next_header, event->payload_len, event->hop_limit);
	records++;
	return 0;
}

static int print_seed(void *context, void *data, size_t size)
{
	const struct seed_event *event = data;
	char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];

	(void)context;
	(void)size;
	inet_ntop(AF_INET6, event->src, src, sizeof(src));
	inet_ntop(AF_INET6, event->dst, dst, sizeof(dst));
	printf("[%s] IPv6: %s -> %s | next=%u len=%u ttl=%u\n", event->side ? "peer" : "primary", src, dst,
	       event->next_header, event->payload_len, event->hop_limit);
	fflush(stdout);
	records++;
	return 0;
}

static void stop(int signal)
{
	(void)signal;
	stopped = 1;
}

static int ascending(const void *left, const void *right)
{
	double a = *(const double *)left, b = *(const double *)right;

	return (a > b) - (a < b);
}

int main(int argc, char **argv)
{
	const char *mode = argc == 3 ? argv[2] : "";
	int fd = argc == 3 ? bpf_map_get_fd_by_id((unsigned int)strtoul(argv[1], NULL, 10)) : -1;
	ring_buffer_sample_fn take = count;
	struct sigaction action = { .sa_handler = stop };
	struct ring_buffer *ring;
	double start;

	if (!strcmp(mode, "latency"))
		take = take_latency;
	else if (!strcmp(mode, "print"))
		take = print_event;
	else if (!strcmp(mode, "seed"))
		take = print_seed;
	ring = fd < 0 ? NULL : ring_buffer__new(fd, take, NULL, NULL);
	if (!ring) {
		perror("open the ring buffer");
		return 1;
	}
	sigaction(SIGTERM, &action, NULL);
	fprintf(stderr, "ready\n");
	if (!strcmp(mode, "drain") || !strcmp(mode, "print")) {
		while (getchar() == '\n') {
			records = 0;
			start = now(CLOCK_MONOTONIC);
			ring_buffer__consume(ring);
			fflush(stdout);
			fprintf(stderr, "%lu %.0f\n", records, now(CLOCK_MONOTONIC) - start);
		}
	} else {
		start = now(CLOCK_PROCESS_CPUTIME_ID);
		while (!stopped)
			ring_buffer__poll(ring, 100);
		ring_buffer__consume(ring);
		fprintf(stderr, "%lu %.0f", records, now(CLOCK_PROCESS_CPUTIME_ID) - start);
		if (take == take_latency && records) {
			qsort(latencies, records, sizeof(*latencies), ascending);
			fprintf(stderr, " %.0f %.0f", latencies[records / 2], latencies[records * 99 / 100]);
		}
		fprintf(stderr, "\n");
	}
	ring_buffer__free(ring);
	return 0;
}
