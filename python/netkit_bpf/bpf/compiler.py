# SPDX-License-Identifier: MIT
"""The C compiler for BPF programs: clang's BPF target, https://clang.llvm.org/docs/."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from pathlib import Path

from netkit_bpf import _core
from netkit_bpf.errors import CompileError
from netkit_bpf.internal.arguments import expect, expect_text

_NAMES = ("clang", *(f"clang-{version}" for version in range(25, 13, -1)))
_SECONDS = 300
# Headers that ship with the package: its own, libbpf's and the kernel's. They are searched after the user's and before
# the system's, which may be older than the headers that this package was built with.
_INCLUDE = Path(_core.__file__).with_name("include")

_INCLUDED_AT = re.compile(r"^In file included from <stdin>:(\d+):", re.MULTILINE)
_ERROR_AT = re.compile(r"^<stdin>:(\d+):(\d+): (?:fatal )?error: ", re.MULTILINE)
_INCLUSION = re.compile(r"\s*#\s*include\s*[<\"]([^>\"]+)[>\"]")

# There is no C library for BPF. These replace what its headers are included for.
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


def find_clang() -> str:
    """The path of clang: the value of the environment variable CLANG, else the first clang on the PATH.

    Raises:
        FileNotFoundError: there is none.
    """
    import shutil

    named = os.environ.get("CLANG")
    for name in (named,) if named else _NAMES:
        if path := shutil.which(name):
            return path
    what = f"there is no {named}, the value of the environment variable CLANG" if named else "there is no clang"
    raise FileNotFoundError(
        errno.ENOENT, f"compile a BPF program: {what}: install the package clang, or set CLANG to the path of one"
    )


def compile_source(source: str, cflags: Sequence[str] = ()) -> bytes:
    """Compile a BPF program and return the object file; arguments and errors are those of `BPFObject.compile`."""
    import subprocess

    expect(source, str, "source", "BPFObject.open() takes what is compiled already")
    expect_text(source, "source")
    if source.endswith(".c") and "\n" not in source:
        raise ValueError(f"source must be a program's text, not the name of a file: Path({source!r}).read_text()")
    if isinstance(cflags, str):
        raise TypeError("cflags must be a sequence of arguments, not a str")
    flags = [expect(flag, str, "cflags") for flag in cflags]
    clang = find_clang()
    arguments = [
        *("-target", "bpf", "-mcpu=v3", "-O2", "-Wall", "-fno-color-diagnostics"),
        *("-g", "-gdwarf-5", "-gembed-source"),  # BTF, with the source lines, as the source is not in a file
        *("-ffreestanding", "-fbuiltin"),  # there is no C library for BPF; the compiler's own headers suffice
        *flags,
        *("-isystem", str(_INCLUDE), "-isystem", str(_INCLUDE / "uapi")),
        *("-x", "c", "-c", "-", "-o", "-"),
    ]
    try:
        done = subprocess.run(
            [clang, *arguments], input=source.encode(), capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise CompileError(f"{clang} did not finish within {_SECONDS} s") from None
    messages = done.stderr.decode(errors="replace").strip()
    if done.returncode:
        raise _refusal(source, messages or f"{clang} ended with status {done.returncode}")
    if messages:
        import logging

        logging.getLogger(__name__).warning("%s", messages)
    return done.stdout


def _refusal(source: str, messages: str) -> CompileError:
    """The error with the messages of clang about a source."""
    error, inclusion = _ERROR_AT.search(messages), _INCLUDED_AT.search(messages)
    line = column = None
    if inclusion and (error is None or inclusion.start() < error.start()):
        line = int(inclusion[1])
    elif error:
        line, column = int(error[1]), int(error[2])
    lines = source.splitlines()
    included = _INCLUSION.match(lines[line - 1]) if line and line <= len(lines) else None
    if included and included[1] in _INSTEAD:
        messages += f"\nThere is no C library for BPF: instead of <{included[1]}> use {_INSTEAD[included[1]]}."
    return CompileError(messages, line, column)
