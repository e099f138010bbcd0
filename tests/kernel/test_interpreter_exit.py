"""The interpreter exits while a daemon thread is in a call that lets go of the GIL, or that runs Python code.

CPython before 3.14 ends such a thread by pthread_exit(), which unwinds the frames of the bindings.
NETKIT_BPF_CYCLES says how often each is tried.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from elsewhere import needs_tcx
from programs import HEADER, build

RUNS = int(os.environ.get("NETKIT_BPF_CYCLES", "8"))
BINDINGS = Path(__file__).parents[2] / "src" / "python"
ALONE = ["unshare", "--net", "--mount"]
# Each run is a fork, which ends as any interpreter does: starting one takes seconds in an emulated machine.
FRAME = """
import contextlib, os, sys, threading, warnings
import netkit_bpf as nk
from netkit_bpf import _core

for run in range({runs}):
    child = os.fork()
    if child == 0:
        break
    status = os.waitpid(child, 0)[1]
    if status:
        sys.exit(f"run {{run}} ended with {{status}}")
else:
    os._exit(0)

{made}
started = threading.Event()

def loop():
    while True:
        with contextlib.suppress(Exception):  # of what is closed at exit
            {call}
        started.set()

for _ in range(2):
    threading.Thread(target=loop, daemon=True).start()
assert started.wait(30)
"""
# Each call once, and no exit: prints which functions of the bindings were called.
WALK = """
import contextlib, os, sys, threading, warnings
import netkit_bpf as nk
from netkit_bpf import _core

class Once(Exception):
    pass

class Started:
    def set(self):
        raise Once

def note(frame, event, function):
    if event == "c_call" and function.__module__ == _core.__name__:
        called.add(function.__name__)

called, started = set(), Started()
threading.setprofile(note)
sys.setprofile(note)
{made}
call = {call!r}
for step in [call] if call.startswith("with ") else call.split(";"):
    with contextlib.suppress(OSError, Once):  # a veth pair cannot do what a netkit pair can
        exec(step.strip())
sys.setprofile(None)
print(*called)
"""
OBJECT = "obj = nk.BPFObject.open(sys.argv[1])\nobj.load()\n"
WRITER = (
    HEADER
    + """
#include <netkit_bpf/event.h>
struct record { __u64 number; };
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); __type(value, struct record); }
	records SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 1); __type(key, __u32);
	__type(value, struct nk_counts); } records_counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 65536); } packets SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); __uint(max_entries, 2); __type(key, __u32);
	__type(value, struct nk_counts); } packets_counts SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); }
	table SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 1024); __type(key, __u32); __type(value, __u64); }
	hash SEC(".maps");

