"""What the machine is asked for."""

import math
import os
from pathlib import Path

import pytest

from remask import machine


@pytest.mark.skipif(machine.compiler() is None, reason="no C++ compiler")
def test_the_compiler_is_timed() -> None:
    """Between a second and a quarter of an hour, which the most different machines lie within; asked twice, timed
    once."""
    first = machine.seconds_to_compile()
    assert 1 < first < 900
    assert machine.seconds_to_compile() == first


@pytest.mark.parametrize("program", ["#!/bin/sh\nexit 1\n", None], ids=["fails", "absent"])
def test_a_compiler_that_fails_takes_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    path = tmp_path / "compiler"
    if program is not None:
        path.write_text(program)
        path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    monkeypatch.setenv("PATH", os.fspath(tmp_path))  # no clang++ either
    machine.seconds_to_compile.cache_clear()
    try:
        assert machine.seconds_to_compile() == math.inf
    finally:
        machine.seconds_to_compile.cache_clear()
