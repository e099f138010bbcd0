"""Wrong usage of the command: status 2, a line that says what is wrong, and one that says where help is."""

from __future__ import annotations

import sys

import pytest

from netkit_bpf.command import main


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "netkit-bpf: error: the following arguments are required: COMMAND"),
        ("monitr", "netkit-bpf: error: argument COMMAND: invalid choice: 'monitr'"),
        ("monitor --mode l2 --existing", "netkit-bpf monitor: error: --mode and --peer-name are of a new pair"),
        ("monitor --duration -1", "netkit-bpf monitor: error: argument --duration: must be a number of seconds"),
        ("capture -i nk0 -w x -c 0", "netkit-bpf capture: error: argument -c/--count: must be a whole number"),
        ("pair", "netkit-bpf pair: error: the following arguments are required: COMMAND"),
        ("pair create", "netkit-bpf pair create: error: the following arguments are required: NAME"),
        ("pair create nk0 --mode l4", "netkit-bpf pair create: error: argument --mode: invalid choice: 'l4'"),
        ("pair create nk0 --mtu big", "netkit-bpf pair create: error: argument --mtu: invalid int value: 'big'"),
        ("pair set nk0", "netkit-bpf pair set: error: say what to change"),
        ("pair set nk0 --up --down", "netkit-bpf pair set: error: argument --down: not allowed with argument --up"),
        ("pair delete", "netkit-bpf pair delete: error: the following arguments are required: NAME"),
        ("reap nk0", "netkit-bpf reap: error: unrecognized arguments: nk0"),
        ("pair set nk0 --mttu 1400", "netkit-bpf pair set: error: unrecognized arguments: --mttu 1400"),
        (
            "pair create nk0 mode l2",
            "netkit-bpf pair create: error: unrecognized arguments: mode l2 (options begin with --, as --mode)",
        ),
    ],
)
def test_wrong_usage_is_said_in_a_line_and_not_by_the_whole_usage(
    line: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", *line.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    written = capsys.readouterr()
    assert written.out == ""
    first, second = written.err.splitlines()
    assert first.startswith(text)
    assert second == f"Try '{text.partition(': ')[0]} --help'."


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--mtu 67", "--mtu must be 68 to 65535, not 67"),
        ("--peer-numtxqueues 0", "--peer-numtxqueues must be 1 to 4096, not 0"),
        ("--address 02:00:00:00:00:01", "--address: an L3 device has no MAC address; use mode='l2'"),
        ("--headroom 70000", "headroom must be 0 to 65535, not 70000"),
        ("--peer-name nk0", "peer_name is 'nk0' as well: the two ends need two names"),
    ],
)
def test_what_cannot_be_is_refused_before_the_kernel_is_asked(
    line: str, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", "pair", "create", "nk0", *line.split()])
    assert main() == 1
    assert capsys.readouterr() == ("", f"netkit-bpf: {text}\n")
