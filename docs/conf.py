"""How Sphinx builds this manual: make docs."""

import importlib.metadata
import inspect
import re

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

project = "netkit-bpf"
author = "the authors of netkit-bpf"
version = release = importlib.metadata.version("netkit-bpf")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.intersphinx"]
intersphinx_mapping: dict[str, tuple[str, None]] = {}  # a build needs no network
html_theme = "furo"
html_title = "netkit-bpf"
pygments_dark_style = "monokai"
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["tables.css"]
templates_path: list[str] = []
exclude_patterns = ["requirements.txt"]

default_role = "py:obj"  # docstrings write `name`
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "inherited-members": "tuple,int,str,dict,Mapping,MutableMapping,IntFlag"}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # attributes are described once
add_module_names = False
python_use_unqualified_type_names = True

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run notebooks and examples; they need a kernel with netkit
nb_execution_raise_on_error = True
suppress_warnings = [
    "myst.header",  # a notebook's first heading is its own
    "ref.python",  # `bytes` is a type and a field of several
]


def _skip(_app: Sphinx, _kind: str, _name: str, member: object, skip: bool, _options: object) -> bool:
    """Leave out the fields of named tuples: their class's docstring describes them, not "alias for field number 0"."""
    return skip or type(member).__name__ == "_tuplegetter"


def _escape(_app: Sphinx, _kind: str, _name: str, _member: object, _options: object, lines: list[str]) -> None:
    """Docstrings are for help() first: what reStructuredText would take for its own is escaped, `Flow`s and BPF_F_."""
    for number, line in enumerate(lines):
        line = re.sub(r"`([^`]*<[^`]*)`", r"``\1``", line)  # not a reference with a target
        plural = re.sub(r"(`\w+`)s\b", r"\1\\ s", line)
        lines[number] = re.sub(r"(\b[A-Za-z]\w*)_(?=[^\w`]|$)", r"\1\\_", plural)


def _sign(
    _app: Sphinx, kind: str, _name: str, member: object, _options: object, signature: str | None, _returned: object
) -> tuple[str, str] | None:
    """Show how an object is constructed, not `Closing.__new__`, and nothing where other calls make it."""
    if kind != "class" or not inspect.isclass(member) or not re.match(r"\(\*args\b[^*]*\*\*options\b", signature or ""):
        return None
    if re.search(r"^\s*(Immutable; .*|)Made by", member.__doc__ or "", re.MULTILINE):
        return "", ""
    own = inspect.signature(member.__init__)
    return stringify_signature(
        own.replace(parameters=list(own.parameters.values())[1:]), show_return_annotation=False
    ), ""


def setup(app: Sphinx) -> None:
    """Connect the above."""
    app.connect("autodoc-process-signature", _sign)
    app.connect("autodoc-process-docstring", _escape, priority=100)  # before napoleon, which escapes too
    app.connect("autodoc-skip-member", _skip)
