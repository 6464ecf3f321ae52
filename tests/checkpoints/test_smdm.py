"""The layout of SMDM, against its forward pass written out on the published tensors."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import IDS, SHAPES, publish
from safetensors.torch import load_file
from torch import Tensor

from remask.checkpoints.checkpoint import load
from remask.checkpoints.format import formats
from remask.checkpoints.overrides import Overrides
from remask.errors import RemaskError
from remask.model.rotary import rotary, rotate
from remask.model.sizes import SIZES


def test_smdm_rows_are_query_key_value_of_each_head() -> None:
    a, form = SHAPES["smdm"], formats()["smdm"]
    rows = torch.arange(3 * a.width)[:, None].expand(-1, a.width).contiguous()
    for part, name in enumerate("qkv"):
        found = form.to_ours(rows, f"model.layers.0.self_attn.{name}_proj.weight", a)[:, 0].tolist()
        assert found == [head * 3 * 8 + part * 8 + i for head in range(4) for i in range(8)]


def test_smdm_forward_from_its_own_names(tmp_path: Path) -> None:
    """The published forward pass, written out on the published tensors."""
    a = SHAPES["smdm"]
    folder = publish(tmp_path / "theirs", "smdm")
    w = load_file(folder / "model.safetensors")

    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return gain * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    x = w["transformer.wte.weight"][IDS]
    table = rotary(a, torch.arange(12))
    for i in range(2):
        p = f"transformer.h.{i}."
        qkv = (norm(x, w[p + "norm_1.weight"]) @ w[p + "attn.attn.weight"].T).view(2, 12, 4, 3, 8)
        q, k, v = (qkv[:, :, :, j].transpose(1, 2) for j in range(3))
        scores = rotate(q, *table) @ rotate(k, *table).transpose(-1, -2) / math.sqrt(8)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ w[p + "attn.proj.weight"].T
        h = norm(x, w[p + "norm_2.weight"])
        gate, up = (h @ w[f"{p}mlp.swiglu.w{j}.weight"].T for j in (1, 2))
        x = x + (gate * gate.sigmoid() * up) @ w[p + "mlp.swiglu.w3.weight"].T
    truth = norm(x, w["transformer.ln_f.weight"]) @ w["lm_head.weight"].T
    torch.testing.assert_close(load(folder).logits(IDS), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SIZES if n[0].isdigit() and n not in ("3M", "10M", "30M")])
def test_smdm_at_full_size(name: str) -> None:
    """All thirty sizes, on shapes alone; N + 64001 d parameters."""
    a = replace(SIZES[name], rows=32001, predicted=32000)
    layout = formats()["smdm"].layout(a)
    assert len(layout) == 7 * a.layers + 3
    assert sum(map(math.prod, layout.values())) == a.parameters == a.non_embedding + 64001 * a.width
    if name == "1028M":
        assert a.parameters == 1_142_367_744


def test_an_autoregressive_model_is_no_masked_one(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm, autoregressive")
    with pytest.raises(RemaskError, match="has no row for a mask, so it is no Masked model"):
        load(folder, overrides=Overrides(family="Masked"))
