/* SPDX-License-Identifier: MIT */
/* The peer: libbpf's own consumer, counting. Prints nanoseconds per record of a ring buffer named by its map's id. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int count(void *context, void *data, size_t size)
{
	(void)data;
	(void)size;
	++*(unsigned long *)context;
	return 0;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int argc, char **argv)
{
	unsigned long events = 0;
	int fd = argc == 2 ? bpf_map_get_fd_by_id((unsigned int)strtoul(argv[1], NULL, 10)) : -1;
	struct ring_buffer *ring = fd < 0 ? NULL : ring_buffer__new(fd, count, &events, NULL);
	double start;

	if (!ring) {
		perror("open the ring buffer");
		return 1;
	}
	start = now();
	ring_buffer__consume(ring);
	printf("%lu %f\n", events, (now() - start) / (double)events);
	ring_buffer__free(ring);
	return 0;
}
