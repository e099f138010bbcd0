"""What is installed says truly which licences it has; make wheel runs this on the wheels that it makes."""

from __future__ import annotations

import re
from importlib.metadata import distribution
from pathlib import Path

import netkit_bpf as nk

PACKAGE = Path(nk._core.__file__).parent
FOUND = distribution("netkit-bpf")
# Of the libraries that a wheel may hold.
LIBRARIES = {
    "libbpf": "(LGPL-2.1-only OR BSD-2-Clause)",
    "libelf": "(GPL-2.0-or-later OR LGPL-3.0-or-later)",
    "libnl-3": "LGPL-2.1-only",
    "libpcap-netkit-bpf": "BSD-3-Clause",
    "libz": "Zlib",
    "libzstd": "(BSD-3-Clause OR GPL-2.0-only)",
    "libc++": "Apache-2.0 WITH LLVM-exception",
    "libstdc++": "GPL-3.0-or-later WITH GCC-exception-3.1",
    "libgcc_s": "GPL-3.0-or-later WITH GCC-exception-3.1",
}
# What its text must say. Of several to choose from, the choice is named.
TEXTS = {
    "MIT": "Permission is hereby granted, free of charge",
    "GPL-2.0-only": "GNU GENERAL PUBLIC LICENSE\n Version 2,",
    "Linux-syscall-note": "does *not* cover user programs",
    "LGPL-2.1-only": "GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1,",
    "LGPL-3.0-or-later": "GNU LESSER GENERAL PUBLIC LICENSE\n Version 3,",
    "GPL-3.0-or-later": "GNU GENERAL PUBLIC LICENSE\n Version 3,",
    "GCC-exception-3.1": "GCC RUNTIME LIBRARY EXCEPTION",
    "Apache-2.0": "Apache License\n Version 2.0",
    "LLVM-exception": "LLVM Exceptions to the Apache 2.0 License",
    "Zlib": "Jean-loup Gailly and Mark Adler",
    "(LGPL-2.1-only OR BSD-2-Clause)": "The Libbpf Authors",
    "BSD-3-Clause": "Wenzel Jakob",
    "(BSD-3-Clause OR GPL-2.0-only)": "Meta Platforms",
}


def libraries() -> list[str]:
    """Return the names of the libraries that are shipped, without versions."""
    paths = [*PACKAGE.glob("lib*.so*"), *PACKAGE.parent.glob("netkit_bpf.libs/*.so*")]
    found = [re.match(r"lib[a-z_+]+(-netkit-bpf|-3(?=[-.]))?", path.name) for path in paths]
    within = ["libc++"] if b"NSt3__1" in Path(nk._core.__file__).read_bytes() else []  # its types have such names
    return [*(each[0] for each in found if each), *within]


def of_headers() -> set[str]:
    """Return the licences of the headers, as they say themselves."""
    found = set()
    for header in (PACKAGE / "include").rglob("*.h"):
        said = re.search(r"SPDX-License-Identifier: \(*([^*\n]+?)\)* *(\*/)?\n", header.read_text())
        if said:
            name = re.sub(r"\bGPL-2\.0(?= |$)", "GPL-2.0-only", said[1].replace("GPL-2.0+", "GPL-2.0-or-later"))
            name = re.sub(r"LGPL-2\.1(?= |$)", "LGPL-2.1-only", name)
            found.add(f"({name})" if " OR " in name else name)
        else:  # libbpf generates one, and the kernel's of a line or two have the licence of the whole
            assert header.name in {"bpf_helper_defs.h", "errno.h", "swab.h", "types.h"}, f"{header} names no licence"
    return found


def operands() -> list[str]:
    return FOUND.metadata["License-Expression"].split(" AND ")


def test_the_expression_is_of_what_is_there() -> None:
    assert len(set(operands())) == len(operands())
    own = {"MIT", "BSD-3-Clause"}  # the package, and pybind11 in it
    assert set(operands()) == own | of_headers() | {LIBRARIES[name] for name in libraries()}


def test_each_licence_has_its_text() -> None:
    files = FOUND.metadata.get_all("License-File")
    assert files is not None
    shipped = [path for path in FOUND.files or [] if re.search(r"\.dist-info/licenses/", str(path))]
    assert {str(path).split("/licenses/", 1)[1] for path in shipped} == set(files)
    texts = "".join(Path(str(path.locate())).read_text() for path in shipped)
    texts = re.sub(r"\n +", "\n ", re.sub(r" +(GNU (LESSER )?GENERAL)", r"\1", texts))
    for operand in operands():
        for name in [operand] if operand in TEXTS else re.split(" OR | WITH ", operand.strip("()"))[-2:]:
            if name not in {"GPL-2.0-or-later"}:  # version 2 is there, or the later one was chosen
                assert TEXTS[name] in texts, f"no text for {name} of {operand}"
    if any(name == "libpcap-netkit-bpf" for name in libraries()):
        assert "University of California" in texts


def test_a_wheel_has_all_that_it_needs_or_nothing() -> None:
    """A build in a clone uses the machine's libraries; what make wheel makes has each with it."""
    found = set(libraries())
    assert not found or found >= {"libbpf", "libelf", "libnl-3", "libpcap-netkit-bpf"}


def test_a_filter_is_compiled_by_the_libpcap_in_the_wheel() -> None:
    nk.Filter("tcp port 80")
    loaded = {
        Path(line.split()[-1]).name for line in Path("/proc/self/maps").read_text().splitlines() if "pcap" in line
    }
    if "libpcap-netkit-bpf" in libraries():
        assert loaded == {"libpcap-netkit-bpf.so"}
    else:
        assert any(name.startswith("libpcap.so") for name in loaded)
