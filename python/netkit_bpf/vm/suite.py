# SPDX-License-Identifier: MIT
"""One Debian suite, read through a private apt configuration.

The machine's own apt lists and sources stay as they are; its apt.conf (proxy, certificates) is honoured.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from netkit_bpf.vm import child

MIRROR_VARIABLE = "NETKIT_BPF_DEBIAN_MIRROR"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class AptError(Exception):
    """apt could not do what was asked; the text says what to do."""


def os_release() -> dict[str, str]:
    """The fields of /etc/os-release."""
    fields: dict[str, str] = {}
    for line in Path("/etc/os-release").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals:
            fields[name] = value.strip("\"'")
    return fields


def mirror() -> str:
    """The Debian mirror that this machine already uses.

    apt itself lists its sources, so that both of their file formats are understood. Only a source of the system's own
    release counts: security and third-party archives do not carry the other suites.
    """
    given = os.environ.get(MIRROR_VARIABLE)
    if given:
        return given
    if not shutil.which("apt-get"):
        raise AptError("kernels come as Debian packages, and this machine has no apt-get: run on Debian or Ubuntu")
    fields = os_release()
    if fields.get("ID") == "debian":
        codename = fields.get("VERSION_CODENAME", "")
        releases = {f"{codename}{part}" for part in ("", "-updates", "-backports")}
        releases |= {"stable", "oldstable", "testing", "unstable", "sid"}
        targets = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
        listed = child.run("apt-get", "indextargets", "--format", targets, "Created-By: Packages")
        for line in listed.splitlines():
            uri, release, component = line.rsplit(" ", 2)
            if release in releases and component == "main":
                return uri
    raise AptError(
        "no Debian mirror is configured in this machine's apt sources, and the kernels are Debian's: "
        f"set {MIRROR_VARIABLE} to the URI of a Debian mirror (the part before 'dists/')"
    )


class Suite:
    """The main component of one suite for amd64, its lists kept in `directory`. Not for two threads at once."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._directory = directory
        for part in ("lists/partial", "cache/archives/partial", "empty"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        if KEYRING.exists():
            option = f"signed-by={KEYRING}"
        else:
            option = "trusted=yes"
            print("vm: signatures are not checked: install debian-archive-keyring", file=sys.stderr)
        (directory / "sources.list").write_text(f"deb [arch=amd64 {option}] {mirror()} {name} main\n")
        self._run("apt-get", "update", "--error-on=any", "-qq")

    def _run(self, tool: str, *arguments: str, cwd: Path | None = None, shows_progress: bool = False) -> str:
        here = self._directory
        settings = {
            "Dir::Etc::sourcelist": here / "sources.list",
            "Dir::Etc::sourceparts": here / "empty",
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": here / "empty",
            "Dir::State::lists": here / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": here / "cache",
            # apt's own user cannot enter a home directory
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        try:
            return child.run(tool, *options, *arguments, cwd=cwd, shows_progress=shows_progress)
        except child.ChildError as error:
            raise AptError(f"{arguments[0]} of Debian's {self.name}: {error}") from error

    def names(self, prefix: str) -> list[str]:
        """The names of all packages that start so."""
        return self._run("apt-cache", "pkgnames", prefix).split()

    def dependencies(self, package: str) -> list[str]:
        """Return the names in the package's Depends field, the first of each alternative."""
        shown = self._run("apt-cache", "show", "--no-all-versions", package)
        found = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        return [part.split()[0] for part in found.group(1).split(",")] if found else []

    def download(self, packages: list[str], directory: Path) -> list[Path]:
        """Fetch the .deb files of these packages, checked against the suite's signed lists."""
        quiet = () if sys.stderr.isatty() else ("-qq",)
        self._run("apt-get", "download", *quiet, *packages, cwd=directory, shows_progress=True)
        return sorted(directory.glob("*.deb"))
