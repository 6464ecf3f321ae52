"""`remask classify` and `remask revise`, and the reviews that the documentation classifies."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from remask.errors import RemaskError
from remask.robustness.reviews import LABELS, WORDS, reviews
from remask.robustness.verdicts import Verdict, summary
from remask.robustness.voting import Vote


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


ROWS = [{"text": text, "label": label} for text, label in zip(("abkm", "hgkm", "akbm", "gkhm") * 2, "xyxy" * 2)]
SMALL = ["--smoothing.votes", 5, "--smoothing.draws", 20, "--smoothing.steps", 1]


def test_the_shares_of_verdicts() -> None:
    """A text is certified where its label is right and proved; all of four right do not look certain."""
    votes = [Vote((3, 1), 0, 4, 1, 0.6, 0), Vote((1, 3), 1, 4, 1, 0.9, 2), Vote((1, 3), 1, 4, 1, 0.9, 2)]
    votes.append(Vote((2, 2), 0, 4, 1, 0.3, None))
    found = summary([Verdict(label, label, True, vote=vote) for label, vote in zip((0, 1, 0, 0), votes, strict=True)])
    assert {name: value for name, (value, _) in found.items()} == {
        "right": 1, "vote is right": 0.75, "certified for 0 replaced": 0.5, "certified for 1 replaced": 0.25,
        "certified for 2 replaced": 0.25, "abstained": 0.25,
    }  # fmt: skip
    assert all(0.1 < error < 0.3 for _, error in found.values())


def test_classify(call: Any, masked_run: Path, autoregressive_run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", ROWS)
    command = ["classify", masked_run, file, "--draws", 8, "--template", "{label}{text}"]
    status, out, err = call(*command)
    assert status == 0, err
    assert out.startswith("8 texts, labels x, y\n") and "right  " in out
    status, out, err = call(*command, "--certify", *SMALL, "--attack", 1, "--tries", 2, "--json")
    assert status == 0, err
    found = json.loads(out)
    assert found["labels"] == ["x", "y"] and len(found["texts"]) == 8
    assert {"right", "right under attack", "vote is right", "abstained", "vote is right under that attack"} <= {
        *found["shares"]
    }
    for one in found["texts"]:
        assert one["replaced"] <= 1 and sum(one["vote"]["counts"]) == 20 and one["vote"]["length"] == 4
    assert found == json.loads(call(*command, "--certify", *SMALL, "--attack", 1, "--tries", 2, "--json")[1])
    twin = ["classify", autoregressive_run, file, "--certify", *SMALL, "--limit", 2]
    status, out, err = call(*twin, "--denoiser", masked_run)
    assert status == 0 and out.startswith("2 texts"), err


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--template", "{text}"], "template is '{text}'; it must hold {text} and {label}"),
        (["--labels", "[x,z]"], "has the label 'y', which is not among --labels x, z"),
        (["--denoiser", "run"], "--denoiser fills in the copies of --certify; give both"),
        (["--limit", "0"], "limit is 0; it must be at least 1"),
        (["--smoothing.rate", "2"], "rate is 2.0; it must be above 0 and at most 1"),
        (["--certify"], "hidden tokens are filled in by a masked model, and this one is Autoregressive"),
        (["--attack", "-1"], "attack is -1"),
    ],
)
def test_options_that_do_not_fit(
    call: Any, autoregressive_run: Path, tmp_path: Path, more: list[str], says: str
) -> None:
    status, _, err = call("classify", autoregressive_run, write(tmp_path / "rows.jsonl", ROWS), *more)
    assert status in (1, 2) and says in err


def test_an_attack_needs_tokens_that_say_little(call: Any, masked_run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", [{"text": "aa", "label": "x"}, {"text": "bb", "label": "y"}])
    status, _, err = call("classify", masked_run, file, "--attack", 1)
    assert status == 1 and "give more texts" in err


def test_revise(call: Any, masked_run: Path, autoregressive_run: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "drafts.jsonl", [{"prompt": "abc", "text": "defgh", "id": i} for i in range(3)])
    out_file = tmp_path / "revised.jsonl"
    status, out, err = call("revise", masked_run, "--file", file, "--share", 0.4, "--judge", autoregressive_run)
    assert status == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["id"] for one in found] == [0, 1, 2]
    assert all(one["prompt"] == "abc" and one["draft"] == "defgh" and one["changed"] <= 2 for one in found)
    assert "drafts: " in err and "revised: " in err and "nats per token under the judge" in err
    assert call("revise", masked_run, "--file", file, "--share", 0.4, "--out", out_file)[1] == ""
    assert out_file.read_text() == out
    for arguments, says in (
        ([autoregressive_run, "--file", file], "and this one is Autoregressive"),
        ([masked_run, "--file", file, "--judge", masked_run], "give an autoregressive one"),
        ([masked_run, "--file", tmp_path / "no"], "cannot read"),
        ([masked_run, "--file", file, "--share", 0], "share is 0.0"),
        ([tmp_path / "no", "--file", file, "--out", tmp_path], "cannot write"),  # before the model is opened
    ):
        status, _, err = call("revise", *arguments)
        assert status == 1 and says in err


def test_what_sample_prints_can_be_revised(
    call: Any, masked_run: Path, autoregressive_run: Path, tmp_path: Path
) -> None:
    file = tmp_path / "drafts.json"
    _, out, _ = call("sample", autoregressive_run, "--prompt", "ab", "--length", 8, "--count", 2, "--json")
    file.write_text(out)
    status, out, err = call("revise", masked_run, "--file", file)
    assert status == 0 and len(out.splitlines()) == 2, err


def test_the_label_of_a_review_is_what_most_clauses_say() -> None:
    rows = list(reviews(300, seed=1))
    assert rows == list(reviews(300, seed=1)) and rows[:10] == list(reviews(10, seed=1)) != list(reviews(10, seed=2))
    for row in rows:
        words = Counter(label for word in row.text.split() for label in LABELS if word in WORDS[label])
        assert sum(words.values()) == 9 and words.most_common(1)[0][0] == row.label
    assert 110 < sum(row.label == "good" for row in rows) < 190
    with pytest.raises(RemaskError, match="clauses is 4; it must be odd"):
        list(reviews(1, clauses=4))
