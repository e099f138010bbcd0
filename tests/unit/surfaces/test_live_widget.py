"""What a notebook's kernel sends of a live view: of a widget while it goes on, and an ordinary output at its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import netkit_bpf
from elsewhere import needs_ipython

pytestmark = needs_ipython
VIEW = "application/vnd.jupyter.widget-view+json"
CELL = """
import sys
{before}
from netkit_bpf.internal.live.view import LiveView

with LiveView("title", "packets/s") as view:
    for number in (1, 2, 3):
        view.draw({{"peer": number}}, [f"<p>picture {{number}}</p>"])
"""
# In a process of its own, as zmq keeps threads and descriptors to the end of the process that uses it.
EXECUTE = """
import json
import sys
from jupyter_client import KernelManager

manager = KernelManager(transport="ipc")
manager.start_kernel()
try:
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=120)
    said = []
    reply = client.execute_interactive(sys.argv[1], timeout=120, output_hook=said.append)
    client.stop_channels()
finally:
    manager.shutdown_kernel()
assert reply["content"]["status"] == "ok", said
print(json.dumps([[each["msg_type"], each["content"]] for each in said], default=str))
"""


def messages(directory: Path, before: str = "") -> list[tuple[str, dict[str, Any]]]:
    """What the kernel publishes while the cell runs, without what it says of itself."""
    environment = {**os.environ, "IPYTHONDIR": str(directory), "JUPYTER_RUNTIME_DIR": str(directory)}
    words = [sys.executable, "-c", EXECUTE, CELL.format(before=before)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment, cwd=directory)
    assert done.returncode == 0, done.stderr
    return [(kind, content) for kind, content in json.loads(done.stdout) if kind not in ("status", "execute_input")]


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("k")  # short: ipc sockets are there


def test_pictures_go_to_a_widget_and_the_last_one_stays_without_it(directory: Path) -> None:
    said = messages(directory)
    opened = {content["comm_id"]: content["data"]["state"] for kind, content in said if kind == "comm_open"}
    [(number, state)] = [(number, state) for number, state in opened.items() if "_esm" in state]
    assert state["_esm"] == (Path(netkit_bpf.__file__).parent / "internal/live/widget.js").read_text()
    assert "picture 1" in state["html"]
    updates = [
        content["data"]["state"]["html"]
        for kind, content in said
        if kind == "comm_msg" and content["comm_id"] == number and "html" in content["data"].get("state", {})
    ]
    assert ["picture 2" in updates[0], "picture 3" in updates[1], updates[2:]] == [True, True, [""]]
    assert "comm_close" in [kind for kind, content in said if content.get("comm_id") == number]
    shown, last = [(kind, content) for kind, content in said if "display" in kind]
    assert shown[0] == "display_data"
    assert shown[1]["data"][VIEW]["model_id"] == number
    assert "picture 1" in shown[1]["data"]["text/html"]  # for those who know no widgets
    assert last[0] == "update_display_data"
    assert last[1]["transient"] == shown[1]["transient"]
    assert [*last[1]["data"]] == ["text/plain", "text/html"]
    assert "picture 3" in last[1]["data"]["text/html"]


def test_without_anywidget_the_output_is_drawn_anew(directory: Path) -> None:
    said = messages(directory, before="sys.modules['anywidget'] = None")
    assert [kind for kind, _ in said] == ["display_data", "update_display_data", "update_display_data"]
    assert len({json.dumps(content["transient"]) for _, content in said}) == 1
    for number, (_, content) in enumerate(said, 1):
        assert f"picture {number}" in content["data"]["text/html"]
