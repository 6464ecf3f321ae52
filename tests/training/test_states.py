"""Training states that are damaged, and disks that are full."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import pytest
import torch
from runs import Stopping, assert_same_run, stopped_at, wait_for

import remask
from remask.training.states import list_states

Fit = Callable[..., Path]


def test_a_damaged_checkpoint_is_named_and_passed_over(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"steps": 40, "save_every": 10, "family": Stopping()}
    fit(tmp_path / "whole", **options)
    out = tmp_path / "parts"
    with stopped_at(36):
        fit(out, **options)
    newest, before = list_states(out)
    assert (newest.name, before.name) == ("step-00000036.ckpt", "step-00000030.ckpt")
    os.truncate(newest, newest.stat().st_size // 2)
    damaged = newest.read_bytes()
    capsys.readouterr()
    with stopped_at(38, start=30):  # nothing is due to be saved before
        fit(out, **options)
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said and "resumed at step 30" in said
    assert newest.read_bytes() == damaged
    fit(out, **options)
    assert_same_run(tmp_path / "whole", out)


def test_only_damaged_checkpoints_start_anew(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"steps": 12, "save_every": 4, "family": Stopping()}
    fit(tmp_path / "whole", **options)
    out = tmp_path / "parts"
    with stopped_at(8):
        fit(out, **options)
    for path in list_states(out):
        path.write_bytes(b"")
    fit(out, **options)
    assert capsys.readouterr().err.count("is damaged") == 2
    assert_same_run(tmp_path / "whole", out)


def stop_half_way(arguments: list[str], out: Path, log: Path) -> None:
    """Trains until two training states are there, then Ctrl-C."""
    process = killing.start([*arguments, "--out", str(out)], log)
    wait_for(lambda: len(list_states(out)) > 1, process)
    os.kill(process.pid, signal.SIGINT)
    assert killing.finish(process) == 130


def test_files_that_cannot_grow(corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(corpus), *killing.OPTIONS, "--budget.steps", "2000", "--ema", "0"]
    out, log = tmp_path / "run", tmp_path / "log"
    stop_half_way(arguments, out, log)
    before, log = [p.name for p in list_states(out)], tmp_path / "log2"
    limit = list_states(out)[0].stat().st_size // 2
    assert killing.finish(killing.start([*arguments, "--out", str(out)], log, file_size=limit)) == 1
    assert_whole_after_a_failed_write(out, before, log.read_text())


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_full_disk(corpus: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        arguments = ["train", "--data", str(corpus), *killing.OPTIONS, "--budget.steps", "2000", "--ema", "0"]
        out, log = disk / "run", tmp_path / "log"
        stop_half_way(arguments, out, log)
        before, log = [p.name for p in list_states(out)], tmp_path / "log2"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "ballast").write_bytes(bytes(free - list_states(out)[0].stat().st_size // 2))
        assert killing.finish(killing.start([*arguments, "--out", str(out)], log)) == 1
        assert_whole_after_a_failed_write(out, before, log.read_text())
    finally:
        subprocess.run(["umount", disk], check=True)


def assert_whole_after_a_failed_write(out: Path, before: list[str], said: str) -> None:
    assert "cannot write" in said and ".ckpt" in said and "The checkpoints before it are whole" in said
    assert "Traceback" not in said
    assert [p.name for p in list_states(out)] == before
    for path in list_states(out):
        torch.load(path, weights_only=True)
    remask.load(out)
    assert not [p for p in out.rglob("*") if p.name.endswith((".tmp", ".old"))]
