"""How long it takes until something can be done: importing, asking for help, loading 1 GB of weights.

    python benchmarks/load.py                # a checkpoint of 237 M fp32 parameters; some 2 minutes, 2 GB of disk
    python benchmarks/load.py --quick

Every run is a new process. Loading is measured with the file in the page cache and torch imported:
the time, and by how much the process's anonymous memory (RssAnon: neither file nor shared) rose at its
highest, which is where a second copy of the weights would show. The baseline is the usual way: build
the model, `torch.load`, `load_state_dict`.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import tokenizers
import torch
from measure import Row, alternate, options, pair, peaks, publish, status
from tokenizers import models

from remask.checkpoints import checkpoint, folder
from remask.data.tokenizer import END, Tokenizer
from remask.families.masked import Masked
from remask.model.sizes import Architecture, size
from remask.model.transformer import Transformer, initialise

EMPTY, TORCH, IMPORT, HELP = "python -c pass", "import torch", "import remask", "remask --help"
START = {
    EMPTY: ["-c", "pass"],
    TORCH: ["-c", "import torch"],
    IMPORT: ["-c", "import remask"],
    HELP: ["-m", "remask", "--help"],
}
USUAL, OURS = "build, torch.load, load_state_dict", "remask.load"


def started(arguments: list[str]) -> list[float]:
    """Seconds from the start of a Python process to its end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return [time.perf_counter() - start]


def make(where: Path, name: str, vocabulary: int) -> int:
    """A published folder with random weights, and the same as a torch file; its parameters."""
    words = {END: 0, **{f"w{i}": i for i in range(1, vocabulary)}}
    tokenizer = Tokenizer(tokenizers.Tokenizer(models.BPE(vocab=words, merges=[])))
    ids = tokenizer.vocabulary
    architecture = replace(size(name), rows=ids.size, predicted=ids.predicted)
    model = Transformer(architecture)
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    folder.save(where / "published", model.state_dict(), architecture, Masked().over(ids), tokenizer, {}, "# toy\n")
    torch.save(model.state_dict(), where / "weights.pt")
    return architecture.parameters


class Watch:
    """The highest anonymous memory while it runs, looked at every 5 ms."""

    def __enter__(self) -> "Watch":
        self.before = self.highest = status("RssAnon")
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.highest = max(self.highest, status("RssAnon"))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.highest = max(self.highest, status("RssAnon"))


def work(way: str, where: Path) -> None:
    """In a process of its own: loads once, and prints what it took."""
    tokens = torch.arange(1, 65)[None]
    torch.mm(torch.ones(64, 64), torch.ones(64, 64))  # starts the threads
    with Watch() as watch:
        seconds, model = timed(lambda: load(way, where))
    with torch.inference_mode():
        first, second = (timed(lambda: model(tokens))[0] for _ in range(2))
    memory = {"rise": watch.highest - watch.before, "anonymous": status("RssAnon"), "resident": status("VmHWM")}
    again, _ = timed(lambda: load(way, where))
    print(json.dumps({"load": seconds, "again": again, "first": first, "second": second, **memory}))


def load(way: str, where: Path) -> Transformer:
    """The model, in one way or the other."""
    if way == OURS:
        return checkpoint.load(where / "published").model
    config = json.loads((where / "published" / "config.json").read_text())
    model = Transformer(Architecture(**config["architecture"]))
    model.load_state_dict(torch.load(where / "weights.pt", weights_only=True))
    return model.eval().requires_grad_(False)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def loaded(way: str, where: Path, kept: dict[str, list[dict[str, float]]]) -> list[float]:
    """Seconds to load, in a new process; all it measured goes to `kept`."""
    command = [sys.executable, __file__, "--worker", way, str(where)]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    kept.setdefault(way, []).append(found)
    return [found["load"]]


def imported() -> tuple[float, bool]:
    """Seconds of `import remask` itself, the best of ten, and whether torch comes with it."""
    code = "import time, sys; t = time.perf_counter(); import remask; t = time.perf_counter() - t"
    command = [sys.executable, "-c", f"{code}; print(t, 'torch' in sys.modules)"]
    answers = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(10)]
    return min(float(seconds) for seconds, _ in answers), answers[0][1] == "True"


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        return work(sys.argv[2], Path(sys.argv[3]))
    given = options(__doc__, size="180M", toy="tiny", repeats=7).parse_args()
    name, repeats = given.of(given)
    seconds, torch_too = imported()
    processes = {label: partial(started, how) for label, how in START.items()}
    starts = alternate(processes, repeats, lambda: peaks(given.quick))
    kept: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="remask-load-") as place:
        where = Path(place)
        parameters = make(where, name, 500 if given.quick else 32000)
        os.sync()  # so that writing back does not disturb
        ways = {way: partial(loaded, way, where, kept) for way in (USUAL, OURS)}
        for run in ways.values():
            run()  # brings the files into the page cache
        kept.clear()
        loads = alternate(ways, repeats, lambda: peaks(given.quick))

    starting: list[Row] = [
        {
            "process": label,
            "ms (best)": f"{starts.best(label) * 1e3:.0f}",
            "median": f"{starts.median(label) * 1e3:.0f}",
            "against import torch": pair(starts.ratio(TORCH, label), 1),
        }
        for label in START
    ]
    loading: list[Row] = []
    for way in ways:
        middle = {field: median(run[field] for run in kept[way]) for field in kept[way][0]}
        loading.append(
            {
                "way": way,
                "ms (best)": f"{loads.best(way) * 1e3:.1f}",
                "median": f"{loads.median(way) * 1e3:.1f}",
                "against usual": pair(loads.ratio(USUAL, way)),
                "second load, ms": f"{middle['again'] * 1e3:.1f}",
                "anonymous memory rose by, MiB": f"{middle['rise']:.0f}",
                "after two forwards, MiB": f"{middle['anonymous']:.0f}",
                "peak resident, MiB": f"{middle['resident']:.0f}",
                "first forward, ms": f"{middle['first'] * 1e3:.0f}",
                "second forward": f"{middle['second'] * 1e3:.0f}",
            }
        )
    notes = [
        f"Every run is a new process; {repeats} of each, in turn. Memory and forwards are medians",
        f"`import remask` itself takes {seconds * 1e3:.1f} ms and {'brings' if torch_too else 'does not bring'} torch",
        f"Checkpoint: {name}, {parameters / 1e6:.0f} M parameters in fp32, {parameters * 4 / 2**20:.0f} MiB, "
        "in the page cache; a forward reads 64 tokens",
        f"Baselines: `{TORCH}`, and `{USUAL}`",
    ]
    publish("load", "Starting and loading", notes, [starting, loading], [starts, loads], given)


if __name__ == "__main__":
    main()
