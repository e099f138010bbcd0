"""netkit-bpf extcap as Wireshark calls it: what tshark lists once it is installed, and what each call prints."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from elsewhere import need
from netkit_bpf.command import main

Command = Callable[..., str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["netkit-bpf", "extcap", *words])
        try:
            found: object = main()
        except SystemExit as left:
            found = left.code
        written = capsys.readouterr()
        assert found == status, written.err
        return written.out or written.err

    return run


def wireshark_that_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *folders: str) -> None:
    """A tshark that names these folders."""
    program = tmp_path / "tshark"
    said = "\n".join(folders)
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of each user, which Wireshark has from 4.2 on."""
    folder = tmp_path / "extcap"
    wireshark_that_says(tmp_path, monkeypatch, f"Personal Extcap path:\t{folder}", "Global Extcap path:\t/nowhere")
    return folder


def test_tshark_lists_it_while_it_is_installed_for_all(command: Command) -> None:
    need("tshark")
    said = command("--install", "system")
    try:
        path = re.match(r"netkit-bpf: installed (\S+): ", said)
        assert path is not None
        assert "extcap" in path[1]
        told = subprocess.run(["tshark", "-G", "plugins"], capture_output=True, text=True, check=True).stdout
        assert re.search(rf"^netkit-bpf\s+1\s+extcap\s+{re.escape(path[1])}$", told, re.MULTILINE), told
        command("--install", "system")  # anew, as after an update
    finally:
        assert command("--uninstall", "system").startswith("netkit-bpf: removed ")
    assert command("--uninstall", "system", status=1).endswith(": nothing to remove\n")


def test_the_users_folder_is_usual_where_there_is_one(command: Command, own_folder: Path) -> None:
    command("--install")
    for option in (
        "--extcap-dlts",
        "--extcap-config",
        "--extcap-interfaces",
    ):  # the script's own answers, and passed on
        argv = [own_folder / "netkit-bpf", option, "--extcap-interface", "x"]
        started = subprocess.run(argv, capture_output=True, text=True, check=True)
        assert started.stdout == command(option, "--extcap-interface", "x")
    command("--uninstall", "user")
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize("word", ["--install", "--uninstall"])
def test_what_it_did_not_write_is_left_alone(command: Command, own_folder: Path, tmp_path: Path, word: str) -> None:
    own_folder.mkdir()
    script, elsewhere = own_folder / "netkit-bpf", tmp_path / "elsewhere"
    wrapper = '#!/bin/sh\nexec sudo -n /opt/venv/bin/netkit-bpf extcap "$@"\n'
    script.write_text(wrapper)
    assert "not this command's" in command(word, "user", status=1)
    assert script.read_text() == wrapper
    script.unlink()
    script.symlink_to(elsewhere)  # dangling
    assert "not this command's" in command(word, "user", status=1)
    assert not elsewhere.exists()
    script.unlink()
    command("--install")
    script.rename(elsewhere)
    script.symlink_to(elsewhere)
    assert "not this command's" in command(word, "user", status=1)
    script.unlink()
    script.mkdir()
    assert "not this command's" in command(word, "user", status=1)


def test_where_wireshark_has_no_users_folder_that_is_said(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wireshark_that_says(tmp_path, monkeypatch, "Extcap path:\t/nowhere")  # as 4.0 says it
    assert "--install system, as root" in command("--install", "user", status=1)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert "there is no tshark and no wireshark" in command("--install", status=1)


def test_each_call_of_wireshark_is_answered(command: Command) -> None:
    assert command("--extcap-interfaces", "--extcap-version=4.0").splitlines() == [
        "extcap {version=1}{display=netkit}",
        "interface {value=netkit}{display=all netkit pairs, also those that come}",
    ]
    configured = command("--extcap-config", "--extcap-interface", "netkit-nk0")
    assert "{call=--sender}" in configured
    assert "{value=both}{display=both}{default=true}" in configured
    for option in ("--netns", "--container"):
        assert f"{{call={option}}}" in configured
    assert command("--extcap-interface", "x", "--extcap-capture-filter", "tcp port 443") == ""
    assert "syntax error" in command("--extcap-interface", "x", "--extcap-capture-filter", "tcp prt 443")


def test_a_pair_that_is_not_there_is_said(command: Command) -> None:
    line = "--capture --extcap-interface netkit-nk9 --fifo /dev/null"
    assert command(*line.split(), status=1).startswith(
        "netkit-bpf: there is no device nk9 in this network namespace: see netkit-bpf pair show"
    )


def test_a_namespace_and_a_container_that_are_not_there_are_said(command: Command) -> None:
    line = ["--capture", "--extcap-interface", "netkit", "--fifo", "/dev/null"]
    assert "there is no network namespace 'nowhere'" in command(*line, "--netns", "nowhere", status=1)
    assert "is in a container deadbeef" in command(*line, "--container", "deadbeef", status=1)


def test_fields_that_were_left_empty_choose_nothing(command: Command) -> None:
    line = ["--capture", "--extcap-interface", "netkit-nk9", "--fifo", "/dev/null", "--netns", "", "--container", ""]
    assert "there is no device nk9 in this network namespace" in command(*line, status=1)


def test_what_is_missing_is_wrong_usage(command: Command) -> None:
    for line, said in {
        "": "say what to do: --install, or what Wireshark says",
        "--extcap-dlts": "say which interface: --extcap-interface NAME",
        "--capture --extcap-interface x": "say where to write: --fifo PATH",
        "--install all": "invalid choice: 'all'",
        "--install user --uninstall user": "not allowed with",
    }.items():
        assert said in command(*line.split(), status=2), line