SEC("netkit/peer") int write(struct __sk_buff *skb)
{
	struct nk_event event = { .flags = NK_IP, .ip_word = 6 << 28 };
	struct record record = {};
	__u32 zero = 0;
	struct nk_counts *counts = bpf_map_lookup_elem(&records_counts, &zero);

	if (counts)
		counts->lost++;
	bpf_ringbuf_output(&records, &record, sizeof(record), 0);
	bpf_ringbuf_output(&packets, &event, sizeof(event), 0);
	return -1;
}
"""
)
RING = "ring = nk.RingBuffer(obj.maps['records'])"
READER = "reader = nk.PacketReader(obj.maps['packets'], pairs=['nk0'], snaplen=16)"
WRITE = "obj.programs['write'].test_run(bytes(60), repeat=8)"
VETH = """
ns = nk.NetNS.create()
ns.run(["ip", "link", "add", "ve0", "type", "veth", "peer", "name", "ve1"], check=True)
ve, there = nk.Device.open("ve0", ns), nk.NetNS.create()
pair = nk.NetkitPair(ve, nk.Device.open("ve1", ns), owned=False)
"""
PLACES = """
import subprocess
from pathlib import Path
Path("/run/netns").mkdir(exist_ok=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
subprocess.run(["mount", "-t", "bpf", "bpf", "/sys/fs/bpf"], check=True)
"""
MAKE_VETH = """
from netkit_bpf.devices.pair import create_pairs
from netkit_bpf.devices.pair_options import check_pair_options
ns, spec = nk.NetNS.create(), check_pair_options("ve0", "ve1")
spec.kind = "veth"
"""
SLOW = """
import time
class Slow:
    def __call__(self, *arguments, **others):
        time.sleep(0.001)
slow = Slow()
"""
# What is made before the thread starts, and what it calls over and over.
CALLS: dict[str, tuple[str, str]] = {
    "a map that is written": ("table = obj.maps['table']", "table[0] = 1"),
    "a map that is read at once": ("table = obj.maps['table']", "table.lookup_batch()"),
    "a map that is written at once": (
        "hash = obj.maps['hash']; elements = {key: key for key in range(1024)}",
        "hash.update(elements)",
    ),
    "a map that is emptied": ("hash = obj.maps['hash']; hash.update({1: 1, 2: 2})", "hash.clear()"),
    "a map that is made": ("", "nk.Map.create('array', max_entries=1, key_size=4, value_size=8).close()"),
    "a program that is run": ("program = obj.programs['write']", "program.test_run(bytes(60), repeat=100)"),
    "an object that is loaded": (
        "image = open(sys.argv[1], 'rb').read()",
        "with nk.BPFObject.open(image): pass",
    ),
    "a filter that is compiled": ("", "_core.compile_filter('tcp')"),
    "a namespace that is made": ("", "nk.NetNS.create().delete()"),
    "a namespace that is looked into": ("ns = nk.NetNS.current()", "nk.Device.open('lo', ns)"),
    "a namespace that is entered": ("ns = nk.NetNS.create()", "ns.call(os.getpid)"),
    "a device that is changed": ("lo = nk.Device.open('lo')", "lo.up()"),
    "addresses that are listed": ("lo = nk.Device.open('lo')", "lo.addresses"),
    "an error that is raised": ("", "nk.Device.open('nosuch')"),
    "a device that is set up otherwise": (VETH, "ve.set(mtu=1400); ve.rename('ve2'); ve.rename('ve0'); ve.up()"),
    "a device that is moved": (VETH, "ve.move(there); ve.move(ns)"),
    "a device that is deleted": (VETH, "pair.delete()"),
    "addresses and routes": (
        f"{VETH}\nve.up(); ve.add_address('fd00::1/64')",
        "ve.add_address('fd01::1/64'); ve.remove_address('fd01::1/64'); ve.add_route('fd02::/64'); ve.routes;"
        "ve.remove_route('fd02::/64')",
    ),
    "a queueing discipline": (
        VETH,
        "_core.netem_set(*ve._verified(), 1000, 0, 0.5, 0, 10); _core.netem_remove(*ve._verified())",
    ),
    "pairs that are made and listed": (
        MAKE_VETH,
        "create_pairs(ns, [(spec, ns)]); nk.pairs(ns); nk.orphans(); _core.group_delete(ns._netlink(), 1)",
    ),
    "what only netkit has": (VETH, "pair.set_policy('blackhole'); nk.NetkitDevice.create('nk0', netns=ns)"),
    "a named namespace": (
        f"{PLACES}\nimport itertools; numbers = itertools.count()",
        "nk.NetNS.create(f'nk-{next(numbers)}').delete(); nk.NetNS.open('/proc/self/ns/net')",
    ),
    "a claim": ("", "_core.claim_make(); _core.claim_is_free('x')"),
    "a watch": (f"{VETH}\nve.up()", "with pair.watch() as watch: ve.down(); ve.up(); list(watch.events(timeout=0.01))"),
    "a watch of what is moved": (
        f"{VETH}\nmoving = pair.watch()\nfrom netkit_bpf.devices.device import other_end\n"
        "from netkit_bpf.devices.watch import Watch\nalone = Watch(ve, None)",
        "ve.move(there); moving.read(0.1); alone.read(0.1); other_end(ve._read(), there); ve.move(ns); moving.read()",
    ),
    "a wait for a device": (f"{VETH}\nve.up()", "ve.wait_ready(0.01)"),
    "elements of a map": (
        "hash = obj.maps['hash']",
        "hash[1] = 2; hash.get(1); hash.setdefault(2, 1); hash.pop(1); dict(hash); hash.popitem(); len(hash)",
    ),
    "pins": (
        f"{PLACES}\nhash = obj.maps['hash']",
        "hash.pin('/sys/fs/bpf/hash'); nk.Map.open_pinned('/sys/fs/bpf/hash').close(); hash.unpin()",
    ),
    "a program's pin": (
        f"{PLACES}\nwrite = obj.programs['write']; write.pin('/sys/fs/bpf/write')",
        "nk.Program.open_pinned('/sys/fs/bpf/write').close()",
    ),
    "rules": (
        "rules = nk.Ruleset.parse('pass udp\\n' * 64)",
        "rules.compile(); rules.compile().warnings(); nk.Ruleset.parse(str(rules)); rules.numbers_in(rules)",
    ),
    "rules with a set": (
        "rules = nk.Ruleset.parse('table <friends> { 192.0.2.0/24 }\\ndrop from <friends>')",
        "rules.with_set('friends', ['fd00::/8'])",
    ),
    "an iteration": (f"{RING}; {WRITE}", "for record in ring.events(): started.set()"),
    "an iteration without a thread": (
        f"ring = nk.RingBuffer(obj.maps['records'], thread=None); {WRITE}",
        "for record in ring.events(): started.set()",
    ),
    "records that are read": (RING, f"{WRITE}; ring.read(timeout=0.001)"),
    "records that are read at once": (RING, f"{WRITE}; ring.read_batch(timeout=0.001)"),
    "a decoder in Python": (
        f"{SLOW}\nfrom netkit_bpf.btf.structure import Structure; Structure.decode = slow; {RING}",
        f"{WRITE}; ring.read(timeout=0.1)",
    ),
    "a warning": (
        f"{SLOW}\nwarnings.showwarning = slow; warnings.simplefilter('always')",
        f"ring = nk.RingBuffer(obj.maps['records']); {WRITE}; ring.read(timeout=0.5)",
    ),
    "packets that are read at once": (READER, f"{WRITE}; reader.read_batch(timeout=0.001)"),
    "a batch that is cut": (
        f"{READER}; {WRITE}; batch = reader.read_batch(timeout=5)",
        "batch[::2]; batch[[True] * len(batch)]; batch.__arrow_c_array__()",
    ),
    "a capture": (f"{READER}; null = open(os.devnull, 'wb', buffering=0)", f"{WRITE}; reader.capture(null, timeout=0)"),
    "a reader that is closed": ("", "nk.RingBuffer(obj.maps['records']).close()"),
    "an address that is made": (f"{READER}; {WRITE}; event = reader.read(timeout=5)", "event.src; event.to_json()"),
}
HOOKS: dict[str, tuple[str, str]] = {
    "a link": (
        "lo = nk.Device.open('lo')",
        "with lo.attach(obj.programs['write'], 'ingress') as link: lo.programs('ingress'); link.update(link.program)",
    ),
    "links in turn": (
        f"{PLACES}\nlo, write = nk.Device.open('lo'), obj.programs['write']",
        "link = lo.attach(write, 'ingress', before='all'); link.pin('/sys/fs/bpf/link');"
        "nk.Link.open_pinned('/sys/fs/bpf/link').unpin(); lo.detach(lo.programs('ingress').programs[0], 'ingress');"
        "link.program; link.detach()",
    ),
    "a monitor": (
        VETH,
        "with nk.Monitor(pair) as monitor: monitor.read(0.01); monitor.observers[0].check(); monitor.watches(pair)",
    ),
    "changes of a monitor": (
        f"{VETH}\nmonitor = nk.Monitor(pair, endless=True)",
        "with monitor.changes() as changes: monitor.remove(pair); changes.read(0.01); monitor.add(pair); monitor.stats",
    ),
    "a firewall": (VETH, "with nk.Firewall(pair, 'drop udp') as firewall: firewall.replace('pass udp')"),
    "a table of flows": (
        f"{VETH}\nmetrics = nk.FlowMetrics(pair, slots=64)",
        "metrics.snapshot().matching(metrics.rates(0.001))",
    ),
}


def run(frame: str, setup: str, call: str, path: str, **values: object) -> str:
    program = frame.format(made=OBJECT + setup, call=call, **values)
    argv = [*ALONE, sys.executable, "-W", "ignore", "-c", program, path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("exit") / "writer.bpf.o"
    made.write_bytes(build(WRITER))
    return str(made)


@pytest.mark.parametrize("what", CALLS)
def test_the_interpreter_exits_during(what: str, path: str) -> None:
    run(FRAME, *CALLS[what], path, runs=RUNS)


@needs_tcx
@pytest.mark.parametrize("what", HOOKS)
def test_the_interpreter_exits_during_the_life_of(what: str, path: str) -> None:
    run(FRAME, *HOOKS[what], path, runs=RUNS)


def without_the_gil() -> set[str]:
    """The names of the functions that let go of the GIL from their start to their end, as their bindings say."""
    found = set()
    for source in BINDINGS.rglob("*.cpp"):
        text = source.read_text()
        for guard in re.finditer(r"no_gil\(\)", text):
            named = [*re.finditer(r'\bdef(?:_static)?\(\s*(?:"(\w+)"|py::init)', text[: guard.start()])]
            found.add(named[-1][1] or "")
    return found - {""}  # of a constructor


@needs_tcx
def test_everything_that_lets_go_of_the_gil_is_tried(path: str) -> None:
    called = set()
    for setup, call in (CALLS | HOOKS).values():
        called |= {*run(WALK, setup, call, path).split()}
    wanted = without_the_gil()
    assert len(wanted) > 30
    assert wanted - called == set()
