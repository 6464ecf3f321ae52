"""How much memory generating text takes, against the published loops.

    python benchmarks/memory.py               # 30M, V = 32000, 8 rows of 64 + 448 tokens; some 5 minutes on 2 cores
    python benchmarks/memory.py --quick

Every decoder of sample.py that is named below runs in a process of its own, once, with as many steps as it has blocks:
what a step holds does not depend on how many there are. The figure is the peak of the resident memory of that process
while it writes, less what it held when the network was ready. The system's allocator is told to give freed memory
back, so that the peak is that of the tensors; nothing is packed.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
from dataclasses import replace

from measure import FORMAT, WEIGHTS, Row, options, publish
from sample import CACHED, DUAL, REFERENCE, Task, decoders, network

NAMES = (
    f"{REFERENCE}, T=0",
    f"{REFERENCE}, T=1",
    f"{DUAL}, T=0",
    "Confidence in blocks of {block}, T=0",
    "Confidence in blocks of {block}, T=1",
    "Confidence, T=0",
    "Confidence in blocks of {block}, Dual cache, T=0",
    f"{CACHED}, T=0",
)
"""The decoders that are compared."""


def held() -> float:
    """MiB of memory that this process holds now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def most_held() -> float:
    """MiB, the most that this process has held since the peak was last cleared."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 2**10


def measure(name: str, size: str, task: Task, rows: int) -> float:
    """MiB that one decoder takes at its peak, beyond the network; in this process."""
    model = network(size, task.ids).to(WEIGHTS)
    decode, prompts = decoders(task)[name], task.prompts(rows)
    short = replace(task, length=task.block, steps=1)
    decoders(short)[name](model, short, prompts[:1])  # first calls of kernels keep memory of their own
    before = held()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is counted from here
    decode(model, task, prompts)
    return most_held() - before


def main() -> None:
    parser = options(__doc__, size="30M", toy="tiny", repeats=1)
    parser.add_argument("--rows", type=int, default=8, help="rows written together (8)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    size, _ = given.of(given)
    task = Task(500, 8, 32, 8, 4) if given.quick else Task(32000, 64, 448, 32, 14)
    if given.one:
        print(json.dumps(measure(given.one, size, task, given.rows)))
        return
    names = [name.format(block=task.block) for name in NAMES]
    found: dict[str, float] = {}
    for name in names:
        again = [sys.executable, __file__, *sys.argv[1:], "--one", name]
        # freed memory goes back at once, so that the peak is that of the tensors
        environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        answer = subprocess.run(again, env=environment, capture_output=True, text=True, check=True)
        found[name] = json.loads(answer.stdout.splitlines()[-1])
        print(f"{name}: {found[name]:.0f} MiB", flush=True)
    rows: list[Row] = []
    for name in names:
        reference = found[f"{REFERENCE}, {name[-3:]}"]
        rows.append(
            {
                "decoder": name,
                "peak, MiB": f"{found[name]:.0f}",
                f"share of {REFERENCE}": f"{found[name] / reference:.2f}" if reference else "",
            }
        )
    notes = [
        f"Model: {size}, V = {task.vocabulary}, random weights in {FORMAT}; {given.rows} rows, prompt {task.prompt}, "
        f"{task.length} new tokens, blocks of {task.block}",
        "MiB beyond the network, each decoder in a process of its own; shares are of the loop at the same temperature",
    ]
    publish("memory", "Memory of generating text", notes, [rows], [], given)


if __name__ == "__main__":
    main()
