"""`remask eval` in several processes: the numbers of one, and a Ctrl-C that loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from zero_shot_rows import publish, write_rows

from remask.evaluation.zeroshot.asking import Settings
from remask.evaluation.zeroshot.command import evaluate
from remask.families.masked import Masked


@pytest.mark.slow
@pytest.mark.timeout(900)  # three processes begin
def test_a_stopped_command_goes_on_with_the_numbers_of_one_process(tmp_path: Path) -> None:
    """A Ctrl-C ends all processes, its log holds whole lines, and others go on from it."""
    run = [str(publish(tmp_path / "masked", Masked()))]
    rows = [{"query": f"{i}", "choices": ["abcdef", f"{i}bcdefghijk"], "gold": i % 2} for i in range(96)]
    write_rows(tmp_path / "files" / "arc_easy.jsonl", rows)
    out, files = tmp_path / "out", tmp_path / "files"
    command = [sys.executable, "-m", "remask", "eval", *run, "--tasks", "arc_easy", "--files", str(files)]
    command += ["--out", str(out), "--draws", "128", "--workers", "2"]
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        log = out / "answers.jsonl"
        while process.poll() is None and not (log.exists() and len(log.read_text().splitlines()) > 8):
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does, to all of them
        said = process.communicate()[1]
    assert process.returncode == 130 and "the same command goes on" in said and "Traceback" not in said
    kept = [json.loads(line)["line"] for line in (out / "answers.jsonl").read_text().splitlines()]
    assert 0 < len(kept) == len(set(kept)) < 96
    how = Settings(draws=128)
    evaluate(run, "arc_easy", files, out=out, settings=how)  # in this process
    evaluate(run, "arc_easy", files, limit=48, out=tmp_path / "alone", settings=how)
    both = [
        {line["line"]: line["nats"] for line in map(json.loads, (folder / "answers.jsonl").read_text().splitlines())}
        for folder in (out, tmp_path / "alone")
    ]
    assert [len(one) for one in both] == [96, 48] and len(set(kept) & set(both[1])) > 8
    for line, nats in both[1].items():
        assert both[0][line] == pytest.approx(nats, rel=1e-5)
