"""The file of revised drafts: it is written as drafts come, and a run that was stopped goes on to the same file."""

import json
import os
import signal
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any

import killing
import pytest
from runs import wait_for

import remask
from remask.errors import RemaskError
from remask.evaluation.judging import judge_texts
from remask.robustness import revising
from remask.robustness.drafts import Draft
from remask.robustness.judging import TOGETHER, Judging
from remask.robustness.revising import Revised


@pytest.fixture
def drafts(tmp_path: Path) -> Path:
    """So many that they are several batches."""
    file = tmp_path / "drafts.jsonl"
    rows = [{"prompt": "ab", "text": ("abcdefgh" * 7)[i % 8 :], "ended": i % 2 == 0, "id": f"d{i}"} for i in range(200)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    call: Any, masked_run: Path, drafts: Path, tmp_path: Path
) -> None:
    """A real signal in the middle; the whole file is then bit for bit that of a run without one."""
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    arguments = ["revise", str(masked_run), "--file", str(drafts), "--choose", "random", "--precision", "fp32"]
    assert call(*arguments, "--out", whole)[0] == 0
    log = tmp_path / "log"
    process = killing.start([*arguments, "--out", str(out)], log)
    wait_for(lambda: out.exists() and b"\n" in out.read_bytes(), process)
    os.kill(process.pid, signal.SIGINT)
    status, err, kept = killing.finish(process), log.read_text(), out.read_bytes()
    count = len(kept.splitlines())
    assert status != 0 and f"stopped; {count} of 200 drafts are in" in err, err
    assert 0 < len(kept) < whole.stat().st_size and whole.read_bytes().startswith(kept)
    assert call(*arguments, "--out", out)[0] == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_line_that_was_cut_off_is_made_anew(call: Any, masked_run: Path, drafts: Path, tmp_path: Path) -> None:
    """Wherever: in a batch, between two, or in the first line; and a whole file is left as it is, and judged."""
    out = tmp_path / "out.jsonl"
    arguments = ["revise", masked_run, "--file", drafts, "--choose", "random", "--precision", "fp32", "--out", out]
    assert call(*arguments)[0] == 0
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert len(lines) == 200 and len(whole) > revising.TOKENS
    for keep, cut in ((0, 3), (0, 20), (5, 9), (120, 0), (199, 30), (200, 0)):
        out.write_bytes(b"".join(lines[:keep]) + (lines[keep][:cut] if cut else b""))
        status, _, err = call(*arguments)
        assert status == 0 and out.read_bytes() == whole and "200 drafts: " in err


def test_a_judge_reads_drafts_as_they_come_and_keeps_none(
    call: Any, masked_run: Path, autoregressive_run: Path, drafts: Path, tmp_path: Path
) -> None:
    """The same numbers as of all at once, also of a file that is gone on with."""
    critic, made = remask.load(autoregressive_run, device="cpu"), weakref.WeakSet[Revised]()
    texts = [("ab", "abcdefgh"[i % 5 :] * 2, "hgf" * (1 + i % 3)) for i in range(3 * TOGETHER + 5)]
    judging = Judging(critic, [Draft(prompt, draft) for prompt, draft, _ in texts])
    for number, (prompt, draft, text) in enumerate(texts):
        made.add(one := Revised(prompt, text, draft, number, 99))
        judging.add(one)
        del one
        assert len(made) < TOGETHER
    encode = critic.tokenizer.encode
    for name, place in (("drafts", 1), ("revised", 2)):
        whole = judge_texts(critic, [encode(one[place]) for one in texts], [encode(one[0]) for one in texts])
        assert asdict(judging.found()[name]) == pytest.approx(asdict(whole), rel=1e-4)
    out = tmp_path / "out.jsonl"
    few = tmp_path / "few.jsonl"
    few.write_text("".join(drafts.read_text().splitlines(keepends=True)[:40]))
    arguments = ["revise", masked_run, "--file", few, "--choose", "random", "--precision", "fp32", "--out", out]
    first = call(*arguments, "--judge", autoregressive_run)[2]
    out.write_bytes(b"".join(out.read_bytes().splitlines(keepends=True)[:25]))
    again = call(*arguments, "--judge", autoregressive_run)[2]
    shown = [[line for line in err.splitlines() if "under the judge" in line] for err in (first, again)]
    assert len(shown[0]) == 2 and shown[0] == shown[1]


def test_what_a_judge_cannot_read_is_said_before_the_work_and_stops_no_revision(
    call: Any, masked_run: Path, autoregressive_run: Path, drafts: Path, tmp_path: Path
) -> None:
    critic = remask.load(autoregressive_run, device="cpu")
    with pytest.raises(RemaskError, match="a text of 70 tokens is beyond the judge's context of 64"):
        Judging(critic, [Draft("", "a"), Draft("", 70 * "a")])
    judging = Judging(critic, [Draft("", "a")] * 2)
    for text in (70 * "a", "a"):
        judging.add(Revised("", text, "a", 1, 1))
    with pytest.raises(RemaskError, match="a text of 70 tokens"):
        judging.found()
    out = tmp_path / "out.jsonl"
    one = tmp_path / "one.jsonl"
    one.write_text(drafts.read_text().splitlines()[0] + "\n")
    for file, judge, says in (
        (one, autoregressive_run, "two drafts or more"),
        (drafts, masked_run, "an autoregressive"),
    ):
        status, _, err = call("revise", masked_run, "--file", file, "--judge", judge, "--out", out)
        assert status == 1 and says in err and not out.exists()


def test_what_is_something_else_is_left_alone(
    call: Any, masked_run: Path, plain_runs: dict[str, Path], drafts: Path, tmp_path: Path
) -> None:
    out, few = tmp_path / "out.jsonl", tmp_path / "few.jsonl"
    few.write_text("".join(drafts.read_text().splitlines(keepends=True)[:3]))
    arguments = ["revise", masked_run, "--file", few, "--out", out]
    assert call(*arguments)[0] == 0
    whole = out.read_bytes()

    def refused(says: str, *command: object) -> None:
        before = out.read_bytes()
        status, _, err = call(*command)
        assert status == 1 and says in err and "hoose another --out" in err and out.read_bytes() == before, err

    refused("was written otherwise: --share 0.3 there, 0.5 now", *arguments, "--share", 0.5)
    refused("hash of the drafts", *arguments[:3], drafts, *arguments[4:])
    refused("weights of the model", "revise", plain_runs["masked"], *arguments[2:])
    out.write_bytes(whole.splitlines(keepends=True)[1])
    refused("line 1, is not the revision of draft 1", *arguments)
    out.write_bytes(whole + whole)
    refused("line 4, is not the revision of draft 4", *arguments)
    out.write_bytes(b"notes without an end of line")
    refused("line 1, is not", *arguments)
    (tmp_path / "out.jsonl.settings.json").unlink()
    refused("without a readable out.jsonl.settings.json", *arguments)
