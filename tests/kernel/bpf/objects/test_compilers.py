# SPDX-License-Identifier: MIT
"""The programs that ship as each clang that is installed compiles them: a verifier sees what an optimizer has made."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from elsewhere import needs_clang, needs_tcx
from netkit_bpf import Ruleset, Verdict
from netkit_bpf.functions import balancer_programs, firewall_programs, metrics, monitor_programs

BPF = Path(__file__).parents[4] / "bpf"
INCLUDE = BPF / "include"
FLAGS = ["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Wextra", "-Werror"]  # CMakeLists.txt
pytestmark = needs_clang
CLANGS = ["clang", *(f"clang-{version}" for version in range(14, 30))]


def compile_with_each_clang(name: str, directory: Path) -> Iterator[Path]:
    """The object files of a program that ships."""
    found = {os.path.realpath(path): path for clang in CLANGS if (path := shutil.which(clang))}  # not by it: ccache's
    assert found
    multiarch = f"/usr/include/{os.uname().machine}-linux-gnu"
    for clang in sorted(found.values()):
        source, made = BPF / f"{name}.bpf.c", directory / f"{Path(clang).name}.o"
        subprocess.run([clang, *FLAGS, "-I", INCLUDE, "-idirafter", multiarch, "-c", source, "-o", made], check=True)
        yield made


def test_every_clang_makes_a_monitor_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in compile_with_each_clang("monitor", tmp_path):
        monkeypatch.setattr(monitor_programs, "program_file", lambda _, made=made: made)
        for snaplen in (0, 128, 262144):
            monitor_programs.load_programs(0, 4096, None, snaplen).close()
            monitor_programs.load_programs(0, 4096, None, snaplen, rings="percpu").close()
            monitor_programs.load_programs(0, 4096, None, snaplen, rings="ordered").close()


def test_every_clang_makes_flow_metrics_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for made in compile_with_each_clang("metrics", tmp_path):
        monkeypatch.setattr(metrics, "program_file", lambda _, made=made: made)
        with metrics.load_programs(0, 1, 1024) as first:
            metrics.load_programs(1, 2, 1024, shared=first).close()


def test_every_clang_makes_a_balancer_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vips: tuple[IPv4Address | IPv6Address, ...] = (IPv4Address("192.0.2.80"), IPv6Address("fd00::80"))
    for made in compile_with_each_clang("balancer", tmp_path):
        monkeypatch.setattr(balancer_programs, "program_file", lambda _, made=made: made)
        for vip, protocol, mode in itertools.product(vips, ("tcp", "udp"), ("nat", "dsr")):
            balancer_programs.load_balancer(vip, 80, protocol, mode, clients=(1, (bytes(6), bytes(6)))).close()


@needs_tcx
def test_every_clang_makes_a_firewall_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tables of each shape: one group, several, and more than a word sums up; numbers that are merged and not."""
    wide = [f"drop tcp from 10.{n >> 8}.{n & 255}.0/24 to any port {n} flags S/SA" for n in range(1000)]
    numbers = [
        f"pass tcp from any port {n} to any port {n * 3 % 5000} length {n}-{n + 9} flags S/SA" for n in range(300)
    ]
    many = [f"drop from 10.1.{n % 200}.0/24 to 10.2.{n // 200}.0/24" for n in range(33_000)]
    rulesets = [Ruleset(rules) for rules in ([], ["pass from fd00::/8"], wide, [*numbers, "pass rate 1/s"], many)]
    for made in compile_with_each_clang("firewall", tmp_path):
        monkeypatch.setattr(firewall_programs, "program_file", lambda _, made=made: made)
        for rules in rulesets:
            for connections in (0, 16):
                firewall_programs.load_rules(rules, Verdict.DROP, connections=connections, explains=True).close()
