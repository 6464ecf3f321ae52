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
from remask.model.sizes import SizeOverrides
from remask.training.optim import Budget
from remask.training.plan import LIKELY, WORTH_COMPILING, resolve
from remask.training.start import build_network, resolve_architecture


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_it_is_timed_whether_compiling_pays(corpus: Path, tmp_path: Path) -> None:
    """A tiny network is far slower than its arithmetic suggests, a larger one is not."""
    data = open_tokens(corpus)
    tiny, larger = (
        SizeOverrides(layers=1, width=16, heads=1, ffn=16),
        SizeOverrides(layers=2, width=256, heads=4, ffn=512),
    )

    def decided(name: str, sizes: SizeOverrides, share: float, compiling: str = "auto") -> bool:
        """Of a run that takes `share` of what is worth compiling, by its arithmetic."""
        shape, family = resolve_architecture(None, "tiny", Masked(), data.tokenizer, sizes, 32)
        denoiser, batches = build_network(None, shape, "smdm", 0), Batches(Rows(data.train, 32), 8, 0)
        before = [p.clone() for p in denoiser.parameters()]
        guessed = family.flops(shape, 32) * 8 * 32 / (LIKELY * machine.peak(torch.device("cpu"), False))
        options: dict[str, Any] = {"budget": Budget(steps=round(share * WORTH_COMPILING / guessed))}
        options |= {"compile": compiling, "precision": "fp32", "accumulate": 1}
        (tmp_path / name).mkdir()
        found = resolve(tmp_path / name, options, "corpus", denoiser, family, batches, 1, torch.device("cpu"), rank=0)
        assert all(torch.equal(a, b) for a, b in zip(before, denoiser.parameters(), strict=True))
        assert all(p.grad is None or not p.grad.any() for p in denoiser.parameters())
        return found["compile"]

    assert decided("long", tiny, 20.0)
    assert decided("timed", tiny, 0.5), "by its arithmetic alone it would not be"
    assert not decided("quick", larger, 0.11), "timed, and quick enough as it is"
    assert not decided("short", tiny, 0.01)
    assert not decided("off", tiny, 0.5, "off")
