"""What is to be reached: ratios of two figures of the same round."""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """One figure divided by another, and the most or the least that it shall be; `floor` is the least there is."""

    text: str
    figure: str
    by: str
    most: float | None = None
    least: float | None = None
    floor: str = ""

    @property
    def limit(self) -> str:
        """The goal as it is written."""
        return f"<= {self.most:.3g}" if self.most is not None else f">= {self.least:.3g}"

    def is_measured(self, figures: dict[str, list[float]]) -> bool:
        """Whether both figures are there."""
        return self.figure in figures and self.by in figures

    def ratios(self, figures: dict[str, list[float]]) -> list[float]:
        """The ratio of each round."""
        return [one / other for one, other in zip(figures[self.figure], figures[self.by], strict=True)]

    def lowest(self, figures: dict[str, list[float]]) -> list[float]:
        """The ratio of each round if there were nothing but the floor; empty if there is none."""
        if self.floor not in figures:
            return []
        return [one / other for one, other in zip(figures[self.floor], figures[self.by], strict=True)]

    def is_met(self, ratio: float) -> bool:
        """Whether the ratio is as it shall be."""
        return (self.most is None or ratio <= self.most) and (self.least is None or ratio >= self.least)


_ITERATE = "for event, 2 attributes"
_FIREWALL = "firewall: acl, 10000 rules, ns"
GOALS = [
    Goal("full record / the tutorials' program", "program: full record, ns", "program: the tutorials', ns", most=0.6),
    Goal("drain / libbpf", "drain: blocks in C++, counting, ns", "drain: libbpf, counting, ns", most=0.6),
    Goal("for event / libbpf", f"drain: {_ITERATE}, ns", "drain: libbpf, counting, ns", most=3.5),
    Goal("for event / bcc", f"drain: {_ITERATE}, ns", "drain: bcc, 2 attributes, ns", most=1 / 30),
    Goal("numpy / libbpf", "drain: numpy batches, ns", "drain: libbpf, counting, ns", most=0.65),
    Goal("rate: for event / libbpf poll", f"rate: {_ITERATE}, M/s", "rate: libbpf poll, M/s", least=4),
    Goal("rate: for event / bcc", f"rate: {_ITERATE}, M/s", "rate: bcc, 2 attributes, M/s", least=12),
    Goal("rate: for event / tutorials' loop", f"rate: {_ITERATE}, M/s", "rate: tutorials' loop in C, M/s", least=8),
    Goal("100k/s: CPU / libbpf poll", f"100k/s: {_ITERATE}, cores", "100k/s: libbpf poll, cores", most=0.4),
    Goal(
        "100k/s: packet's path / libbpf poll",
        f"100k/s: {_ITERATE}, ns more in the packet's path",
        "100k/s: libbpf poll, ns more in the packet's path",
        most=0.1,
    ),
    Goal(
        "two producers: per-CPU rings / one",
        "two producers: per-CPU rings, M/s each",
        "two producers: one shared ring, M/s each",
        least=3,
    ),
    Goal("idle: p50 / libbpf poll", "idle: threaded, p50 us", "idle: libbpf, p50 us", most=1.2),
    Goal("idle: p99 / libbpf poll", "idle: threaded, p99 us", "idle: libbpf, p99 us", most=1.5),
    Goal("idle, inline: p50 / libbpf poll", "idle: inline, p50 us", "idle: libbpf, p50 us", most=1.2),
    Goal("idle, inline: p99 / libbpf poll", "idle: inline, p99 us", "idle: libbpf, p99 us", most=1.5),
    Goal("print / the same in C", "print: the lines of a batch, ns", "print: libbpf, inet_ntop, printf, ns", most=1),
    Goal("numpy / memcpy", "export: numpy, ns", "export: memcpy, ns", most=3),
    Goal("Arrow / memcpy", "export: Arrow, ns", "export: memcpy, ns", most=3),
    Goal("a configured pair / ip -batch", "pair: ours, ms", "pair: ip -batch, ms", most=0.3),
    Goal("a configured pair / pyroute2", "pair: ours, ms", "pair: pyroute2, ms", most=0.3),
    Goal(
        "delete by group / one by one",
        "delete: 64 by their group, ms a pair",
        "delete: one by one, ms a pair",
        most=0.1,
    ),
    *(
        Goal(f"monitor, {pairs}: {what}", f"node of {size}: {ours}", f"node of {size}: {limit}", most)
        for size, pairs in (
            (1, "1 pair"),
            (16, "16 pairs"),
            (64, "64 pairs"),
            (250, "250 pairs"),
            (1000, "1,000 pairs"),
        )
        for what, ours, limit, most in (
            (
                "open / attach",
                "open a monitor, ms a pair",
                "attach ready programs, ms a pair",
                1.5 if size == 1 else 1.3,
            ),
            ("close / detach", "close it, ms a pair", "detach them, ms a pair", 1.5 if size == 1 else 1.3),
            ("descriptors / 3 a pair and 30", "descriptors of a monitor", "3 descriptors a pair and 30", 1),
        )
    ),
    *(
        Goal(
            f"{kind}: 10,000 rules / 10", f"firewall: {kind}, 10000 rules, ns", f"firewall: {kind}, 10 rules, ns", most
        )
        for kind, most in (("acl", 2), ("fw", 2), ("ipc", 3.5))
    ),
    Goal("firewall / two of the kernel's tries", _FIREWALL, "firewall: two of the kernel's tries, ns", most=1 / 3),
    Goal("firewall / rule after rule", _FIREWALL, "firewall: rule after rule, 10000, ns", most=1 / 300),
    Goal("balancer, DSR / bpf_redirect", "balancer: dsr, ns", "balancer: bpf_redirect alone, ns", most=6),
    Goal("balancer, NAT / DNAT by helpers", "balancer: nat, ns", "balancer: DNAT by helpers alone, ns", most=0.5),
    Goal(
        "replace 10,000 rules / nft -f",
        "replace: 10000 rules, ms",
        "replace: nft -f of the same, ms",
        most=0.1,
        floor="replace: one rule, ms",
    ),
    *(
        Goal(
            f"flows: {text} / PERCPU_HASH",
            f"flows: ours, {text}, ns",
            f"flows: PERCPU_HASH, {text}, ns",
            most=0.35,
            floor=f"flows: the key and two lines of memory, {text}, ns",
        )
        for text in ("one flow", "4,096 flows")
    ),
    Goal(
        "flows: 60,000 flows / PERCPU_HASH",
        "flows: ours, 60,000 flows, ns",
        "flows: PERCPU_HASH, 60,000 flows, ns",
        most=1,
        floor="flows: two lines of memory, 60,000 flows, ns",
    ),
    Goal(
        "flows: one flow / hash, spin lock, ktime",
        "flows: ours, one flow, ns",
        "flows: hash, spin lock, ktime, one flow, ns",
        most=0.15,
    ),
    Goal(
        "flows: four times the slots / LRU_HASH",
        "flows: ours, four times more flows than slots, ns",
        "flows: LRU_HASH, four times more flows than slots, ns",
        most=0.4,
        floor="flows: two lines of memory, four times more flows than slots, ns",
    ),
    Goal("import / pyroute2", "import: netkit_bpf, ms", "import: pyroute2, ms", most=0.2),
    Goal("load / a CO-RE load", "load: the monitor, ms", "load: the tutorials', with CO-RE, ms", most=0.1),
]
