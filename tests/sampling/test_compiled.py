"""Sampling with a compiled network: the same texts, and a bounded number of compiled graphs."""

import copy
from collections.abc import Iterator
from io import BytesIO
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
    counter = CompileCounterWithBackend("eager")
    compiled.model.compile(backend=counter, dynamic=True)
    for way in ways:
        for rows, length in ((1, 9), (1, 17), (2, 13), (3, 24)):
            asked: dict[str, Any] = {"prompt": ["ab"] * rows, "length": length, "temperature": 0.0, "seed": 1, **way}
            found = remask.sample(compiled, **asked)
            assert [one.tokens for one in found] == [one.tokens for one in remask.sample(plain, **asked)]
    assert 1 <= counter.frame_count <= 4, "graphs for 8 shapes"


def test_rows_of_unlike_lengths(masked_run: Path, forgotten: None) -> None:
    plain, compiled = load(masked_run), load(masked_run)
    compiled.model.compile(backend="eager", dynamic=True)
    asked: dict[str, Any] = {"prompt": ["a", "abcdefgh", "abc"], "length": 9, "temperature": 0.0, "sampler": "LLaDA"}
    found = remask.sample(compiled, **asked)
    assert [one.tokens for one in found] == [one.tokens for one in remask.sample(plain, **asked)]


def test_int8_is_not_compiled(masked_run: Path) -> None:
    with pytest.raises(RemaskError, match="8-bit weights are not compiled; leave compile out"):
        load(masked_run, precision="int8", compile=True)


def test_without_a_compiler(masked_run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.compiler() is None
    with pytest.raises(RemaskError, match=r"needs a C\+\+ compiler, and neither"):
        load(masked_run, compile=True)
    monkeypatch.setenv("CXX", str(failing := tmp_path / "false"))
    failing.write_text("#!/bin/sh\nexit 1\n")
    failing.chmod(0o755)
    machine.seconds_to_compile.cache_clear()
    with pytest.raises(RemaskError, match=r"needs a C\+\+ compiler, and .*/false fails; leave compile out"):
        load(masked_run, compile=True)
    machine.seconds_to_compile.cache_clear()


def test_a_copy_is_not_compiled_until_it_is_asked_to(masked_run: Path, forgotten: None) -> None:
    model = load(masked_run).model
    model.compile(backend="eager", dynamic=True)
    with BytesIO() as file:
        torch.save(model, file)
    twin, counter = copy.deepcopy(model), CompileCounterWithBackend("eager")
    assert model.lm_head.compiled is not None and twin.lm_head.compiled is None
    twin.compile(backend=counter, dynamic=True)
    twin(torch.zeros(2, 5, dtype=torch.long))
    assert counter.frame_count == 1


@pytest.mark.parametrize(("learning", "most"), [(False, 2), (True, 3)], ids=["reading", "with gradients"])
def test_long_rows_take_no_other_graph(learning: bool, most: int, masked_run: Path, forgotten: None) -> None:
    """But for attention with gradients, which is computed otherwise beyond 512 keys. What is done by blocks where
    nothing is compiled does not count; of one length, no graph is known yet to serve others."""
    model, counter = load(masked_run).model.requires_grad_(learning), CompileCounterWithBackend("eager")
    model.compile(backend=counter, dynamic=True)
    for length in (8, 16, 600):
        model(torch.zeros(2, length, dtype=torch.long))
    assert counter.frame_count <= most
