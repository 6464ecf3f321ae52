"""A new any-order family is one short file: it trains, writes, is scored and keeps the contract with nothing else."""

import json
from pathlib import Path

import killing
import pytest

ROOT = Path(__file__).parents[2]

FAMILY = '''
"""Masked diffusion with another law of the mask rate."""

import math
from dataclasses import dataclass

import torch

from remask.families.base import Family


@dataclass(frozen=True, kw_only=True)
class Sine(Family):
    """alpha(t) = 1 - sin(pi t / 2): texts with few masks are rare."""

    def alpha(self, t):
        return 1 - torch.sin(torch.as_tensor(t) * math.pi / 2)
'''

PLUGIN = """
import importlib
import remask.families

remask.families.__path__.append({folder!r})
importlib.import_module("remask.families.sine")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the family, and a module `with_sine` that puts it where the package finds its families."""
    folder = tmp_path_factory.mktemp("families")
    (folder / "own").mkdir()
    (folder / "own" / "sine.py").write_text(FAMILY)
    (folder / "with_sine.py").write_text(PLUGIN.format(folder=str(folder / "own")))
    return folder


def run(folder: Path, code: str, log: Path) -> str:
    """What a program prints in a process of its own with the family in place."""
    begin = f"import os, sys\nos.chdir({str(ROOT)!r})\nsys.path.insert(0, {str(folder)!r})\n"
    return killing.output_of(begin + code, log)


def test_it_trains_writes_and_is_scored(folder: Path, corpus: Path, tmp_path: Path) -> None:
    """By the command line, in one process."""
    out = str(tmp_path / "run")
    options = "--family Sine --model tiny --architecture.layers 2 --architecture.width 32 --architecture.heads 2 "
    options += "--architecture.ffn 64 --length 64 --batch 8 --budget.steps 40 --log_every 10 --precision fp32 "
    options += "--compile off --accelerator cpu --validation_rows 4 --validate_every 20"
    commands = [
        ["train", "--data", str(corpus), "--out", out, *options.split()],
        ["sample", out, "--length", "16", "--json"],
        ["sample", out, "--length", "16", "--sampler", "Confidence", "--json"],
        ["score", out, "--text", "abcabc", "--draws", "16", "--json"],
        ["score", out, "--text", "abc", "--estimator", "rule", "--json"],
    ]
    code = f"import with_sine\nfrom remask.cli import main\nfor command in {commands!r}:\n    main(command)"
    printed = run(folder, code, tmp_path / "log")
    *texts, bound, exact = (json.loads(line) for line in printed.splitlines() if line[:1] in ("[", "{"))
    losses = [float(row.split(",")[4]) for row in (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]]
    assert losses[-1] < losses[0]
    for (text,) in texts:
        assert len(text["tokens"]) <= 16 and text["log_prob"] < 0
    assert bound["kind"] == "bound" and bound["stderr"] > 0
    assert exact["kind"] == "exact" and exact["nats"] > 0


def test_it_passes_the_contract(folder: Path, tmp_path: Path) -> None:
    tests = ["tests/test_contract.py", "tests/families/test_base.py"]
    options = ["-q", "-p", "with_sine", "-p", "no:cacheprovider", "-n", "0", "-k", "Sine", *tests]
    said = run(folder, f"import pytest\nsys.exit(pytest.main({options!r}))", tmp_path / "log")
    assert "passed" in said and int(said.split(" passed")[0].split()[-1]) > 10
