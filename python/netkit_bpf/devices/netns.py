# SPDX-License-Identifier: MIT
"""Network namespaces: network_namespaces(7), ip-netns(8)."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from netkit_bpf._core import Made, Namespace, NetlinkSocket, hand_over
from netkit_bpf.devices.owner import Owner
from netkit_bpf.internal.arguments import expect, expect_in
from netkit_bpf.internal.resource import Resource

if TYPE_CHECKING:
    import socket
    import subprocess

_T = TypeVar("_T")
_DIRECTORY = Path("/run/netns")
_PID = range(1, 1 << 31)
DELETE_IT = "call its delete(), or use `with`"
_SLICE = 0.1  # seconds; signal handlers run in between
AF_INET, SOCK_STREAM = 2, 1  # the values of the module socket, which is imported only when the first socket is made


class NetNS(Resource):
    """A network namespace, held by a descriptor.

    Made by `create`, `open` or `current`. The object keeps standing for the namespace that the name or process id led
    to at first, even if the name is given to another namespace later. The namespace and the devices in it live as long
    as it is held, by this object or by a monitor that reaches its pair through it, even if its name is removed. As a
    context manager, a namespace that was created is deleted on exit; one that was opened is only released. Any thread
    may use it; no thread is ever left in the namespace.

    >>> with NetNS.create() as ns:  # doctest: +SKIP
    ...     ns.run(["ip", "link"])
    """

    def __init__(
        self,
        space: Namespace,
        *,
        name: str | None = None,
        netlink: NetlinkSocket | None = None,
        owned: bool = False,
        made: Made | None = None,
    ) -> None:
        expect(space, Namespace, "space", "NetNS.open() takes a name, a path or a process id, NetNS.create() makes one")
        self._space: Namespace | None = space  # until this object releases it
        self._name = name
        self._owned = owned
        self._made = made  # undoes a name that was given here, until it is removed
        self._let_go = False  # the namespace may live on
        self._identity = space.identity()
        if netlink is None:
            with contextlib.suppress(PermissionError):  # who needs it will see
                netlink = NetlinkSocket(space)
        # Made now, so that the number of descriptors that the object holds never changes.
        self._socket = None if netlink is None else (os.getpid(), netlink)

    @classmethod
    def create(cls, name: str | None = None) -> NetNS:
        """Make a new namespace; its loopback device is down, as the kernel makes it.

        Args:
            name: a name under /run/netns, as ip-netns(8) gives, visible to all processes. The alias of the loopback
                device records the process that made it, so that `reap` can remove the namespace if that process is
                killed. Without a name it lives as long as this object and the processes inside.

        Raises:
            ValueError: the name is empty, or not the name of a file.
            FileExistsError: the name is taken.
            PermissionError: CAP_SYS_ADMIN is missing.
        """
        if name is not None:
            return hand_over(cls._create_named(_check_name(name)))
        space, netlink = Namespace.create()
        return cls(space, netlink=netlink, owned=True)

    @classmethod
    def _create_named(cls, name: str) -> NetNS:
        space, netlink, made = Namespace.create_named(os.fsencode(name), Owner.current().alias)
        return cls(space, name=name, netlink=netlink, owned=True, made=made)

    @classmethod
    def open(cls, which: str | os.PathLike[str] | int) -> NetNS:
        """Open an existing namespace.

        Args:
            which: a name, a path (anything with a "/"), or a process id. A name or a path may be a link to a namespace,
                as for Docker's: `ln -s /proc/PID/ns/net /run/netns/NAME`.

        Raises:
            FileNotFoundError: there is no such name, path or process.
            ValueError: it is something else, which is not opened.
            PermissionError: the process belongs to another user, and CAP_SYS_PTRACE is missing.

        >>> NetNS.open("red"), NetNS.open("/proc/1/ns/net"), NetNS.open(1)  # doctest: +SKIP
        """
        if isinstance(which, int):
            pid = expect_in(which, _PID, "the id of a process")
            return cls(Namespace.open(f"/proc/{pid}/ns/net".encode(), f"of process {pid}".encode()))
        text = os.fsdecode(which)
        if "/" not in text:
            name = _check_name(text)
            return cls(Namespace.open(os.fsencode(_DIRECTORY / name), os.fsencode(name)), name=name)
        if "\0" in text:
            raise ValueError(f"{text!r} cannot be a path: it has a NUL in it")
        return cls(Namespace.open(os.fsencode(text), os.fsencode(text)))

    @classmethod
    def current(cls) -> NetNS:
        """The namespace of the calling thread."""
        return cls(Namespace.current())

    @property
    def name(self) -> str | None:
        """The name under /run/netns, or None."""
        return self._name

    def fileno(self) -> int:
        """The descriptor that holds the namespace, for setns(2) and nsenter(1); only this object may close it.

        Raises:
            ValueError: the namespace is deleted, or this object has released it.
        """
        return self._open().fileno()

    @property
    def inode(self) -> int:
        """The inode number of the namespace, which lsns(8) and the links in /proc/PID/ns show."""
        return self._identity[1]

    @property
    def cookie(self) -> int:
        """The number of the namespace that no other one has or will have until the machine starts anew.

        Raises:
            ValueError: the namespace is deleted, or this object has released it.
            PermissionError: CAP_SYS_ADMIN is missing.

        Source: socket(7), SO_NETNS_COOKIE
        """
        return self._netlink().netns_cookie()

    def __eq__(self, other: object) -> bool:
        """Whether both are the same namespace, however they were opened.

        A namespace that is no longer held equals no other: its number may belong to another one by now.
        """
        if not isinstance(other, NetNS):
            return NotImplemented
        return self is other or (self._is_held() and other._is_held() and self._identity == other._identity)

    def __hash__(self) -> int:
        return hash(self._identity)

    def _open(self) -> Namespace:
        """The namespace for the extension, which refuses it if another thread deletes it meanwhile."""
        space = self._space
        if space is None:
            raise ValueError(
                "this object has released its network namespace"
                if self._let_go
                else "this network namespace is deleted"
            )
        return space

    def _is_held(self) -> bool:
        space = self._space
        return space is not None and not space.closed

    def _ends_with_its_object(self) -> bool:
        return self._owned and self._name is None

    def _netlink(self) -> NetlinkSocket:
        """A netlink socket inside. A forked child makes its own, because the parent would get its answers."""
        space = self._open()
        process = os.getpid()
        kept = self._socket
        if kept is None or kept[0] != process:
            self._socket = kept = (process, NetlinkSocket(space))
            if self._space is None:  # another thread has released it meanwhile
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

        See `popen` for what the program sees. Without `capture_output` its output goes where this process writes;
        ipykernel shows that in the cell. With it and `check`, the text of `CalledProcessError` also ends with what the
        program wrote last.

        >>> ns.run(["ping", "-c1", "fd00::1"], check=True)  # doctest: +SKIP
        """
        __tracebackhide__ = True
        return self._run(argv, "", input=input, timeout=timeout, check=check, capture_output=capture_output, **options)

    def _run(
        self,
        argv: Sequence[str | os.PathLike[str]],
        hosts: str,
        *,
        input: str | bytes | None = None,  # noqa: A002 - as subprocess.run() names it
        timeout: float | None = None,
        check: bool = False,
        capture_output: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[Any]:
        """As `run`; the program's /etc/hosts has these lines too."""
        import subprocess

        from netkit_bpf.internal.child import FailedProgramError

        __tracebackhide__ = True  # in pytest and IPython: what failed is the program
        if input is not None:
            if options.get("stdin") is not None:
                raise ValueError("stdin and input may not both be used")
            options["stdin"] = subprocess.PIPE
        if capture_output:
            if options.get("stdout") is not None or options.get("stderr") is not None:
                raise ValueError("stdout and stderr may not be used with capture_output")
            options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        with self._popen(argv, hosts, **options) as process:
            try:
                stdout, stderr = process.communicate(input, timeout=timeout)
            except BaseException:
                process.kill()  # as subprocess.run() does, then __exit__ waits
                raise
        if check and process.returncode:
            raise FailedProgramError(process.returncode, process.args, stdout, stderr)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def popen(self, argv: Sequence[str | os.PathLike[str]], **options: Any) -> subprocess.Popen[Any]:
        """Start a program inside; arguments and errors are those of `subprocess.Popen`.

        It is the calling thread's child, and sees what `ip netns exec` shows: /sys belongs to the namespace, and the
        files in /etc/netns/NAME replace those in /etc. It has its own mount namespace, so no other process sees its
        mounts.
        """
        return self._popen(argv, "", **options)

    def _popen(self, argv: Sequence[str | os.PathLike[str]], hosts: str, **options: Any) -> subprocess.Popen[Any]:
        """As `popen`; the program's /etc/hosts has these lines too."""
        from netkit_bpf.internal.child import spawn

        return spawn(self._open(), self._name, argv, options, hosts)

    def socket(
        self,
        family: int = AF_INET,
        type: int = SOCK_STREAM,  # noqa: A002 - as socket.socket() names it
        proto: int = 0,
    ) -> socket.socket:
        """Make a Python socket that belongs to the namespace for its whole life, in any thread."""
        from socket import socket

        return self.call(socket, family, type, proto)

    def call(self, function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
        """Call a function on a new thread inside the namespace; return its result, or raise its exception.

        The thread ends with the call. Ctrl-C interrupts the wait; the function then still runs to its end.
        """
        import threading

        from netkit_bpf.internal.threads import start

        space = self._open()
        outcome: list[tuple[_T | None, BaseException | None]] = []

        def inside() -> None:
            try:
                space.enter()
                outcome.append((function(*args, **kwargs), None))
            except BaseException as error:
                outcome.append((None, error))

        thread = threading.Thread(target=inside, name=f"netns-{self._name or 'unnamed'}")
        start(thread, f"call a function in network namespace {self._name or f'net:[{self.inode}]'}")
        while thread.is_alive():  # in slices: a library's signal handler may restart an endless wait (polars does)
            thread.join(_SLICE)
        result, error = outcome.pop()
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: a cycle
        return cast("_T", result)

    def delete(self) -> None:
        """Delete the namespace: at once if nothing runs inside, else with the last process inside. Idempotent.

        Its name is removed, unless the name belongs to another namespace by now. Everything that reached the namespace
        through this object releases it: devices, pairs and monitors. Another object that opened the same namespace,
        here or in another process, still holds it. An opened namespace without a name is only released.

        Raises:
            PermissionError: CAP_SYS_ADMIN is missing to remove the name; then nothing is released.
        """
        self._delete()

    def _delete(self) -> bool:
        """As `delete`; whether that removed its name."""
        removed = False
        space = self._space
        if space is None:
            return removed
        if self._name is not None:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                space.remove_name(os.fsencode(self._name))
                removed = True
            made, self._made = self._made, None
            if made is not None:
                made.keep()
        self._drop(only_ours=self._name is None and not self._owned)
        return removed

    def _drop(self, *, only_ours: bool) -> None:
        self._let_go = only_ours
        space, self._space = self._space, None
        kept, self._socket = self._socket, None
        if kept is not None and kept[0] == os.getpid():  # in a forked child its lock may never be released
            kept[1].close()  # now, because the traceback of an error may still refer to it
        if space is not None and not only_ours:
            space.close()

    def __enter__(self) -> NetNS:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._owned:
            self.delete()
        elif self._space is not None:
            self._drop(only_ours=True)

    @property
    def _warns(self) -> bool:  # type: ignore[override]
        return self._made is not None  # without a name it ends with this object

    def _noun(self) -> str:
        if not self._is_held():
            return ""
        return f"{'NetNS' if self._owned else 'opened NetNS'} {self._name or f'net:[{self.inode}]'}"

    def _let_go_of(self) -> str:
        return f"was never deleted: its name stays, for `ip netns` and `nk.reap()`; {DELETE_IT}"

    @property
    def _label(self) -> str:
        """Its name in reprs: name and number, and whether it is held."""
        known = f"{self._name} " if self._name else ""
        state = "" if self._is_held() else " closed" if self._let_go else " deleted"
        return f"{known}net:[{self.inode}]{state}"

    def __repr__(self) -> str:
        return f"<NetNS {self._label}>"


def _check_name(name: str) -> str:
    """Refuse what cannot be the name of a file under /run/netns."""
    expect(name, str, "the name of a network namespace")
    if not name or name in {".", ".."} or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
        raise ValueError(
            f"{name!r} cannot be the name of a network namespace: it must be the name of a file, at most 255 bytes"
        )
    return name


def expect_netns(netns: NetNS | None, argument: str) -> NetNS:
    """Return the namespace; the calling thread's for None."""
    if netns is None:
        return NetNS.current()
    return expect(netns, NetNS, argument, "NetNS.open() takes a name, a path or a process id")


def find_netns(is_it: Callable[[Namespace], bool]) -> NetNS | None:
    """Find a namespace: among the named ones, those held open here, and those of processes."""
    names = sorted(_DIRECTORY.iterdir()) if _DIRECTORY.is_dir() else []
    processes = [path / "ns" / "net" for path in Path("/proc").iterdir() if path.name.isdigit()]
    held = sorted(Path("/proc/thread-self/fd").iterdir())
    for path in [*names, *held, *processes]:
        try:
            space = Namespace.open(os.fsencode(path), os.fsencode(path))
            if is_it(space):  # checked by descriptor, as the path may change
                return NetNS(space, name=path.name if path.parent == _DIRECTORY else None)
        except (OSError, ValueError):
            continue  # something else, an ended process, or not ours
    return None
