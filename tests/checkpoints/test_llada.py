"""The layout of LLaDA, in and out."""

import json
import math
from dataclasses import replace
from pathlib import Path

import torch
from layouts import IDS, SHAPES, config_of, publish
from safetensors.torch import load_file

from remask.checkpoints.checkpoint import load
from remask.checkpoints.convert import convert
from remask.checkpoints.format import formats
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


def test_padding_does_not_come_back(tmp_path: Path) -> None:
    """`--to llada` keeps `vocab_size`; and a mask in the first row of the padding is read and never predicted."""
    folder = publish(tmp_path / "theirs", "llada")
    config = {**config_of("llada", SHAPES["llada"]), "vocab_size": 36, "embedding_size": 40}
    for mask, size in ((11, 36), (36, 37)):
        (folder / "config.json").write_text(json.dumps({**config, "mask_token_id": mask}))
        one = load(folder)
        assert (one.model.architecture.rows, one.model.architecture.predicted) == (size, 36)
        out = convert(folder, tmp_path / f"out {mask}", to="llada")
        written = json.loads((out / "config.json").read_text())
        assert (written["vocab_size"], written["embedding_size"], written["mask_token_id"]) == (size, size, mask)
        two = load(out)
        assert two.model.architecture == one.model.architecture and two.family.vocabulary == one.family.vocabulary
        assert torch.equal(two.logits(IDS % 36), one.logits(IDS % 36))
