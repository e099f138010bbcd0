# SPDX-License-Identifier: MIT
"""Where in the source clang found an error, and what helps against headers of the C library."""

from __future__ import annotations

import re

from netkit_bpf.errors import CompileError

_INCLUDED_AT = re.compile(r"^In file included from <stdin>:(\d+):", re.MULTILINE)
_ERROR_AT = re.compile(r"^<stdin>:(\d+):(\d+): (?:fatal )?error: ", re.MULTILINE)
_INCLUDE = re.compile(r"\s*#\s*include\s*[<\"]([^>\"]+)[>\"]")

# There is no C library for BPF. What its headers are included for is elsewhere.
_INSTEAD = {
    "arpa/inet.h": "<bpf/bpf_endian.h>, which has bpf_htons() and its like",
    "assert.h": "a test, and a return",
    "errno.h": "<linux/errno.h>",
    "inttypes.h": "<linux/types.h>, which has __u32 and its like",
    "net/ethernet.h": "<linux/if_ether.h>",
    "net/if.h": "<linux/if.h>",
    "netinet/icmp6.h": "<linux/icmpv6.h>",
    "netinet/if_ether.h": "<linux/if_ether.h>",
    "netinet/in.h": "<linux/in.h> and <linux/in6.h>",
    "netinet/ip.h": "<linux/ip.h>, which has struct iphdr",
    "netinet/ip6.h": "<linux/ipv6.h>, which has struct ipv6hdr",
    "netinet/ip_icmp.h": "<linux/icmp.h>",
    "netinet/tcp.h": "<linux/tcp.h>, which has struct tcphdr",
    "netinet/udp.h": "<linux/udp.h>, which has struct udphdr",
    "stdio.h": "bpf_printk(), which trace_log() reads",
    "stdlib.h": "maps, which are a BPF program's memory",
    "string.h": "__builtin_memcpy(), __builtin_memset() and __builtin_memcmp()",
    "sys/types.h": "<linux/types.h>",
    "time.h": "bpf_ktime_get_ns()",
    "unistd.h": "the helpers of bpf-helpers(7)",
}


def refusal(source: str, messages: str) -> CompileError:
    """The error that says what clang said of a source."""
    error, inclusion = _ERROR_AT.search(messages), _INCLUDED_AT.search(messages)
    line = column = None
    if inclusion and (error is None or inclusion.start() < error.start()):
        line = int(inclusion[1])
    elif error:
        line, column = int(error[1]), int(error[2])
    lines = source.splitlines()
    included = _INCLUDE.match(lines[line - 1]) if line and line <= len(lines) else None
    if included and included[1] in _INSTEAD:
        messages += f"\nThere is no C library for BPF: instead of <{included[1]}> take {_INSTEAD[included[1]]}."
    return CompileError(messages, line, column)
