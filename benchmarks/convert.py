"""How long other people's weights take to convert and to load, and how much memory that needs.

    python benchmarks/convert.py                # SMDM 1028M in fp32 and an 8B LLaDA in bf16 shards; 41 GB of disk
    python benchmarks/convert.py --quick

Random weights in the published layouts, written tensor by tensor. Each conversion and each load is a process of its
own, whose peak resident memory is the system's word (`ru_maxrss`; it counts pages of mapped files). The bound
on a conversion is the disk: every byte is read once and written once, so the same is timed with `cp`. Then the
1028M model writes 32 tokens, by SMDM's own sampler in 32 steps.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measure import Rounds, Row, options, peaks, publish
from torch import Tensor

from remask.checkpoints.folder import write_safetensors
from remask.checkpoints.format import formats
from remask.checkpoints.source import Tensors
from remask.model.sizes import Architecture, size


def drawn(shape: tuple[int, ...], dtype: torch.dtype, width: int) -> Tensor:
    """A random tensor with SMDM's initial scale."""
    return (
        torch.ones(shape, dtype=dtype) if len(shape) == 1 else (torch.randn(shape) * (2 / 5 / width) ** 0.5).to(dtype)
    )


def write(folder: Path, form: str, a: Architecture, dtype: torch.dtype, shards: int) -> None:
    """A random model in a published layout, in one file or several with their index."""
    folder.mkdir()
    layout = formats()[form].layout(a)
    names, index = list(layout), {}
    for i in range(shards):
        part = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        where = {n: partial(drawn, layout[n], dtype, a.width) for n in part}
        file = "model.safetensors" if shards == 1 else f"model-{i + 1:05}-of-{shards:05}.safetensors"
        write_safetensors(folder / file, Tensors(where, {n: (dtype, layout[n]) for n in part}))
        index |= dict.fromkeys(part, file)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    if form == "llada":
        ids = {"mask_token_id": a.rows - 128, "eos_token_id": a.rows - 383}
        (folder / "config.json").write_text(json.dumps({"n_heads": a.heads, "rope_theta": a.rope_base, **ids}))


def used(command: list[str]) -> tuple[float, float]:
    """Seconds and peak resident GiB of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, code, usage = os.wait4(process.pid, 0)
    if code:
        raise SystemExit(f"{' '.join(command[:5])} ... failed")
    return time.perf_counter() - start, usage.ru_maxrss / 2**20


LOAD = """
import json, sys, time
import torch
from remask.checkpoints.format import formats
from remask.checkpoints.checkpoint import load
from remask.checkpoints.overrides import Overrides
formats()
overrides = Overrides(heads=int(sys.argv[2])) if len(sys.argv) > 2 else Overrides()
start = time.perf_counter()
m = load(sys.argv[1], overrides=overrides)
seconds = time.perf_counter() - start
lines = dict(l.split(":") for l in open("/proc/self/status") if ":" in l)
print(json.dumps([seconds, int(lines["VmHWM"].split()[0]) / 2**20, int(lines["RssAnon"].split()[0]) / 2**20]))
"""
SAMPLE = """
import json, sys, time
import remask
m = remask.load(sys.argv[1])
start = time.perf_counter()
found = remask.sample(m, prompt=[1, 2, 3, 4], length=32, sampler="SMDM", steps=32)
print(json.dumps([time.perf_counter() - start, len(found.tokens), found.evaluations]))
"""


def answered(code: str, *arguments: object) -> list[float]:
    """What a process that runs `code` prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def main() -> None:
    given = options(__doc__, size="1028M", toy="6M", repeats=1).parse_args()
    name, _ = given.of(given)
    ids = 500 if given.quick else 32000
    big = size("6M" if given.quick else "LLaDA-8B")
    wide = 1000 if given.quick else 126464
    kinds = {
        f"SMDM {name}, fp32, one file": ("smdm", replace(size(name), rows=ids + 1, predicted=ids), torch.float32, 1),
        f"LLaDA {'8B' if not given.quick else '6M'}, bf16, 6 shards": (
            "llada", replace(big, rows=wide, predicted=wide), torch.bfloat16, 6,
        ),
    }  # fmt: skip
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="remask-convert-") as place:
        for i, (label, (form, a, dtype, shards)) in enumerate(kinds.items()):
            theirs, ours = Path(place) / f"theirs{i}", Path(place) / f"ours{i}"
            write(theirs, form, a, dtype, shards)
            files = sorted(theirs.glob("*.safetensors"))
            largest, whole = max(f.stat().st_size for f in files) / 2**30, sum(f.stat().st_size for f in files) / 2**30
            os.sync()
            start = time.perf_counter()
            subprocess.run(["cp", "-r", str(theirs), f"{place}/copy"], check=True)
            os.sync()
            copied = time.perf_counter() - start
            shutil.rmtree(f"{place}/copy")
            options_ = ["--heads", str(a.heads)] if form == "smdm" else []
            command = [sys.executable, "-m", "remask", "convert", str(theirs), str(ours), *options_]
            seconds, peak = used(command)
            source = answered(LOAD, theirs, a.heads)
            mapped = answered(LOAD, ours)
            rows.append(
                {
                    "weights": label,
                    "parameters": f"{sum(map(math.prod, formats()[form].layout(a).values())):,}",
                    "GiB": f"{whole:.2f}",
                    "largest file": f"{largest:.2f}",
                    "cp, s": f"{copied:.1f}",
                    "convert, s": f"{seconds:.1f}",
                    "peak resident, GiB": f"{peak:.2f}",
                    "load as published, s": f"{source[0]:.2f}",
                    "load converted, s": f"{mapped[0]:.2f}",
                    "its peak resident, GiB": f"{mapped[1]:.2f}",
                    "of which not file": f"{mapped[2]:.2f}",
                }
            )
            shutil.rmtree(theirs)
            if i:
                shutil.rmtree(ours)
        sampled = answered(SAMPLE, Path(place) / "ours0")
    notes = [
        "Peak resident counts pages of mapped files; every run is a new process; torch is imported before a load",
        f"{name} writes {sampled[1]} tokens behind 4 in {sampled[0]:.1f} s, {sampled[2]} network passes, fp32",
    ]
    publish("convert", "Converting and loading other people's weights", notes, [rows], [peaked(given.quick)], given)


def peaked(quick: bool) -> Rounds:
    """The machine's matrix-product peak, once."""
    return Rounds({}, {kind: [value] for kind, value in peaks(quick).items()})


if __name__ == "__main__":
    main()
