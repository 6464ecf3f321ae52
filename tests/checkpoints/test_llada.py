"""The layout of LLaDA, in and out."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from layouts import IDS, publish
from safetensors.torch import load_file

from remask.checkpoints.base import formats
from remask.checkpoints.checkpoint import load
from remask.checkpoints.convert import convert
from remask.model.sizes import SIZES


def test_llada_at_full_size() -> None:
    layout = formats()["llada"].layout(replace(SIZES["LLaDA-8B"], rows=126464, predicted=126464))
    assert len(layout) == 291
    assert sum(map(math.prod, layout.values())) == 8_015_581_184
    small = formats()["llada"].layout(replace(SIZES["LLaDA-1B"], rows=126464, predicted=126464))
    assert round(sum(map(math.prod, small.values())) / 1e9, 2) == 1.49


def test_our_masked_model_in_the_llada_layout(tmp_path: Path) -> None:
    """Its head has no row for the mask; the layout's has, a copy that is never strictly the best."""
    out = convert(publish(tmp_path / "theirs", "smdm"), tmp_path / "out", to="llada")
    head = load_file(out / "model.safetensors")["model.transformer.ff_out.weight"]
    assert head.shape == (41, 32) and torch.equal(head[40], head[39])
    one, two = load(tmp_path / "theirs"), load(out)
    assert two.model.architecture == replace(one.model.architecture)
    assert torch.equal(one.logits(IDS), two.logits(IDS))
