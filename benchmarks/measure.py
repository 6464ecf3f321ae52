"""What the benchmark scripts share: runs in turn, the machine's own speed beside them, one form of result.

The speed of a shared machine drifts by more than most differences of interest. So variants run
alternately (A B C A B C ...), every round also measures the machine's matrix products, and ratios are
taken twice: of the best runs, and as the median of the ratios within each round. Differences under
10 % are ties.
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import torch

import remask
from remask.machine import fast_bf16, peak

HERE = Path(__file__).resolve().parent
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8")
"""Processor flags that decide which kernels run."""

WEIGHTS = torch.bfloat16 if fast_bf16("cpu") else torch.float32
"""Number format of the weights of all variants: bfloat16 where the processor has instructions for it, else float32."""
FORMAT = "bf16" if fast_bf16("cpu") else "fp32"

Row = dict[str, str]


def plain_logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """(B, L, V) logits everywhere in the weights' own type, as the published loops have them."""
    from remask.model.attention import FULL
    from remask.model.reading import locate

    _, reading = locate(model.architecture, ids, None, FULL, None, None)
    return torch.nn.functional.linear(model.model(ids, reading), model.lm_head.weight[: model.lm_head.predicted])


def options(doc: str | None, size: str, toy: str, repeats: int) -> argparse.ArgumentParser:
    """The options of every script. `--quick` runs at size `toy`, and keeps no result unless `--out` says where."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="toy sizes: does it run, in seconds; keeps no result")
    parser.add_argument("--repeats", type=int, help=f"rounds in which every variant runs once ({repeats}; quick: 2)")
    parser.add_argument("--size", help=f"named model size ({size}; quick: {toy})")
    parser.add_argument("--out", type=Path, help="folder for NAME.md and NAME.json (benchmarks/results)")
    parser.set_defaults(of=lambda a: (a.size or (toy if a.quick else size), a.repeats or (2 if a.quick else repeats)))
    return parser


def peaks(quick: bool) -> dict[str, float]:
    """FLOP/s of a large matrix product in both number formats, here and now."""
    how = {"seconds": 0.02} if quick else {}
    return {name: peak("cpu", name == "bf16", **how) for name in ("bf16", "fp32")}


@dataclass
class Rounds:
    """Seconds of every run, by variant and round, with the peaks of the same rounds."""

    seconds: dict[str, list[list[float]]] = field(default_factory=dict)
    peaks: dict[str, list[float]] = field(default_factory=dict)

    def best(self, name: str) -> float:
        """Seconds of the fastest run."""
        return min(min(group) for group in self.seconds[name])

    def median(self, name: str) -> float:
        """Seconds of the median run."""
        return median(second for group in self.seconds[name] for second in group)

    def ratio(self, baseline: str, name: str) -> tuple[float, float]:
        """How many times faster than the baseline: of the best runs, and the median of the rounds' ratios."""
        pairs = zip(self.seconds[baseline], self.seconds[name], strict=True)
        return self.best(baseline) / self.best(name), median(median(a) / median(b) for a, b in pairs)

    def share(self, name: str, flops: float, kind: str = "bf16") -> tuple[float, float]:
        """Share of the peak at `flops` a run: of the best run at the best peak, and the median over rounds."""
        rounds = zip(self.seconds[name], self.peaks[kind], strict=True)
        return flops / self.best(name) / max(self.peaks[kind]), median(flops / median(s) / p for s, p in rounds)


def alternate(
    variants: Mapping[str, Callable[[], list[float]]], repeats: int, measure: Callable[[], dict[str, float]]
) -> Rounds:
    """Runs every variant once a round, in order; each returns the seconds of its runs. `measure` gives the peaks."""
    rounds = Rounds({name: [] for name in variants})
    for number in range(repeats):
        for kind, value in measure().items():
            rounds.peaks.setdefault(kind, []).append(value)
        for name, run in variants.items():
            say(f"round {number + 1} of {repeats}: {name}")
            rounds.seconds[name].append(run())
    say("")
    return rounds


