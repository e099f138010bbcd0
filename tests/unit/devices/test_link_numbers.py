"""One table of ip-link(8)'s numbers: whatever speaks of them speaks of all that are in it."""

from __future__ import annotations

import argparse
import subprocess

import pytest

from netkit_bpf import Device, NetkitPair
from netkit_bpf.command import pair
from netkit_bpf.devices.link_numbers import LINK_NUMBERS, Number
from netkit_bpf.devices.pair_options import DeviceChanges, DeviceOptions, PairOptions

OTHERS = {"alias", "addrgenmode", "ifindex"}  # texts, words, and the number that a device has from the beginning


def options_of(command: str) -> set[str]:
    parser = argparse.ArgumentParser()
    pair.add_to(parser.add_subparsers())
    for word in ("pair", command):
        (choices,) = [each.choices for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
        parser = choices[word]
    return {option for action in parser._actions for option in action.option_strings}


def test_a_device_has_a_property_for_each() -> None:
    assert {name for name, value in vars(Device).items() if isinstance(value, Number)} == LINK_NUMBERS.keys()
    for name, row in LINK_NUMBERS.items():
        assert str(vars(Device)[name].__doc__).lower() == f"{row.what}.".lower()


def test_the_typed_options_name_each() -> None:
    assert DeviceOptions.__annotations__.keys() - OTHERS == LINK_NUMBERS.keys() - {"mtu"}  # an argument of its own
    names = DeviceOptions.__annotations__.keys()
    assert PairOptions.__annotations__.keys() == names | {f"peer_{name}" for name in names}
    changeable = {name for name, row in LINK_NUMBERS.items() if row.later}
    assert DeviceChanges.__annotations__.keys() == changeable | {"alias", "addrgenmode", "mac"}
    for name in LINK_NUMBERS.keys() - {"mtu"}:
        assert f"    {name}: " in str(DeviceOptions.__doc__), name
        assert f" {name}" in str(NetkitPair.create.__doc__), name
    for name in changeable:
        assert name in str(Device.set.__doc__), name


@pytest.mark.parametrize("prefix", ["--", "--peer-"])
def test_the_command_has_an_option_for_each(prefix: str) -> None:
    for row in LINK_NUMBERS.values():
        option = prefix + row.word.replace("_", "-")
        assert option in options_of("create")
        assert (option in options_of("set")) == bool(row.later)


def test_ip_knows_their_words() -> None:
    usage = subprocess.run(["ip", "link", "help"], capture_output=True, text=True, check=False).stderr
    new = {"gso_ipv4_max_size", "gro_ipv4_max_size"}  # since iproute2 6.3
    for row in LINK_NUMBERS.values():
        assert row.word in usage or row.word in new | {"txqueuelen"}, row.word  # of which it lists the synonym
