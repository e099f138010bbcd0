# SPDX-License-Identifier: MIT
"""Network namespaces: network_namespaces(7), ip-netns(8)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from netkit_bpf._core import (
    NetlinkSocket,
    netns_create,
    netns_create_named,
    netns_current,
    netns_delete_named,
    netns_enter,
    netns_id,
    netns_is_one,
)
from netkit_bpf.internal.arguments import expect

if TYPE_CHECKING:
    import socket
    import subprocess

_T = TypeVar("_T")
_DIRECTORY = Path("/run/netns")
_SLICE = 0.1  # seconds; signal handlers run in between
AF_INET, SOCK_STREAM = 2, 1  # as socket has them, which is imported when the first one is made


class NetNS:
    """A network namespace.

    Made by `create`, `open` or `current`. As a context manager, a namespace that was created is deleted
    on exit, one that was opened is left alone. Any thread may use it; no thread is ever left in it.

    >>> with NetNS.create() as ns:  # doctest: +SKIP
    ...     ns.run(["ip", "link"])
    """

    def __init__(self, path: str, *, name: str | None = None, fd: int | None = None, owned: bool = False) -> None:
        """Not for callers: use `create`, `open` or `current`."""
        self._path = path
        self._name = name
        self._held = [] if fd is None else [fd]  # until somebody lets go of it: one thread, as a list pops once
        self._owned = owned
        self._deleted = False
        self._let_go = False  # and perhaps it lives on
        self._socket: tuple[int, NetlinkSocket] | None = None
        found = Path(path).stat()
        self._identity = found.st_dev, found.st_ino

    @classmethod
    def create(cls, name: str | None = None) -> NetNS:
        """Make a new namespace, its loopback device down as the kernel makes it.

        Args:
            name: makes it a named one, under /run/netns, as ip-netns(8) makes it, for all processes to see.
                Without a name it lives as long as this object and what runs inside.

        Raises:
            ValueError: the name is empty, or not the name of a file.
            FileExistsError: the name is taken.
            PermissionError: CAP_SYS_ADMIN is missing.
        """
        if name is None:
            fd, netlink = netns_create()
            return cls._from_fd(fd, netlink, owned=True)
        _check_name(name)
        netns_create_named(name)
        return cls(str(_DIRECTORY / name), name=name, owned=True)

    @classmethod
    def open(cls, which: str | os.PathLike[str] | int) -> NetNS:
        """Take a namespace that is there.

        Args:
            which: the name of a named one, the path of one (anything with a "/"), or a process's id.

        Raises:
            FileNotFoundError: there is no such name, path or process.
            ValueError: the path is of something else.
            PermissionError: the process belongs to somebody else, and CAP_SYS_PTRACE is missing.
        """
        if isinstance(which, int):
            return cls._from_fd(os.open(f"/proc/{which}/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        path = os.fspath(which)
        if "/" in path:
            if not netns_is_one(path):
                raise ValueError(f"{path} is not a network namespace")
            found = Path(path).absolute()
            if found.is_relative_to("/proc"):  # which means something else to another thread or process
                return cls._from_fd(os.open(found, os.O_RDONLY | os.O_CLOEXEC))
            return cls(str(found.resolve(strict=True)))
        _check_name(path)
        return cls(str((_DIRECTORY / path).resolve(strict=True)), name=path)

    @classmethod
    def current(cls) -> NetNS:
        """The namespace of the calling thread."""
        return cls._from_fd(netns_current())

    @classmethod
    def _from_fd(cls, fd: int, netlink: NetlinkSocket | None = None, *, owned: bool = False) -> NetNS:
        made = cls(f"/proc/self/fd/{fd}", fd=fd, owned=owned)
        if netlink is None:
            with contextlib.suppress(PermissionError):  # whoever needs it will see
                netlink = NetlinkSocket(made._path)
        if netlink is not None:  # at once, so that the object holds as many descriptors from now on
            made._socket = (os.getpid(), netlink)
        return made

    @property
    def name(self) -> str | None:
        """The name under /run/netns, or None."""
        return self._name

    @property
    def path(self) -> str:
        """A path that opens the namespace in this process."""
        if self._deleted:
            raise ValueError(
                "this object let go of its network namespace" if self._let_go else "this network namespace is deleted"
            )
        return self._path

    @property
    def inode(self) -> int:
        """The number by which lsns(8) and the links in /proc/PID/ns know the namespace."""
        return self._identity[1]

    def __eq__(self, other: object) -> bool:
        """Whether both are the same namespace, however they were opened."""
        return self._identity == other._identity if isinstance(other, NetNS) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    def _netlink(self) -> NetlinkSocket:
        """A netlink socket inside.

        It is kept where this object holds the namespace anyway. In a named one it would keep alive what somebody
        deletes. A forked child makes its own: the parent would get its answers.
        """
        path = self.path
        if not self._held:
            return NetlinkSocket(path)
        process = os.getpid()
        kept = self._socket
        if kept is None or kept[0] != process:
            self._socket = kept = (process, NetlinkSocket(path))
            if self._deleted:  # by another thread, meanwhile
                kept[1].close()
        return kept[1]

    def run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        input: str | bytes | None = None,  # noqa: A002 - as subprocess.run() names it
        timeout: float | None = None,
        check: bool = False,
        capture_output: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """Run a program inside and wait for it; arguments and errors are those of `subprocess.run`.

        Without `capture_output` it writes where this process does; in a notebook that is not the cell.

        >>> ns.run(["ping", "-c1", "fd00::1"], check=True)  # doctest: +SKIP
        """
        import subprocess

        if capture_output:
            options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if input is not None:
            options["stdin"] = subprocess.PIPE
        with self.popen(argv, **options) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()  # as subprocess.run() does, then __exit__ waits
                raise
        if check and process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args, stdout, stderr)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def popen(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; arguments and errors are those of `subprocess.Popen`."""
        import subprocess

        return self.call(subprocess.Popen, argv, **options)

    def socket(
        self,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 - as socket.socket() names it
        proto: int = 0,
    ) -> socket.socket:
        """Make a Python socket that belongs to the namespace for its whole life, whoever uses it."""
        from socket import socket

        return self.call(socket, family, type, proto)

    def call(self, function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
        """Call a function on a new thread inside the namespace and return what it returns, or raises.

        The thread ends with the call. Ctrl-C interrupts the wait; the function then still runs to its end.
        """
        import threading

        path = self.path
        outcome: list[tuple[_T | None, BaseException | None]] = []

        def inside() -> None:
            try:
                netns_enter(path)
                outcome.append((function(*args, **kwargs), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=inside, name=f"netns-{self._name or 'unnamed'}")
        thread.start()
        while thread.is_alive():  # in slices: a library's signal handler may let an endless wait go on (polars does)
            thread.join(_SLICE)
        result, error = outcome.pop()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: no circle
        return cast("_T", result)

    def delete(self) -> None:
        """Delete the namespace: at once if nothing runs inside, else with the last process inside. Idempotent.

        Of an opened namespace with no name only this object's hold on it is dropped.
        """
        if self._deleted:
            return
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):  # somebody was faster
                netns_delete_named(self._name)
        self._let_go = self._name is None and not self._owned
        self._drop()

    def _drop(self) -> None:
        self._deleted = True
        kept, self._socket = self._socket, None
        if kept is not None and kept[0] == os.getpid():  # in a forked child its lock may be held for ever
            kept[1].close()  # now, whoever still refers to it: the traceback of an error does
        with contextlib.suppress(IndexError):  # there is none, or another thread was faster
            os.close(self._held.pop())

    def __enter__(self) -> NetNS:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self.delete()
        elif not self._deleted:
            self._let_go = True
            self._drop()

    def __del__(self) -> None:
        # What lives until the interpreter's exit takes the modules apart, the kernel closes.
        if getattr(self, "_held", None) and os is not None:
            self._drop()

    def __repr__(self) -> str:
        state = "deleted" if self._deleted else self._name or self._path
        return f"<NetNS {state}>"


def _check_name(name: str) -> None:
    """Refuse what cannot be the name of a file under /run/netns."""
    expect(name, str, "the name of a network namespace")
    if not name or name in {".", ".."} or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
        raise ValueError(
            f"{name!r} cannot be the name of a network namespace: it must be the name of a file, at most 255 bytes"
        )


def expect_netns(netns: NetNS | None, argument: str) -> NetNS:
    """Return the namespace; the calling thread's for None."""
    if netns is None:
        return NetNS.current()
    return expect(netns, NetNS, argument, "NetNS.open() takes a name, a path or a process id")


def find_netns(netns: NetNS, nsid: int) -> NetNS | None:
    """The namespace that `netns` knows by the number `nsid`: a named one, a process's, or one held open here."""
    names = sorted(_DIRECTORY.iterdir()) if _DIRECTORY.is_dir() else []
    processes = [path / "ns" / "net" for path in Path("/proc").iterdir() if path.name.isdigit()]
    held = [path for path in Path("/proc/self/fd").iterdir() if _is_namespace(path)]
    netlink = netns._netlink()
    for path in [*names, *held, *processes]:
        try:
            if netns_id(netlink, str(path)) != nsid:
                continue
            if path.parent == _DIRECTORY:
                return NetNS(str(path), name=path.name)
            return NetNS._from_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            continue  # a name without a namespace, a process that ended, somebody else's
    return None


def _is_namespace(path: Path) -> bool:
    try:
        return os.readlink(path).startswith("net:[")
    except OSError:
        return False  # closed meanwhile
