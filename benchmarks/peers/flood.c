/* SPDX-License-Identifier: MIT */
/*
 * The producer: runs a BPF program, named by its id, on one packet at a given rate.
 *
 * flood PROGRAM_ID PACKET_HEX BURST RATE SECONDS [START]
 *
 * Packets go in bursts of BURST, each burst when its time has come, the first at once or when CLOCK_MONOTONIC says START
 * nanoseconds; RATE 0 is as fast as it goes. Bursts that are late go together, as packets do that waited in a queue: the
 * system call takes as long as dozens of packets. Single packets stay single. Prints how many were sent, how long that
 * took, and what the program took for all of them, in nanoseconds.
 */
#include <bpf/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MOST_TOGETHER 64	/* bursts */

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int argc, char **argv)
{
	unsigned char packet[2048];
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet);
	double start, due, end, gap, rate, late, spent = 0;
	unsigned long sent = 0;
	int burst, bursts, fd;

	if (argc < 6 || argc > 7 || strlen(argv[2]) / 2 > sizeof(packet))
		return 2;
	for (size_t i = 0; i < strlen(argv[2]) / 2; i++) {
		sscanf(argv[2] + 2 * i, "%2hhx", &packet[i]);
		options.data_size_in++;
	}
	fd = bpf_prog_get_fd_by_id((unsigned int)strtoul(argv[1], NULL, 10));
	if (fd < 0) {
		perror("find the program");
		return 1;
	}
	burst = atoi(argv[3]);
	rate = atof(argv[4]);
	gap = rate > 0 ? burst * 1e9 / rate : 0;
	start = due = argc == 7 ? atof(argv[6]) : now();
	end = start + atof(argv[5]) * 1e9;
	while (due < end) {
		while ((late = now() - due) < 0)
			__builtin_ia32_pause();
		late = gap > 0 && burst > 1 ? late / gap : 0;
		bursts = late < MOST_TOGETHER ? 1 + (int)late : MOST_TOGETHER;
		options.repeat = burst * bursts;
		if (bpf_prog_test_run_opts(fd, &options)) {
			perror("run the program");
			return 1;
		}
		sent += (unsigned long)options.repeat;
		spent += (double)options.duration * options.repeat;
		due = gap > 0 ? due + bursts * gap : now();
	}
	printf("%lu %.0f %.0f\n", sent, now() - start, spent);
	return 0;
}
