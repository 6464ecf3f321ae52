"""Files of many texts and questions: one command, a log from which it goes on, and errors that name the line."""

import json
from pathlib import Path
from typing import Any

import pytest
from tables import tiny

import remask
from remask.checkpoints.folder import save
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.scoring import estimator_of, rank_texts
from remask.scoring_files import lines_of, score_lines
from remask.scoring_log import ScoreLog, described

TEXTS = [
    {"prompt": "the cat ", "text": "sat on a mat", "id": "first"},
    {"text": "alone"},
    {"prompt": "a", "text": "bcdefghi"},
    {"text": "alone"},
    {"prompt": "no", "text": "w"},
]
QUESTIONS = [
    {"prompt": "is it?", "answers": [" yes it is", " no"], "id": "q"},
    {"prompt": "2 + 2 =", "answers": [" 4", " 5 or so", " 6"]},
    {"prompt": "a", "answers": ["b", "c"]},
]


def folder(path: Path, seed: int = 6) -> Path:
    """A published masked model with random weights, over bytes."""
    tokenizer = Tokenizer.bytes()
    family = Masked().over(tokenizer.vocabulary)
    model = tiny(family.vocabulary.size, family.vocabulary.predicted, seed=seed, sharpness=2.0)
    save(path, model.state_dict(), model.architecture, family, tokenizer, {}, "A model for tests.")
    return path


def lines(path: Path, records: list[dict[str, Any]]) -> Path:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_each_line_has_the_score_of_its_text(call: Any, tmp_path: Path) -> None:
    run, file = folder(tmp_path / "model"), lines(tmp_path / "texts.jsonl", TEXTS)
    status, out, err = call("score", run, "--file", file, "--draws", 8, "--json")
    assert status == 0, err
    found, m = json.loads(out), remask.load(str(run))
    assert [(one["line"], one["id"]) for one in found["texts"]] == [(1, "first"), (2, 2), (3, 3), (4, 4), (5, 5)]
    for one, record in zip(found["texts"], TEXTS, strict=True):
        alone = remask.score(m, text=record["text"], prompt=record.get("prompt", ""), draws=8)
        assert one["nats"] == pytest.approx(alone.nats, rel=1e-5)
        assert (one["kind"], one["tokens"], one["draws"]) == (alone.kind, alone.tokens, alone.draws)
    assert found["total"]["nats"] == pytest.approx(sum(one["nats"] for one in found["texts"]))
    status, out, _ = call("score", run, "--file", file, "--draws", 8, "--error", 1e6)
    assert status == 0 and out.startswith("5 texts: -log p <= ")


def test_a_log_goes_on_where_it_was_cut_off(call: Any, tmp_path: Path) -> None:
    run, file, log = folder(tmp_path / "model"), lines(tmp_path / "texts.jsonl", TEXTS), tmp_path / "logs" / "scores"
    command = ["score", run, "--file", file, "--draws", 8, "--json", "--log", log]
    _, whole, _ = call(*command)
    content = log.read_bytes()
    assert content.count(b"\n") == 1 + 4, "the protocol, and a line for each text that is not there twice"
    assert call(*command)[1] == whole and log.read_bytes() == content
    for cut in (len(content) - 1, len(content) - 40, content.index(b"\n") + 30, 12, 0):
        log.write_bytes(content[:cut])
        assert json.loads(call(*command)[1])["total"]["nats"] == pytest.approx(json.loads(whole)["total"]["nats"])
        again, kept = log.read_bytes(), content[:cut].rpartition(b"\n")[0]
        assert again.count(b"\n") == 5 and again.startswith(kept), "whole lines are kept"


def test_what_was_found_before_an_interruption_is_kept(tmp_path: Path) -> None:
    m, file = remask.load(str(folder(tmp_path / "model"))), lines(tmp_path / "texts.jsonl", TEXTS)
    kind = estimator_of(m.family, draws=8)
    with ScoreLog(tmp_path / "log", described(kind)) as log:
        next(score_lines(m, file, log, estimator=kind))
    with ScoreLog(tmp_path / "log", described(kind)) as log:
        assert len(log.done) == 1
        with pytest.raises(RemaskError, match=r"another process is writing .*log"):
            ScoreLog(tmp_path / "log", described(kind))
        assert len(list(score_lines(m, file, log, estimator=kind))) == 5


def test_a_log_of_other_scores_is_refused_and_kept(call: Any, tmp_path: Path) -> None:
    run, file, log = folder(tmp_path / "model"), lines(tmp_path / "texts.jsonl", TEXTS[:2]), tmp_path / "scores"
    command = ["--file", file, "--log", log]
    assert call("score", run, *command, "--draws", 8)[0] == 0
    content = log.read_bytes()
    other = folder(tmp_path / "other", seed=7)
    for arguments, says in (
        (["score", run, *command, "--draws", 16], "--draws 8 there, 16 now"),
        (["score", run, *command, "--draws", 8, "--guidance", 0.5], "--guidance 0.0 there, 0.5 now"),
        (["score", other, *command, "--draws", 8], "weights of the model "),
        (["rank", run, *command, "--draws", 8], "the log is of scores there, rankings now"),
    ):
        status, _, err = call(*arguments)
        assert status == 1 and f"{log} has other scores" in err and says in err and "Choose another --log" in err
        assert log.read_bytes() == content
    for precious in (b"not a log", b"my notes\n", b'{"text": "a"}\n'):
        log.write_bytes(precious)
        assert f"{log}, line 1: this is no log of scores" in call("score", run, *command, "--draws", 8)[2]
        assert log.read_bytes() == precious
    log.write_bytes(content.replace(b'"key"', b'"kez"', 1))
    assert f"{log}, line 2: this is no log of scores" in call("score", run, *command, "--draws", 8)[2]


