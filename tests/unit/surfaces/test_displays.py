"""What a notebook shows of events, batches, counts and rules, and that nothing in it is taken for HTML."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import netkit_bpf as nk
from event_records import event
from netkit_bpf.events.stats import MonitorStats, ReadingStats, SideStats
from netkit_bpf.internal.drawing import MOST_CABLES, Cable, draw_cables, draw_graph, draw_lines
from netkit_bpf.internal.html import MOST_ROWS, Part, Table, facts, first, show

EVIL = "<script>alert(1)</script>&\"'"


def svg(text: str) -> ET.Element:
    return ET.fromstring(text)


def texts(text: str) -> list[str]:
    return [each.text or "" for each in svg(text).iter("{http://www.w3.org/2000/svg}text")]


def test_foreign_text_is_escaped_wherever_it_stands() -> None:
    made = show(
        EVIL,
        lambda: [
            Table([EVIL], [[EVIL]], EVIL),
            facts(**{EVIL: EVIL}),
            draw_cables([EVIL], [Cable(EVIL, [EVIL], [EVIL], [EVIL])]),
            draw_lines({EVIL: [(0, 1), (1, 2)]}, EVIL),
            draw_graph({EVIL: [EVIL], "b": ["b"]}, [(EVIL, "b", EVIL)]),
        ],
    )
    assert made is not None
    assert "<script" not in made
    assert made.count("&lt;script&gt;") >= 10


def test_numbers_stand_right_and_nothing_is_an_empty_cell() -> None:
    made = str(Table(("name", "count"), [("a", 1234567), ("b", None)]))
    assert '<td class="number">1,234,567</td>' in made
    assert '<th class="number">count</th>' in made
    assert made.count('class="number"') == 2 + ('<td class="number"></td>' in made)


def test_rows_that_are_not_shown_are_counted() -> None:
    made = str(first([(str(number),) for number in range(1000)], ("number",)))
    assert made.count("<tr>") == 1 + MOST_ROWS + 1
    assert f"… and {1000 - MOST_ROWS} more" in made


def test_a_bar_is_as_long_as_its_part() -> None:
    made = str(Table(("part",), [(Part(0.25),), (Part(7.0),)]))
    assert "width: 25.0%" in made
    assert "width: 100.0%" in made


@pytest.mark.parametrize("error", [OSError(19, "No such device"), ValueError("closed"), LookupError("gone")])
def test_what_cannot_be_looked_at_is_shown_as_text(error: Exception) -> None:
    def build() -> list[object]:
        raise error

    assert show("it", build) is None


def test_a_cable_shows_both_hooks_and_what_is_on_them() -> None:
    drawn = draw_cables(["nk0", "fd00::1/64"], [Cable("", ["firewall"], ["monitor", "drop"], ["nk0p", "fd00::2/64"])])
    for word in ("nk0", "fd00::1/64", "firewall", "monitor, drop", "nk0p", "primary hook", "peer hook"):
        assert word in texts(drawn)


def test_of_many_cables_the_first_are_drawn_and_the_others_counted() -> None:
    drawn = draw_cables(["hub"], [Cable(f"n{number}", (), (), ["nk0"]) for number in range(254)])
    assert f"n{MOST_CABLES - 1}" in texts(drawn)
    assert f"n{MOST_CABLES}" not in texts(drawn)
    assert f"… and {254 - MOST_CABLES} more" in texts(drawn)


def test_texts_of_a_drawing_stay_inside() -> None:
    drawn = draw_cables(["x" * 40], [Cable("y" * 15, ["z" * 15] * 9, ["w" * 15] * 9, ["v" * 43])])
    width = float(svg(drawn).attrib["width"])
    for each in svg(drawn).iter("{http://www.w3.org/2000/svg}text"):
        length, x = 7.3 * len(each.text or ""), float(each.attrib["x"])
        left = x - length if each.attrib["text-anchor"] == "end" else x
        assert left >= 0
        assert left + length <= width + 1


@pytest.mark.parametrize(
    ("largest", "tick"), [(0, "1"), (0.4, "1"), (1, "1"), (7, "10"), (1_500_000, "2M"), (12e9, "20G"), (50, "50")]
)
def test_an_axis_ends_at_a_round_number(largest: float, tick: str) -> None:
    if largest == 0:
        assert draw_lines({"a": []}, "packets/s")
        return
    assert tick in texts(draw_lines({"a": [(0, 0), (1, largest)]}, "packets/s"))


def test_an_event_shows_the_fields_that_apply() -> None:
    made = event(src_port=40000, dst_port=443)._repr_html_()
    assert made is not None
    assert "<td>dst port</td><td>443</td>" in made
    assert "vlan id" not in made


def test_counts_show_each_side_and_how_full_the_buffers_are() -> None:
    stats = MonitorStats(SideStats(5, 3, 1, 1), SideStats(2, 2, 0, 0), ReadingStats(1024, 4096, 0, 4096, 0, 0))
    made = stats._repr_html_()
    assert made is not None
    assert '<tr><td>both</td><td class="number">7</td>' in made
    assert "width: 25.0%" in made


def test_rules_are_numbered_and_escaped() -> None:
    made = nk.Ruleset.parse('pass tcp to any port 80 label "<b>web</b>"\ndrop udp')._repr_html_()
    assert made is not None
    assert "&lt;b&gt;web&lt;/b&gt;" in made
    assert "<td>2</td><td>drop udp" in made


@pytest.mark.parametrize("number", [1, 2, 3, MOST_CABLES, MOST_CABLES + 7])
def test_a_graph_has_each_node_and_each_link_within_its_frame(number: int) -> None:
    boxes = {f"n{each}": [f"n{each}", "fd42:0:0:1::2"] for each in range(number)}
    lines = [(f"n{each}", f"n{each + 1}", f"{each} ms") for each in range(number - 1)]
    drawn = draw_graph(boxes, lines)
    shown = min(number, MOST_CABLES)
    assert {f"n{each}" for each in range(shown)} <= set(texts(drawn))
    assert {f"{each} ms" for each in range(shown - 1)} <= set(texts(drawn))
    assert ("… and 7 more" in texts(drawn)) == (number > MOST_CABLES)
    width, height = (float(svg(drawn).get(name) or 0) for name in ("width", "height"))
    for box in svg(drawn).iter("{http://www.w3.org/2000/svg}rect"):
        x, y, wide, high = (float(box.get(name) or 0) for name in ("x", "y", "width", "height"))
        assert x >= 0
        assert y >= 0
        assert x + wide <= width
        assert y + high <= height
