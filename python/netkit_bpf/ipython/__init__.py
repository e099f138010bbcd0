# SPDX-License-Identifier: MIT
"""What `%load_ext netkit_bpf` brings to IPython and Jupyter: the magics `%%bpf` and `%netkit`."""

from __future__ import annotations

from IPython.core.interactiveshell import InteractiveShell

from netkit_bpf.ipython.bpf_magic import BPFMagic
from netkit_bpf.ipython.netkit_magic import NetkitMagic


def load(shell: InteractiveShell) -> None:
    """Register the magics with a shell."""
    shell.register_magics(BPFMagic, NetkitMagic)
