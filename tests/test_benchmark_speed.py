"""The benchmark of packed weights says which calls took packed products."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from remask.model.packing import pack
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer


@pytest.fixture
def speed(load_script: Callable[[str], Any]) -> Any:
    return load_script("speed")


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no packed products")
def test_a_call_that_takes_no_packed_product_has_no_ratio(speed: Any) -> None:
    shape = Architecture(
        layers=1, width=128, heads=2, kv_heads=2, head_width=64, ffn=2048, context=320, rows=301, predicted=300
    )
    models = {name: Transformer(shape).eval().requires_grad_(False) for name in ("plain", "packed", "int8")}
    for model in models.values():
        torch.nn.init.zeros_(model.lm_head.weight)
    assert pack(models["packed"]) > 0
    tokens = torch.zeros(8, speed.CANVAS, dtype=torch.int64)
    for rows, used, ratio in ((1, "0 of 2", "not packed"), (8, "2 of 2", " / ")):
        row, _ = speed.compare(models, speed.Call("a step", rows, 1, causal=True), tokens, 1, quick=True)
        assert row["products packed"] == used and ratio in row["packed, times as fast"]
