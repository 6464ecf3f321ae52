"""Programs in a sandbox: which pass, and what they cannot reach."""

from pathlib import Path

import pytest

import remask
from remask.errors import RemaskError
from remask.evaluation.execution import check_sandbox, pass_all, passes
from remask.evaluation.infilling import infill
from remask.evaluation.stories import Item


def works() -> bool:
    """Whether this machine has a sandbox."""
    try:
        check_sandbox()
    except RemaskError:
        return False
    return True


needs_sandbox = pytest.mark.skipif(not works(), reason="bubblewrap is not installed, or cannot make a sandbox here")

REFUSED = """
import socket
try:
    socket.create_connection(("127.0.0.1", {port}), 1)
except OSError:
    pass
else:
    raise AssertionError("a connection to the host")
"""


@needs_sandbox
@pytest.mark.parametrize(
    ("program", "right"),
    [
        ("assert sum([1, 2]) == 3", True),
        ("assert sum([1, 2]) == 4", False),
        ("import sys\nsys.exit(0)", False),
        ("import os\nos._exit(0)", False),
        ("def f(:", False),
        ("while True: pass", False),
        ("x = bytearray(2**31)", False),
        ("open('/tmp/x', 'w').write('a' * 2**21)", False),
        ("open('/tmp/x', 'w').write('a')\nimport os\nassert os.listdir('.') == ['x']", True),
        ("print('a' * 2**22)\nraise SystemExit", False),
        ("import math, re, typing, hashlib, json", True),
    ],
)
def test_what_passes(program: str, right: bool) -> None:
    assert passes(program, seconds=1.0 if "while" in program else 20.0) is right


@needs_sandbox
def test_no_file_of_anybody_is_there_and_no_network(tmp_path: Path) -> None:
    import socket

    (tmp_path / "secret").write_text("x")
    assert passes(f"import os\nassert not os.path.exists({str(tmp_path)!r})", 20.0)
    assert not passes("open('/usr/remask', 'w')", 20.0)
    assert passes("import os\nassert not set(os.environ) - {'PWD', 'LC_CTYPE'}, dict(os.environ)", 20.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert passes(REFUSED.format(port=server.getsockname()[1]), 20.0)
        socket.create_connection(server.getsockname(), 1).close()  # which the host reaches


@needs_sandbox
def test_the_order_is_that_of_the_programs() -> None:
    counted: list[int] = []
    assert pass_all(["assert True", "assert False", "pass"], counted.append, 20.0) == [True, False, True]
    assert sum(counted) == 3


@needs_sandbox
def test_programs_that_a_model_completed(masked_run: Path) -> None:
    """Whatever the model writes into a comment passes, and what stands behind the text decides."""
    m = remask.load(masked_run)
    text = remask.sample(m, infill="#[MASK:4]\na = 1\n", temperature=0.0, sampler="Confidence").text
    assert "\n" not in text[1:-7], "the test needs a model that writes no line break here"
    right, wrong = (Item(f"{n}", "#", "....", "\na = 1\n", tests=f"assert a == {n}\n") for n in (1, 2))
    found = infill(m, [right, wrong], execute=True)
    assert found.passed == 1 and found.pass_rate == 0.5 and "pass@1 0.5000" in str(found)
    assert infill(m, [right]).passed is None
    with pytest.raises(RemaskError, match="b has no program of tests"):
        infill(m, [Item("b", "a", "b", "c")], execute=True)


def test_nothing_is_run_without_a_sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RemaskError, match=r"bubblewrap \(bwrap\) is not installed"):
        check_sandbox()
    (tmp_path / "bwrap").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    with pytest.raises(RemaskError, match="cannot make a sandbox"):
        check_sandbox()
