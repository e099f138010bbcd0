"""What a kernel without netkit answers; on one with netkit, that the probe says so."""

from __future__ import annotations

import errno
import platform
import socket
import subprocess
import sys

import pytest

from elsewhere import only_where
from netkit_bpf import Device, NetkitPair, NetNS, NotSupportedError, _core
from programs import load
from veth import has_tcx


def has_netkit() -> bool:
    with NetNS.create() as netns:
        try:
            NetkitPair.create("probe", netns=netns).delete()
        except NotSupportedError:
            return False
    return True


def test_a_pair_is_made_where_the_kernel_has_netkit() -> None:
    only_where(has_netkit(), "kernels with netkit")
    with NetNS.create() as netns, NetkitPair.create(netns=netns) as pair:
        assert pair.primary.is_up


def test_a_pair_is_refused_by_name_where_the_kernel_has_no_netkit() -> None:
    only_where(not has_netkit(), "kernels without netkit")
    with NetNS.create() as netns:
        with pytest.raises(NotSupportedError) as caught:
            NetkitPair.create(netns=netns)
        assert (caught.value.feature, caught.value.needs) == ("netkit devices", "6.7")
        assert caught.value.running == platform.release()
        assert "needs Linux 6.7 or later built with CONFIG_NETKIT=y" in str(caught.value)
        assert f"this kernel is {platform.release()}" in str(caught.value)
        assert [name for _, name in netns.call(socket.if_nameindex)] == ["lo"]


def test_the_doctor_tells_what_the_kernel_has() -> None:
    done = subprocess.run([sys.executable, "-m", "netkit_bpf", "doctor"], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert {"kernel", "privilege", "netkit", "BPF", "BTF", "bpffs", "clang"} <= lines.keys()
    assert lines["BPF"].split()[1] == "ok"
    if has_netkit():
        assert done.returncode == 0, done.stdout
        assert "a pair was made and removed" in lines["netkit"]
    else:
        assert done.returncode == 1
        assert lines["netkit"].split()[1] == "missing"
        assert "boot 6.7 or later built with CONFIG_NETKIT=y" in lines["netkit"]


def test_a_program_is_attached_or_the_error_says_which_kernel_has_the_hook() -> None:
    with NetNS.create() as netns, load() as obj:
        program, lo = obj.programs["first"], Device.open("lo", netns)
        if has_tcx():
            with lo.attach(program, "ingress") as link:
                assert lo.programs("ingress").programs == ((program.id, "first", link.id),)
        else:
            for ask in (lambda: lo.attach(program, "ingress"), lambda: lo.programs("ingress")):
                with pytest.raises(NotSupportedError, match=f"6.6 for tcx hooks; this kernel is {platform.release()}"):
                    ask()
        with pytest.raises(OSError, match=r"attach program 'first' to lo \(primary\)") as caught:
            _core.Link(program._open(), (netns._open(), "lo", lo.ifindex, "", 0), (0, 0, False, 0), 0)
        if has_netkit():
            assert caught.value.errno == errno.ENXIO
            assert "lo is a plain device, not a netkit device" in str(caught.value)
        else:
            assert isinstance(caught.value, NotSupportedError)
            assert caught.value.needs == "6.7"
            assert "with CONFIG_NETKIT" in str(caught.value)


def test_the_command_says_so_in_one_line() -> None:
    only_where(not has_netkit(), "kernels without netkit")
    done = subprocess.run([sys.executable, "-m", "netkit_bpf", "monitor"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("netkit-bpf: netkit devices: Operation not supported (needs Linux 6.7")
    assert done.stderr.count("\n") == 1
