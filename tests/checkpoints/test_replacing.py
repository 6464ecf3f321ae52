"""Folders are written whole or not at all, whoever is killed and whoever else writes them.

The processes import nothing heavy: what is tested is the exchange of folders, which `convert` and training share.
"""

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import os, resource, signal, sys, time
from pathlib import Path
from remask.checkpoints.replacing import replacing
from remask.errors import RemaskError
folder, text, how, force = Path(sys.argv[1]), *sys.argv[2:]
def guard():
    if force == "keep" and folder.exists():
        raise RemaskError(f"{folder} exists and is kept")
if how == "limited":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with replacing(folder, guard) as fresh:
        (fresh / "a").write_text(text)
        print("filled", flush=True)
        if how == "limited":
            (fresh / "b").write_text("x" * 30000)
        if how == "killed":
            os.kill(os.getpid(), 9)
        time.sleep(0.3)
        (fresh / "b").write_text(text)
    print("written")
except RemaskError as error:
    print(error)
"""


def child(folder: Path, text: str, how: str = "slow", force: str = "force") -> subprocess.Popen:
    """A process that writes a folder of two files."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), text, how, force], stdout=subprocess.PIPE, text=True
    )


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_killed_before_the_last_moment_nothing_has_changed(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    assert child(out, "one").wait() == 0
    assert child(out, "two", "killed").wait() == -9
    assert content(out) == {"a": "one", "b": "one"}
    assert any(p.name.startswith(".out-") for p in out.parent.iterdir())
    assert child(out, "three").wait() == 0
    assert content(out) == {"a": "three", "b": "three"}
    assert [p.name for p in out.parent.iterdir()] == ["out"], "what the killed one left is gone"


@pytest.mark.parametrize("force", ["force", "keep"])
def test_two_at_once_leave_one_whole(tmp_path: Path, force: str) -> None:
    """Where an existing folder is kept, the first of the two wins and the other is refused."""
    running = [child(tmp_path / "out", text, force=force) for text in ("one", "two")]
    printed = [process.communicate()[0] for process in running]
    assert sum("written" in text for text in printed) == (2 if force == "force" else 1), printed
    assert set(content(tmp_path / "out").values()) in ({"one"}, {"two"})
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_files_that_cannot_grow_leave_nothing(tmp_path: Path) -> None:
    """A real failure in the middle of writing: the system refuses files beyond 20 kB."""
    printed, _ = child(tmp_path / "out", "one", "limited").communicate()
    assert "cannot write" in printed and "out" in printed and "written" not in printed
    assert not list(tmp_path.iterdir())
