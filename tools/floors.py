# SPDX-License-Identifier: MIT
"""Checks the floors of the house: imports go down only and never in a circle, in Python and in C++.

Prints each offending pair and fails. Usage: python tools/floors.py [ROOT]
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# From the bottom up. Rooms on the same floor do not import each other.
PYTHON_FLOORS = (
    ("_core",),
    ("enums", "errors", "import_failure"),
    ("internal",),
    ("btf", "vm"),
    ("bpf",),
    ("devices",),
    ("lab", "observer"),
    ("balancer", "events", "firewall"),
    ("flows",),
    ("functions",),
    ("export",),
    ("command", "ipython", "pytest_netkit_bpf"),
    ("netkit_bpf_command",),
)
PACKAGES = {"netkit_bpf", "netkit_bpf_command", "pytest_netkit_bpf"}
CPP_FLOORS = (
    ("base",),
    ("bpf", "netlink"),
    ("devices", "ring"),
    ("balancer", "events", "firewall", "observer"),
    ("flows",),
    ("python",),
)
SURFACES = PYTHON_FLOORS[-2]
# What a packet function may use beside the public names.
SHARED = (
    "netkit_bpf.internal.arguments",
    "netkit_bpf.internal.html",
    "netkit_bpf.internal.live",
    "netkit_bpf.internal.proc",
    "netkit_bpf.internal.process_lock",
    "netkit_bpf.internal.threads",
    "netkit_bpf.bpf.shipped",
    "netkit_bpf.functions",
)
# Named tuples put the underscore to tell these from fields, IPython because nobody calls it.
PUBLIC = {"_asdict", "_replace", "_fields", "_make", "_repr_html_"}
MOST_NOUNS = 15  # in a folder

Uses = dict[str, set[str]]


def python_files(root: Path) -> dict[str, Path]:
    """The modules of the packages, by name; a stub stands for its extension module."""
    files = sorted((root / "python").rglob("*.py*"))
    names = {".".join(path.relative_to(root / "python").with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in names.items() if path.suffix in {".py", ".pyi"}}


def imports(tree: ast.AST, module: str, is_package: bool, modules: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """Each of our modules that is imported anywhere in the file, and the name imported from it, if any."""
    for node in ast.walk(tree):
        found: list[tuple[str, str]] = []
        if isinstance(node, ast.Import):
            found = [(each.name, "") for each in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found = [(source, each.name) for each in node.names]
        elif isinstance(node, ast.Call) and re.search(r"\b(import_module|__import__)$", ast.unparse(node.func)):
            found = [(str(each.value), "") for each in node.args if isinstance(each, ast.Constant)]
        for source, name in found:
            if f"{source}.{name}" in modules:
                yield f"{source}.{name}", ""
            elif source.split(".")[0] in PACKAGES:
                yield source, name


def python_room(module: str) -> str:
    """The room of a module; the package itself, which exports the public names, has none."""
    first, _, rest = module.partition(".")
    return (rest if first == "netkit_bpf" else first).partition(".")[0]


def cpp_uses(root: Path) -> Uses:
    """Which nouns each noun of the core includes; a header and its source count as one."""
    uses: Uses = {}
    for path in sorted((root / "src").rglob("*.[ch]pp")):
        noun = str(path.relative_to(root / "src").with_suffix(""))
        included = re.findall(r'^\s*#\s*include\s*[<"](.+)\.hpp[>"]', path.read_text(), re.MULTILINE)
        uses.setdefault(noun, set()).update(each for each in included if (root / "src" / f"{each}.hpp").exists())
        uses[noun].discard(noun)
    return uses


def upward(uses: Uses, floors: tuple[tuple[str, ...], ...], room: Mapping[str, str]) -> Iterator[str]:
    """Pairs that import upward, or across to another room of their floor; rooms that are on no floor."""
    level = {name: number for number, names in enumerate(floors) for name in names}
    for user, used in sorted(uses.items()):
        if room[user] not in level:
            yield f"{user}: is on no floor"
            continue
        for each in sorted(used):
            if room[each] != room[user] and level.get(room[each], len(floors)) >= level[room[user]]:
                yield f"{user} -> {each}: upward"


def circles(uses: Uses) -> Iterator[str]:
    """One line for each circle that a walk finds."""
    done: set[str] = set()

    def walk(noun: str, path: list[str]) -> Iterator[str]:
        if noun in path:
            ring = path[path.index(noun) :]
            first = ring.index(min(ring))
            yield " -> ".join([*ring[first:], *ring[:first], ring[first]]) + ": a circle"
        elif noun not in done:
            for each in sorted(uses.get(noun, ())):
                yield from walk(each, [*path, noun])
            done.add(noun)

    for noun in sorted(uses):
        yield from walk(noun, [])


def private_words(tree: ast.AST) -> Iterator[str]:
    """Private names that are used from other objects, including base classes."""
    words = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and re.match("_[^_]", node.attr)]
    own = {ast.unparse(node) for node in words if isinstance(node.ctx, ast.Store)}
    own |= {f"self.{node.name}" for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in words:
        word = ast.unparse(node)
        if word not in own and node.attr not in PUBLIC and not word.startswith("argparse."):  # has no public types
            yield word


def check_python(root: Path) -> Iterator[str]:
    """All faults in Python."""
    modules = python_files(root)
    trees = {name: ast.parse(path.read_text()) for name, path in modules.items()}
    public = public_names(trees.get("netkit_bpf", ast.Module([], [])))
    uses: Uses = {}
    for module, tree in trees.items():
        room = python_room(module)
        taken = list(imports(tree, module, modules[module].stem == "__init__", modules))
        is_surface = room in SURFACES
        if room and room != "__main__":  # the package exports names of all floors; a surface may import them from it
            uses[module] = {source for source, _ in taken} - ({"netkit_bpf"} if is_surface else set())
        if is_surface or room == "functions":
            yield from (f"{module}: uses the private {word}" for word in private_words(tree))
        for source, name in taken:
            if is_surface and (source.endswith("._core") or name.startswith("_")):
                yield f"{module} -> {source} {name}: private".replace(" :", ":")
            if room == "functions" and not source.startswith(SHARED) and name not in public:
                yield f"{module} -> {source} {name}: not public".replace(" :", ":")
    rooms = {name: python_room(name) for name in {*uses, *(each for used in uses.values() for each in used)}}
    yield from upward({name: used for name, used in uses.items() if rooms[name] != "_core"}, PYTHON_FLOORS, rooms)
    yield from circles({name: used for name, used in uses.items() if rooms[name] != "_core"})


def public_names(package: ast.AST) -> set[str]:
    """What the package lists in __all__."""
    for node in ast.walk(package):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def check_cpp(root: Path) -> Iterator[str]:
    """All faults in C++."""
    uses = cpp_uses(root)
    yield from upward(uses, CPP_FLOORS, {noun: noun.split("/")[0] for noun in uses})
    yield from circles(uses)
    for path in sorted([*(root / "src").rglob("*.[ch]pp"), *(root / "bpf").rglob("*.[ch]")]):
        where = str(path.relative_to(root))
        if not where.startswith("src/python/") and re.search(
            r"#\s*include\s*[<\"](pybind11|Python\.h)", path.read_text()
        ):
            yield f"{where}: knows Python"


def check_folders(root: Path) -> Iterator[str]:
    """Each folder that holds too many nouns."""
    nouns: dict[Path, set[str]] = {}
    for path in [*root.glob("[pt]*/**/*.py"), *(root / "src").rglob("*.[ch]pp")]:  # python, tests, tools
        if not path.stem.startswith("__"):
            nouns.setdefault(path.parent, set()).add(path.stem)
    for folder, names in sorted(nouns.items()):
        if len(names) > MOST_NOUNS:
            yield f"{folder.relative_to(root)}: holds {len(names)} nouns, more than {MOST_NOUNS}"


def faults(root: Path) -> list[str]:
    """Everything that breaks a rule."""
    return [*check_python(root), *check_cpp(root), *check_folders(root)]


def main() -> int:
    """Print what breaks a rule."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1])
    lines = sorted(set(faults(root)))
    print(*lines, sep="\n", end="\n" if lines else "")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
