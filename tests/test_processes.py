"""Work divided among processes: all results, errors by their text, and processes that end with their work."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import killing
import pytest
from runs import wait_for

from remask.errors import RemaskError
from remask.processes import in_processes

pytestmark = pytest.mark.usefixtures("fork_server")


def squares(place: int, number: int, most: int) -> Iterator[tuple[int, int]]:
    for i in range(place, most, number):
        yield place, i * i


def wrong(place: int, number: int, folder: Path) -> Iterator[int]:
    """One process fails while the others wait."""
    if place == 0:
        while len(list(folder.iterdir())) < number - 1:
            time.sleep(0.05)
        raise RemaskError("line 3: no answer")
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.05)
    yield 0


def killed(place: int, number: int) -> Iterator[int]:
    yield os.getpid()
    os.kill(os.getpid(), signal.SIGKILL)


def endless(place: int, number: int, folder: Path) -> Iterator[int]:
    (folder / str(os.getpid())).touch()
    while True:
        time.sleep(0.05)
    yield 0


def test_every_result_comes_once() -> None:
    found = list(in_processes(squares, 2, 7))
    assert sorted(value for _, value in found) == [0, 1, 4, 9, 16, 25, 36]
    assert {place for place, _ in found} == {0, 1}
    assert [value for place, value in found if place == 1] == [1, 9, 25], "of one process in its order"


def test_an_error_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"^line 3: no answer$"):
        list(in_processes(wrong, 2, tmp_path))
    (other,) = tmp_path.iterdir()
    with pytest.raises(ProcessLookupError):
        os.kill(int(other.name), 0)


def test_a_process_that_is_killed_is_named() -> None:
    with pytest.raises(RemaskError, match=r"a worker process was ended by SIGKILL, as the system does where memory is"):
        list(in_processes(killed, 1))


def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    """Killed without warning, it can end none of them itself."""
    code = f"""
import sys
from pathlib import Path
from remask.processes import in_processes
from {endless.__module__} import endless
list(in_processes(endless, 2, Path(sys.argv[1])))
"""
    folder = tmp_path / "running"
    folder.mkdir()
    process = killing.begin(code, tmp_path / "log", folder)
    wait_for(lambda: len(list(folder.iterdir())) == 2, process)
    os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while any(alive(int(path.name)) for path in folder.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
