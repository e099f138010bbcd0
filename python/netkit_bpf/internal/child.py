# SPDX-License-Identifier: MIT
"""Processes that live in a network namespace: subprocess, and ip-netns(8), exec. Imported when the first one starts."""

from __future__ import annotations

import contextlib
import mmap
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netkit_bpf._core import Namespace

_ROOM = 4096  # bytes for the reason why the child could not enter: an errno and a text
_MOST_LINES = 20  # of each output of a program that failed


class FailedProgramError(subprocess.CalledProcessError):
    """As its base; the text also has the end of what the program wrote, if that was captured."""

    def __str__(self) -> str:
        parts = [super().__str__()]
        for name, output in (("stdout", self.stdout), ("stderr", self.stderr)):
            text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
            if lines := text.rstrip().splitlines():
                parts += [f"{name}:{' …' if len(lines) > _MOST_LINES else ''}", *lines[-_MOST_LINES:]]
        return "\n".join(parts)


def spawn(
    space: Namespace,
    name: str | None,
    argv: Sequence[str | os.PathLike[str]],
    options: dict[str, Any],
    hosts: str = "",
) -> subprocess.Popen[Any]:
    """Start a process inside, as the calling thread's child.

    The child enters the namespace itself, between fork and exec. If a thread inside started it and then ended, a child
    that uses prctl(PR_SET_PDEATHSIG) would get its signal at once. Its /etc/hosts has the lines of `hosts` too.
    """
    outcome = mmap.mmap(-1, _ROOM)  # shared with the child
    become = _Inhabitant(space, os.fsencode(name or ""), _with_those_here(hosts), outcome, options)
    try:
        return subprocess.Popen(argv, preexec_fn=become, **options)
    except subprocess.SubprocessError:
        number, text = int.from_bytes(outcome[:4], "big"), outcome[4:].rstrip(b"\0").decode(errors="replace")
        if number:
            raise OSError(number, text) from None
        raise


class _Inhabitant:
    """What the child does before it runs the program: enter the namespace, then what `subprocess` would do."""

    def __init__(
        self, space: Namespace, name: bytes, hosts: bytes, outcome: mmap.mmap, options: dict[str, Any]
    ) -> None:
        self._space = space
        self._name = name
        self._hosts = hosts
        self._outcome = outcome
        self._preexec: Callable[[], object] | None = options.pop("preexec_fn", None)
        # A process that has dropped its rights may not enter any more.
        self._user, self._group = (options.pop(key, None) for key in ("user", "group"))
        self._extra_groups = options.pop("extra_groups", None)
        if not (self._user is self._group is self._extra_groups is None):
            self._user, self._group = _number(self._user, "user"), _number(self._group, "group")
            if self._extra_groups is not None:
                self._extra_groups = [_number(each, "extra_groups") for each in self._extra_groups]

    def __call__(self) -> None:
        try:
            self._space.become_inhabitant(self._name, self._hosts)
            if self._extra_groups is not None:
                os.setgroups(self._extra_groups)
            if self._group is not None:
                os.setregid(self._group, self._group)
            if self._user is not None:
                os.setreuid(self._user, self._user)
        except OSError as error:
            text = (error.errno or 1).to_bytes(4, "big") + str(error.strerror).encode()
            with contextlib.suppress(ValueError):
                self._outcome[: len(text[:_ROOM])] = text[:_ROOM]
            raise
        if self._preexec is not None:
            self._preexec()


def _with_those_here(hosts: str) -> bytes:
    """These lines of hosts(5) in front of those that the machine has, so that they count."""
    if not hosts:
        return b""
    with contextlib.suppress(OSError):
        return hosts.encode() + Path("/etc/hosts").read_bytes()
    return hosts.encode()


def _number(which: str | int | None, option: str) -> int | None:
    """The number of a user or a group; as `subprocess` does it."""
    if which is None or isinstance(which, int):
        if which is not None and which < 0:
            raise ValueError(f"{option} must not be negative, not {which}")
        return which
    if not isinstance(which, str):
        raise TypeError(f"{option} must be a name or a number, not {type(which).__name__}")
    import grp
    import pwd

    return pwd.getpwnam(which).pw_uid if option == "user" else grp.getgrnam(which).gr_gid
