"""Decisions before the first step."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from remask import machine
from remask.data.batches import Batches, Rows
from remask.data.tokens import open_tokens
from remask.families.masked import Masked
from remask.model.sizes import Overrides
from remask.train.optim import Budget
from remask.train.plan import LIKELY, WORTH_COMPILING, resolve
from remask.train.start import built, shaped


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_small_networks_are_timed_before_it_is_decided_to_compile(corpus: Path, tmp_path: Path) -> None:
    """A tiny one is far slower than the machine's peak suggests, and so is worth compiling for fewer steps."""
    data = open_tokens(corpus)
    smaller = Overrides(layers=1, width=16, heads=1, ffn=16)
    shape, family = shaped(None, "tiny", Masked(), data.tokenizer, smaller, 32)
    denoiser, batches = built(None, shape, "smdm", 0), Batches(Rows(data.train, 32), 2, 0)
    before = [p.clone() for p in denoiser.parameters()]
    guessed = family.flops(shape, 32) * 64 / (LIKELY * machine.peak(torch.device("cpu"), False))

    def decided(name: str, seconds: float, compiling: str = "auto") -> bool:
        options: dict[str, Any] = {"budget": Budget(steps=round(seconds / guessed)), "compile": compiling}
        options |= {"precision": "fp32", "accumulate": 1}
        (tmp_path / name).mkdir()
        found = resolve(tmp_path / name, options, "corpus", denoiser, family, batches, 1, torch.device("cpu"), rank=0)
        return found["compile"]

    assert decided("long", 20 * WORTH_COMPILING)
    assert decided("timed", 0.5 * WORTH_COMPILING), "by its arithmetic alone it would not be"
    assert not decided("short", 0.01 * WORTH_COMPILING)
    assert not decided("off", 0.5 * WORTH_COMPILING, "off")
    assert all(torch.equal(a, b) for a, b in zip(before, denoiser.parameters(), strict=True))
    assert all(p.grad is None or not p.grad.any() for p in denoiser.parameters())
