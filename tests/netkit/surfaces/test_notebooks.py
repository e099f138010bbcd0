"""The notebooks: what is committed was run whole, and running each, twice in one kernel, shows what it says."""

from __future__ import annotations

import ast
import base64
import itertools
import math
import re
import statistics
import struct
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from notebook_runs import ROOT, executed, read, runs_of
from traffic import ACK, ECHO, SYN

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST = 250_000  # bytes of a committed notebook, its figures included


def _code(cells: list[Any]) -> list[Any]:
    return [cell for cell in cells if cell.cell_type == "code"]


def _streams(cells: list[Any], name: str) -> list[str]:
    return [
        output.text
        for cell in _code(cells)
        for output in cell.outputs
        if output.output_type == "stream" and output.name == name
    ]


def _pictures(cell: Any) -> list[tuple[float, float, int]]:
    """The width and the height of each figure of a cell, and its bytes."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            picture = base64.b64decode(data["image/png"])
            assert picture.startswith(b"\x89PNG\r\n\x1a\n")
            width, height = struct.unpack(">II", picture[16:24])
            found.append((width, height, len(picture)))
        elif "image/svg+xml" in data:
            drawing = ET.fromstring(data["image/svg+xml"])
            size = [float(drawing.attrib[name].removesuffix("pt")) for name in ("width", "height")]
            found.append((size[0], size[1], len(data["image/svg+xml"])))
    return found


def _shows_something(source: str) -> bool:
    """Whether a cell prints, draws, or ends with an expression."""
    tree = ast.parse(TransformerManager().transform_cell(source))  # type: ignore[no-untyped-call]
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    last = tree.body[-1]
    method = isinstance(last, ast.Expr) and isinstance(last.value, ast.Call)  # close() and the like: may give None
    return bool(calls & {"print", "pprint", "plt.show"}) or (isinstance(last, ast.Expr) and not method)


def _check_outputs(cells: list[Any]) -> None:
    """Every cell that shows something did, and nothing failed."""
    for cell in _code(cells):
        kinds = [output.output_type for output in cell.outputs]
        assert "error" not in kinds, cell.id
        assert bool(kinds) is _shows_something(cell.source), cell.id
        pictures = _pictures(cell)
        assert len(pictures) == cell.source.count("plt.show()"), cell.id
        for width, height, size in pictures:
            assert width > 500
            assert height > 150
            assert size > 8_000  # an empty frame takes less


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    made: Path = request.param
    return made


def test_there_is_a_notebook() -> None:
    assert NOTEBOOKS


def test_what_is_committed_was_run_from_top_to_bottom(path: Path) -> None:
    cells = read(path).cells
    assert [cell.execution_count for cell in _code(cells)] == list(range(1, len(_code(cells)) + 1))
    _check_outputs(cells)
    assert not _streams(cells, "stderr")


def test_what_is_committed_is_small_and_names_no_machine(path: Path) -> None:
    text = path.read_text()
    assert len(text) < LARGEST
    assert str(ROOT) not in text
    outputs = "".join(_streams(read(path).cells, "stdout"))
    assert not re.search(r"/(home|root|tmp|usr|Users)/", outputs)


def test_all_cells_run_and_run_again(path: Path) -> None:
    for cells in executed(path).runs:
        _check_outputs(cells)
        # It may say so once where matplotlib was never used before.
        assert [text for text in _streams(cells, "stderr") if "font cache" not in text] == []


def test_no_device_namespace_or_program_is_left(path: Path) -> None:
    for probe in executed(path).probes:
        assert probe["devices"] == ["lo"]
        assert probe["namespaces"] == []
        assert probe["bpf"] == []


@pytest.fixture(params=range(runs_of("01-first-packets")), ids="run {}".format)
def first_packets(request: pytest.FixtureRequest) -> dict[str, Any]:
    names: dict[str, Any] = executed(ROOT / "notebooks" / "01-first-packets.ipynb").probes[request.param]["names"]
    return names


HOST, CONTAINER = "fd00::1", "fd00::2"
ASKED, ANSWERED = ["peer", CONTAINER, HOST], ["primary", HOST, CONTAINER]
REQUEST, REPLY = ECHO[6]


def test_the_container_asked_three_times_and_the_host_answered(first_packets: dict[str, Any]) -> None:
    assert first_packets["pings"] == [[*ASKED, REQUEST, 64], [*ANSWERED, REPLY, 64]] * 3


def _lengths(size: int) -> list[int]:
    """The payload lengths of the IPv6 packets that carry an ICMPv6 message of this payload; the MTU is 1500."""
    message = 8 + size
    if message <= 1500 - 40:
        return [message]
    return [8 + min(1448, message - offset) for offset in range(0, message, 1448)]


def test_each_echo_is_a_request_and_a_reply_in_as_many_packets_as_its_size_needs(first_packets: dict[str, Any]) -> None:
    plan, exchanges = first_packets["plan"], first_packets["exchanges"]
    assert len(plan) == 49 * 40
    for size, exchange in zip(plan, exchanges, strict=True):
        lengths = _lengths(size)
        later = [None] * (len(lengths) - 1)  # only the first fragment shows the type
        assert exchange == [
            [*way, length, kind]
            for way, first in ((ASKED, REQUEST), (ANSWERED, REPLY))
            for length, kind in zip(lengths, [first, *later], strict=True)
        ]


def test_an_echo_costs_time_by_the_packet(first_packets: dict[str, Any]) -> None:
    plan, between = first_packets["plan"], first_packets["between_us"]
    assert statistics.median(between) < statistics.median(first_packets["waited_ns"]) / 1000
    medians = [
        statistics.median(time for size, time in zip(plan, between, strict=True) if len(_lengths(size)) == packets)
        for packets in (1, 3, 5)
    ]
    assert medians == sorted(medians)
    assert medians[0] > 0


def test_few_events_carry_the_transfer_and_count_its_packets(first_packets: dict[str, Any]) -> None:
    assert first_packets["received"] == 4_000_000
    tcp = first_packets["tcp"]
    assert [(side, flags) for side, flags, *_ in tcp[:3]] == [("primary", SYN), ("peer", SYN | ACK), ("primary", ACK)]
    data = 0
    for side, _, payload_len, length, gso_segs in tcp:
        assert length == 14 + 40 + payload_len
        carried = max(0, payload_len - 32) if payload_len > 40 else 0  # the handshake's header is longer
        if side == "primary":
            data += carried
        assert gso_segs == max(1, math.ceil(carried / 1428))  # 1500 less 40 of IPv6 and 32 of TCP
    assert data >= 4_000_000  # more if something was sent again
    assert first_packets["largest"] == max(event[3] for event in tcp) > 30_000


def test_the_account_is_that_of_the_events(first_packets: dict[str, Any]) -> None:
    names = first_packets
    read = [event[0] for event in (*names["pings"], *itertools.chain(*names["exchanges"]), *names["tcp"])]
    unread = {"primary": 1000, "peer": 0}  # the datagrams, for which the second monitor was made
    for name, side in names["stats"].items():
        delivered = read.count(name)
        pending = unread[name]
        assert side == {"seen": delivered + pending, "delivered": delivered, "lost": 0, "pending": pending}
    kept = names["kept"]
    assert 0 < kept < 1000
    assert names["small"] == {
        "primary": {"seen": 1000, "delivered": kept, "lost": 1000 - kept, "pending": 0},
        "peer": {"seen": 0, "delivered": 0, "lost": 0, "pending": 0},
    }
