"""Sampling with a compiled network: the same texts, and a bounded number of compiled graphs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

import remask
from remask import machine
from remask.checkpoints.checkpoint import load
from remask.errors import RemaskError

ways: list[dict[str, Any]] = [
    {"sampler": "Ancestral", "steps": 4},
    {"sampler": "Confidence", "steps": 4, "block": 8, "cache": "Dual"},
]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing is compiled before or afterwards."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_few_graphs_serve_all_shapes_and_write_the_same(masked_run: Path, forgotten: None) -> None:
    plain, compiled = load(masked_run), load(masked_run)
    counter = CompileCounterWithBackend("aot_eager")
    compiled.model.compile(backend=counter, dynamic=True)
    for way in ways:
        for rows, length in ((1, 9), (1, 17), (2, 13), (3, 24)):
            asked: dict[str, Any] = {"prompt": ["ab"] * rows, "length": length, "temperature": 0.0, "seed": 1, **way}
            found = remask.sample(compiled, **asked)
            assert [one.tokens for one in found] == [one.tokens for one in remask.sample(plain, **asked)]
    assert 1 <= counter.frame_count <= 4, "graphs for 8 shapes"


def test_rows_of_unlike_lengths(masked_run: Path, forgotten: None) -> None:
    plain, compiled = load(masked_run), load(masked_run)
    compiled.model.compile(backend="aot_eager", dynamic=True)
    asked: dict[str, Any] = {"prompt": ["a", "abcdefgh", "abc"], "length": 9, "temperature": 0.0, "sampler": "LLaDA"}
    found = remask.sample(compiled, **asked)
    assert [one.tokens for one in found] == [one.tokens for one in remask.sample(plain, **asked)]


def test_int8_is_not_compiled(masked_run: Path) -> None:
    with pytest.raises(RemaskError, match="8-bit weights are not compiled; leave compile out"):
        load(masked_run, precision="int8", compile=True)


def test_without_a_compiler(masked_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compiler() is None
    with pytest.raises(RemaskError, match="needs a C\\+\\+ compiler"):
        load(masked_run, compile=True)
