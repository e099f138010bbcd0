"""What is delivered and what is lost as packets come faster, for each who reads them; as figures and as a picture."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import rows
from producer import flood

RATES = (0.1e6, 0.3e6, 0.6e6, 1e6, 2e6, 3e6, 4e6, 6e6, 8e6, 10e6, 12e6, 15e6, 20e6)  # packets a second
SECONDS = 0.5


class Point(NamedTuple):
    """Millions of packets a second."""

    offered: float
    delivered: float

    @property
    def lost(self) -> float:
        """What found no room in the ring."""
        return self.offered - self.delivered


def measure(build: Path) -> dict[str, list[Point]]:
    """Offer each consumer a ring of 4 MiB and bursts of 64, faster and faster, until the producer can no more."""
    found: dict[str, list[Point]] = {}
    for name, open_consumer in rows.contenders(build).items():
        points = found.setdefault(name, [])
        for rate in RATES:
            with open_consumer() as consumer:
                sent = flood(build, consumer.program, burst=rows.BURST, rate=rate, seconds=SECONDS)
                time.sleep(0.1)
                result = consumer.stop()
            scale = 1e3 / sent.elapsed  # packets in nanoseconds to millions a second
            points.append(Point(sent.packets * scale, result.records * scale))
            if points[-1].offered < 0.8 * rate / 1e6:
                break
    return found


def draw(found: dict[str, list[Point]], about: str, target: Path) -> None:
    """Write a picture (PNG, or what the file's name asks for)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 7), layout="constrained")
    for rank, (name, points) in enumerate(found.items()):
        style: dict[str, Any] = {
            "marker": "o",
            "markersize": 3,
            "zorder": 10 - rank,
        }  # the first ones end first: on top
        offered = [point.offered for point in points]
        (line,) = above.plot(offered, [point.delivered for point in points], label=name, **style)
        share = [100 * point.lost / point.offered for point in points]
        below.plot(offered, share, color=line.get_color(), **style)
    above.set(
        ylabel="delivered, million events/s", yscale="log", title="Events delivered and lost, 4 MiB ring, bursts of 64"
    )
    below.set(xlabel="offered, million packets/s", ylabel="lost, %", xscale="log", ylim=(-2, 102))
    for axes in (above, below):
        axes.grid(alpha=0.3)
    above.legend(fontsize="small")
    figure.supxlabel(
        f"A line ends where packets can come no faster: waking the reader holds them up. {about}",
        fontsize=6,
        color="gray",
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    pyplot.close(figure)
