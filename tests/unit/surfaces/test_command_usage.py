"""Wrong usage of the command: status 2, a line that says what is wrong, and one that says where help is."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from netkit_bpf.command import main


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("", "netkit-bpf: error: the following arguments are required: COMMAND"),
        ("monitr", "netkit-bpf: error: argument COMMAND: invalid choice: 'monitr'"),
        ("monitor --mode l2 --existing", "netkit-bpf monitor: error: --mode and --peer-name describe a new pair"),
        ("monitor --duration -1", "netkit-bpf monitor: error: argument --duration: must be a number of seconds"),
        ("capture -i nk0 -w x -c 0", "netkit-bpf capture: error: argument -c: must be a whole number"),
        (
            "monitor --format classic --export",
            "netkit-bpf monitor: error: argument --export: not allowed with argument --format",
        ),
        ("capture -C 1", "netkit-bpf capture: error: -C is about a file: name it with -w"),
        ("pair set nk0 --pid 1 --up", "netkit-bpf pair set: error: argument --pid: not allowed with argument NAME"),
        (
            "pair show --pid x",
            "netkit-bpf pair show: error: argument --pid: must be a whole number, 1 or more, not 'x'",
        ),
        ("fw show", "netkit-bpf fw show: error: one of the arguments NAME --container --pid is required"),
        ("pair", "netkit-bpf pair: error: the following arguments are required: COMMAND"),
        ("pair create", "netkit-bpf pair create: error: the following arguments are required: NAME"),
        ("pair create nk0 --mode l4", "netkit-bpf pair create: error: argument --mode: invalid choice: 'l4'"),
        ("pair create nk0 --mtu big", "netkit-bpf pair create: error: argument --mtu: invalid int value: 'big'"),
        ("pair set nk0", "netkit-bpf pair set: error: say what to change"),
        ("pair set nk0 --up --down", "netkit-bpf pair set: error: argument --down: not allowed with argument --up"),
        ("pair delete", "netkit-bpf pair delete: error: the following arguments are required: NAME"),
        ("vm run true", "netkit-bpf: error: the COMMAND stands after --, as in: vm run -- uname -r"),
        ("vm run --publish 0 -- true", "netkit-bpf vm run: error: argument --publish: must be a port or two, as 8888"),
        ("vm jupyter --port 99999", "netkit-bpf vm jupyter: error: argument --port: must be a port, 1 to 65535"),
        ("vm jupyter nosuch.ipynb", "netkit-bpf vm jupyter: error: argument notebook: there is no 'nosuch.ipynb'"),
        ("vm run --memory lots -- true", "netkit-bpf vm run: error: argument --memory: must be a number of mebibytes"),
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


OF_PAIRS = [
    "monitor",
    "capture -w x",
    "top",
    "exporter",
    "pair show",
    "pair set --up",
    "lb --vip 192.0.2.80 --port 80",
    "prog attach peer none.bpf.o",
    "prog list",
    "prog detach peer drop",
    "fw show",
    "fw explain peer 00",
    "fw load /dev/null",
]


@pytest.fixture
def signals_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netkit_bpf.command.top.interrupt_on_signals", lambda: None)
    monkeypatch.setattr("netkit_bpf.command.exporter.interrupt_on_signals", lambda: None)
    monkeypatch.setattr("netkit_bpf.command.lb.interrupt_on_signals", lambda: None)
    monkeypatch.setattr("netkit_bpf.command.packets.watch.Stop", SimpleNamespace)
    monkeypatch.setattr("netkit_bpf.command.fw.signal.pthread_sigmask", lambda *_: None)


@pytest.mark.parametrize("line", OF_PAIRS)
@pytest.mark.usefixtures("signals_left_alone")
def test_a_container_stands_for_its_pair_wherever_one_is_named(
    line: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for option, complaint in (
        ("--container dead", "no process here is in a container dead: "),
        ("--container=", "'' is not the id of a container"),
        ("--pid 2147483647", "there is no /proc/2147483647/ns/net"),
    ):
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", *line.split(), *option.split()])
        assert main() == 1
        assert complaint in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        *(
            (f"{line} --pid 1 --netns red", "--netns says where a NAME is: leave it out with --container and")
            for line in OF_PAIRS
        ),
        ("top nk0 --container dead --netns red", "--netns says where a NAME is"),
        ("fw load --container dead nk0 /dev/null", "--container and --pid say which pair: leave nk0 out"),
        ("fw load --pid 1 nk0 -", "--container and --pid say which pair: leave nk0 out"),
        ("fw load", "say which pair: NAME, --container ID or --pid N"),
    ],
)
@pytest.mark.usefixtures("signals_left_alone")
def test_what_contradicts_a_container_is_wrong_usage(
    line: str, text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", *line.split()])
    monkeypatch.setattr(sys, "stdin", io.StringIO("pass"))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert text in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("--mtu 67", "--mtu must be 68 to 65535, not 67"),
        ("--peer-numtxqueues 0", "--peer-numtxqueues must be 1 to 4096, not 0"),
        ("--address 02:00:00:00:00:01", "--address: an L3 device has no MAC address; one in l2 mode has"),
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


@pytest.mark.parametrize("line", ["prog list", "top", "exporter"])
@pytest.mark.usefixtures("signals_left_alone")
def test_where_there_is_no_pair_it_is_said_how_there_will_be_one(
    line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("netkit_bpf.command.selection.pairs", lambda _: [])
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", *line.split()])
    assert main() == 1
    assert capsys.readouterr().err == (
        "netkit-bpf: there is no pair here: netkit-bpf pair create makes one, "
        "--netns looks in another network namespace\n"
    )


def test_the_exporter_says_what_to_install(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", "exporter"])
    assert main() == 1
    assert capsys.readouterr().err == (
        "netkit-bpf: the exporter needs prometheus_client: pip install 'netkit-bpf[prometheus]'\n"
    )
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", "exporter", "--json"])
    assert main() == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["status"]) == ("error", 1)


def test_options_of_the_command_that_runs_are_not_the_subcommands_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", "monitor", "-s", "x", "--", "ip", "--json"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out == ""
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr("netkit_bpf.command.capture.run", seen.append)
    monkeypatch.setattr(
        sys, "argv", ["netkit-bpf", "capture", "-i", "nk0", "tcp", "--", "ip", "--json", "--", "-c", "1"]
    )
    main()
    assert (seen[0].expression, seen[0].command) == (["tcp"], ["ip", "--json", "--", "-c", "1"])
    assert (seen[0].format, seen[0].count) == ("tcpdump", None)


def test_a_subcommand_starts_without_the_others() -> None:
    script = "import sys; from netkit_bpf.command import make_parser; make_parser(['doctor']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = {each.removeprefix("netkit_bpf.command.") for each in done.stdout.split()}
    assert "doctor" in imported
    assert not imported & {"monitor", "capture", "fw", "lb", "top", "exporter", "vm"}


def test_the_kernels_are_listed_as_json_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # none is downloaded
    monkeypatch.setattr(sys, "argv", ["netkit-bpf", "vm", "kernels", "--json"])
    assert main() == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"kernel": "7.2", "release": None} in listed