def test_questions_are_ranked_by_the_command(call: Any, tmp_path: Path) -> None:
    run, file, log = folder(tmp_path / "model"), lines(tmp_path / "asked.jsonl", QUESTIONS), tmp_path / "log"
    command = ["rank", run, "--file", file, "--draws", 16, "--by", "[sum,characters]", "--log", log]
    status, out, err = call(*command, "--json")
    assert status == 0, err
    found, m = json.loads(out), remask.load(str(run))
    asked = [(record["prompt"], record["answers"]) for record in QUESTIONS]
    kind = estimator_of(m.family, draws=16)
    for one, ranking in zip(
        found["questions"], rank_texts(m, asked, estimator=kind, by=("sum", "characters")), strict=True
    ):
        assert tuple(one["best"].values()) == ranking.best
        assert (one["settled"], one["draws"]) == (ranking.settled, ranking.draws)
        assert [a["nats"] for a in one["answers"]] == pytest.approx([e.nats for e in ranking.estimates], rel=1e-5)
    assert found["questions"][2]["settled"], "one token each, so exact"
    content = log.read_bytes()
    assert call(*command, "--json")[1] == out and log.read_bytes() == content
    assert call(*command)[1].splitlines()[-1].startswith(f"{found['settled']} of 3 questions settled at 0.95")


@pytest.mark.parametrize(
    ("line", "field", "says"),
    [
        ("{", "text", "line 2: it is not JSON"),
        ("[1]", "text", "line 2: it is not a JSON object"),
        ('{"prompt": "a", "txt": "b"}', "text", "line 2: the field 'text' must be text; the line has 'prompt', 'txt'"),
        ('{"text": 3}', "text", "line 2: the field 'text' must be text; the line has something else there"),
        ('{"text": ""}', "text", "line 2: the field 'text' is empty"),
        ('{"text": "a", "prompt": 1}', "text", "line 2: the field 'prompt' is not text"),
        ('{"answers": "yes"}', "answers", "line 2: the field 'answers' must be a list of texts"),
        ('{"answers": ["yes", ""]}', "answers", "line 2: the field 'answers' is empty, or has fewer than two"),
        ('{"answers": ["yes"]}', "answers", "has fewer than two answers"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, field: str, says: str) -> None:
    good = {"text": '{"text": "a"}', "answers": '{"answers": ["a", "b"]}'}[field]
    file = tmp_path / "file.jsonl"
    file.write_text(f"{good}\n{line}\n")
    with pytest.raises(RemaskError, match=r"file\.jsonl, line 2") as error:
        list(lines_of(file, field))
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--file", "texts.jsonl", "--prompt", "a"], "so there is no --prompt"),
        (["--text", "a", "--log", "log"], "--log goes with a --file that is named *.jsonl"),
        (["--file", "nowhere.jsonl"], "cannot read nowhere.jsonl: No such file"),
        (["--text", "ab", "--error", "0"], "error is 0.0; it must be above 0, in nats"),
    ],
)
def test_options_that_do_not_go_together(call: Any, tmp_path: Path, arguments: list[str], says: str) -> None:
    status, _, err = call("score", folder(tmp_path / "model"), *arguments)
    assert status == 1 and says in err


@pytest.mark.usefixtures("fork_server")
def test_several_processes_find_the_same(call: Any, tmp_path: Path) -> None:
    """In the order of the file; the log of one goes on with the other."""
    run, file, asked = folder(tmp_path / "model"), lines(tmp_path / "texts.jsonl", TEXTS), tmp_path / "asked.jsonl"
    lines(asked, QUESTIONS)
    for verb, source, key in (("score", file, "texts"), ("rank", asked, "questions")):
        command = [verb, run, "--file", source, "--draws", 8, "--json", "--log", tmp_path / f"{verb}.jsonl"]
        status, out, err = call(*command, "--workers", 2)
        assert status == 0, err
        (tmp_path / f"{verb}.jsonl").rename(tmp_path / f"of two, {verb}.jsonl")
        alone = json.loads(call(*command)[1])[key]
        for one, other in zip(json.loads(out)[key], alone, strict=True):
            nats = [[answer["nats"] for answer in record.get("answers", [record])] for record in (one, other)]
            assert nats[0] == pytest.approx(nats[1], rel=1e-5)
            assert (one["line"], one["id"], one["draws"]) == (other["line"], other["id"], other["draws"])
    assert call("score", run, "--file", file, "--workers", 0)[::2] == (
        1,
        "remask: workers is 0; it must be at least 1\n",
    )
    assert "--workers goes with a --file that is named *.jsonl" in call("score", run, "--text", "a", "--workers", 2)[2]