def say(what: str) -> None:
    """What is going on, on one line that is overwritten; nothing where no one watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)


def pair(values: tuple[float, float], digits: int = 2) -> str:
    """`best / median`."""
    return " / ".join(f"{value:.{digits}f}" for value in values)


def table(rows: list[Row]) -> str:
    """Rows of equal columns as a Markdown table that also reads well on a terminal."""
    heads = list(rows[0])
    wide = [max(len(head), *(len(row[head]) for row in rows)) for head in heads]
    lines = [heads, ["-" * w for w in wide], *([row[head] for head in heads] for row in rows)]
    return "\n".join("| " + " | ".join(cell.ljust(w) for cell, w in zip(line, wide)) + " |" for line in lines)


def publish(
    name: str, title: str, notes: list[str], tables: list[list[Row]], rounds: list[Rounds], given: argparse.Namespace
) -> None:
    """Prints the tables with their circumstances, and writes them to NAME.md, with every run in NAME.json."""
    facts = machine()
    measured = {kind: [v for r in rounds for v in r.peaks.get(kind, [])] for kind in ("bf16", "fp32")}
    speed = "; ".join(f"{k} {max(v) / 1e12:.2f} best, {median(v) / 1e12:.2f} median" for k, v in measured.items() if v)
    lines = [
        f"# {title}",
        "",
        f"* Date: {facts['date']}",
        f"* Machine: {facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, {facts['memory']} GiB; "
        + (" ".join(facts["flags"]) or "no flag of interest"),
        f"* Software: torch {facts['torch']}, Python {facts['python']}, remask {facts['remask']}",
        f"* Command: `{facts['command']}`",
        *([f"* Matrix-product peak in this run, TFLOP/s: {speed}"] if speed else []),
        *(
            ["* Ratios and shares: of the best runs / median over the rounds. Differences under 10 % are ties."]
            if rounds
            else []
        ),
        *(f"* {note}" for note in notes),
    ]
    text = "\n".join([*lines, *(f"\n{table(rows)}" for rows in tables)]) + "\n"
    print(text)
    folder = given.out or (None if given.quick else HERE / "results")
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    raw: dict[str, Any] = {**facts, "title": title, "notes": notes, "tables": tables}
    raw["rounds"] = [{"seconds": r.seconds, "peaks": r.peaks} for r in rounds]
    (folder / f"{name}.md").write_text(text)
    (folder / f"{name}.json").write_text(json.dumps(raw, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What a result depends on; no name of the machine, no path."""
    cpuinfo, meminfo = (_read(f"/proc/{name}") for name in ("cpuinfo", "meminfo"))
    flags = set(_first(r"^flags\s*:\s*(.+)", cpuinfo, "").split())
    # a path given as an option says where things lie on one machine: only its last part is kept
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _first(r"^model name\s*:\s*(.+)", cpuinfo, platform.machine()),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": round(int(_first(r"^MemTotal:\s*(\d+)", meminfo, "0")) / 2**20),
        "flags": [flag for flag in FLAGS if flag in flags],
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "remask": remask.__version__ + _commit(),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words]),
    }


def status(field_name: str) -> float:
    """A memory field of this process in MiB, such as VmHWM (peak resident) or RssAnon (neither file nor shared)."""
    return int(_first(rf"^{field_name}:\s*(\d+)", _read("/proc/self/status"), "0")) / 1024


def _commit() -> str:
    """The commit, and whether the package differs from it."""
    try:
        ask = {"cwd": HERE, "capture_output": True, "text": True, "check": True}
        head = subprocess.run(["git", "rev-parse", "--short", "HEAD"], **ask).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--", "../remask"], **ask).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" at {head}" + (" with changes" if changed else "")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _first(pattern: str, text: str, default: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else default
