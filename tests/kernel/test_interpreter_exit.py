"""The interpreter exits while a daemon thread is in a call that lets go of the GIL, or that runs Python code.

CPython before 3.14 ends such a thread by pthread_exit(), which unwinds the frames of the bindings.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from programs import HEADER, build
from veth import has_tcx

RUNS = 8
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
    "a namespace that is entered": ("ns = nk.NetNS.current()", "nk.Device.open('lo', ns)"),
    "a device that is changed": ("lo = nk.Device.open('lo')", "lo.up()"),
    "addresses that are listed": ("lo = nk.Device.open('lo')", "lo.addresses"),
    "an error that is raised": ("", "nk.Device.open('nosuch')"),
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
        "with lo.attach(obj.programs['write'], 'ingress') as link: lo.programs('ingress')",
    ),
}


def exit_during(setup: str, call: str, path: str, runs: int = RUNS) -> None:
    program = FRAME.format(made=OBJECT + setup, call=call, runs=runs)
    argv = [sys.executable, "-W", "ignore", "-c", program, path]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = tmp_path_factory.mktemp("exit") / "writer.bpf.o"
    made.write_bytes(build(WRITER))
    return str(made)


@pytest.mark.parametrize("what", CALLS)
def test_the_interpreter_exits_during(what: str, path: str) -> None:
    exit_during(*CALLS[what], path)


@pytest.mark.skipif(not has_tcx(), reason="this kernel has no tcx hooks (6.6)")
@pytest.mark.parametrize("what", HOOKS)
def test_the_interpreter_exits_during_the_life_of(what: str, path: str) -> None:
    exit_during(*HOOKS[what], path)
