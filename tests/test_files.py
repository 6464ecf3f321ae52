"""Files written whole or not at all, and what differs between two sets of options."""

import multiprocessing
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from remask.errors import RemaskError
from remask.files import check_writable, differences, write_atomically


def test_text_bytes_and_what_a_function_writes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_atomically(path, "naïve\n")
    assert path.read_bytes() == "naïve\n".encode()
    write_atomically(str(path), b"\xff")
    assert path.read_bytes() == b"\xff"
    write_atomically(path, lambda file: np.savez(file, a=np.arange(3)))  # goes back in the file to write its header
    assert np.load(path)["a"].tolist() == [0, 1, 2]
    assert os.listdir(path.parent) == ["file"]
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), KeyboardInterrupt("Ctrl-C"), OSError(28, "No space left on device")]
)
def test_an_error_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    shown = RemaskError if isinstance(error, OSError) else type(error)
    with pytest.raises(shown, match=r"cannot write .*file: No space left" if shown is RemaskError else str(error)):
        write_atomically(path, fail)
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["file"]


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RemaskError, match=r"cannot write .*file/inner: "):
        write_atomically(tmp_path / "file" / "inner", "x")


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").write_text("a longer text than the new one")
    write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new" and os.listdir(tmp_path) == ["file"]


def _write_often(path: Path, letter: str) -> None:
    for _ in range(50):
        write_atomically(path, letter * 100_000)


def test_processes_that_write_one_file_wait_for_each_other(tmp_path: Path) -> None:
    path, context = tmp_path / "file", multiprocessing.get_context("spawn")
    writers = [context.Process(target=_write_often, args=(path, letter)) for letter in "ab"]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        if path.exists():
            text = path.read_text()
            assert len(text) == 100_000 and len(set(text)) == 1
    assert [writer.exitcode for writer in writers] == [0, 0] and os.listdir(tmp_path) == ["file"]


def test_only_what_differs_is_named() -> None:
    before = {
        "length": 64,
        "family": {"class_path": "Masked", "init_args": {"objective": "elbo", "schedule": "linear"}},
        "optimizer": {"lr": 0.003, "betas": [0.9, 0.95], "schedule": "wsd"},
        "tokenizer": "bytes",
        "separator": None,
    }
    assert differences(before, before) == []
    now = {
        **before,
        "family": {"class_path": "Masked", "init_args": {"objective": "low_variance", "schedule": "linear"}},
        "optimizer": {"lr": 0.001, "betas": [0.9, 0.95], "schedule": "wsd"},
        "separator": "",
        "ema": True,
    }
    assert differences(before, now) == [
        "--family.objective elbo there, low_variance now",
        "--optimizer.lr 0.003 there, 0.001 now",
        "--separator unset there, '' now",
        "--ema unset there, true now",
    ]
    assert differences({"weights of a": 1}, {"weights of a": 2}) == ["weights of a 1 there, 2 now"]
    assert differences(now, before)[-1] == "--ema true there, unset now"


def test_options_of_different_classes_are_not_compared() -> None:
    masked = {"family": {"class_path": "Masked", "init_args": {"objective": "elbo"}}}
    uniform = {"family": {"class_path": "Uniform", "init_args": {"soft": True}}}
    assert differences(masked, uniform) == ["--family Masked there, Uniform now"]
    assert differences({"model": None}, {"model": {"a": 1}}) == ["--model unset there, {'a': 1} now"]


def test_what_cannot_be_written_is_known_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    check_writable(path)
    assert not os.listdir(path.parent)
    path.write_text("before")
    check_writable(path)
    assert path.read_text() == "before" and os.listdir(path.parent) == ["file"]
    for wrong in (path.parent, path / "below", Path("/proc/no/file")):
        with pytest.raises(RemaskError, match=f"cannot write {wrong}"):
            check_writable(wrong)
