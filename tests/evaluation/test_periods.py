"""Perplexity by date: values from the documents' own perplexities, the bootstrap, and what is wrong in a file."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import tiny
from zero_shot_rows import publish, write_rows

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.evaluation.dated import dated_texts
from remask.evaluation.periods import changes, reference_of
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked

TEXTS = ["It was the best of times,", "it was the worst", "of times", "A later text, longer", "and", "than it was"]
DATES = ["2008-01-03", "2008-12-30", "2009", "2010-05-01", "2010-06-07T12:00", "2010-06"]


def model(family: Any, seed: int = 0) -> Checkpoint:
    """A network with random weights over bytes."""
    tokenizer = Tokenizer.bytes()
    family = family.over(tokenizer.vocabulary)
    rows = tiny(family.vocabulary.size, family.vocabulary.predicted, context=16, sharpness=2.0, seed=seed)
    return Checkpoint(rows, family, tokenizer, {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = [{"text": text, "date": date, "id": i} for i, (text, date) in enumerate(zip(TEXTS, DATES, strict=True))]
    return write_rows(tmp_path / "dated.jsonl", rows)


def test_values_are_those_of_the_documents(file: Path, tmp_path: Path) -> None:
    """Of long documents, which several windows read, too."""
    left, masked = model(Autoregressive()), model(Masked())
    found = remask.perplexity_by({"a": left, "b": masked}, file, "date", reference="2008:2009", draws=8)
    for name, one, kind in (("a", left, "exact"), ("b", masked, "bound")):
        rows = {row.period: row for row in found.rows if row.run == name}
        assert list(rows) == ["reference", "2008", "2009", "2010"] and {row.kind for row in rows.values()} == {kind}
        assert [row.documents for row in rows.values()] == [3, 2, 1, 3]
        if kind == "exact":
            for period, texts in {
                "reference": TEXTS[:3],
                "2008": TEXTS[:2],
                "2009": TEXTS[2:3],
                "2010": TEXTS[3:],
            }.items():
                alone = write_rows(tmp_path / "one.jsonl", [{"text": text} for text in texts])
                value = remask.perplexity(one, str(alone))
                assert rows[period].perplexity == pytest.approx(value.token_perplexity, rel=1e-5)
                assert rows[period].tokens == value.estimate.tokens and rows[period].bytes == value.bytes
        for row in rows.values():
            assert row.change == pytest.approx(row.nats - rows["reference"].nats)
        first = {row.period: row for row in found.rows if row.run == "a"}
        assert all(rows[p].beside_first == pytest.approx(rows[p].change - first[p].change) for p in rows)
    assert found.unit == "token" and found.reference == ("2008", "2009")
    assert "2010" in str(found) and "more than a" in str(found) and "<=" in str(found)


def test_the_error_of_a_change_is_that_of_two_means() -> None:
    """Documents of one token: a period is a mean, whose error is known, and that of a difference too."""
    rng = np.random.default_rng(0)
    n, m = 400, 100
    nats = np.concatenate([rng.normal(3.0, 1.0, n), rng.normal(5.0, 2.0, m)])[None]
    dates = np.array(["2008"] * n + ["2009"] * m)
    found = changes(nats, np.ones_like(nats), dates, ["2008", "2009"], ["2008"], seed=0)[0]
    value, error, change, change_error, *_ = found[2]
    assert value == pytest.approx(nats[0, n:].mean()) and error == pytest.approx(2 / math.sqrt(m), rel=0.15)
    assert change == pytest.approx(nats[0, n:].mean() - nats[0, :n].mean())
    assert change_error == pytest.approx(math.sqrt(1 / n + 4 / m), rel=0.15)
    assert found[0][:2] == found[1][:2] and found[1][2:4] == (0, 0), "the reference is its only period"


def test_two_models_are_paired() -> None:
    """A model that is worse by the same on every document: the changes are equal, without error."""
    rng = np.random.default_rng(1)
    nats = rng.normal(4.0, 1.0, 60)
    dates = np.array(["2008", "2009"] * 30)
    sizes = np.ones((2, 60))
    found = changes(np.stack([nats, nats + 0.7]), sizes, dates, ["2008", "2009"], ["2008"], seed=0)
    assert found[0][2][3] > 0.1
    assert found[1][2][4] == pytest.approx(0, abs=1e-12) and found[1][2][5] == pytest.approx(0, abs=1e-12)


def test_longer_documents_count_more() -> None:
    found = changes(np.array([[2.0, 40.0]]), np.array([[1.0, 10.0]]), np.array(["1", "1"]), ["1"], ["1"], 0)
    assert found[0][1][0] == pytest.approx(42 / 11)


def test_one_document_shows_no_error() -> None:
    found = changes(np.array([[2.0, 3.0, 4.0, 5.0]]), np.ones((1, 4)), np.array(list("1223")), list("123"), ["2"], 0)[0]
    reference, one, two, three = found
    assert math.isnan(one[1]) and math.isnan(one[3]) and math.isnan(three[1]) and (one[0], one[2]) == (2.0, -1.5)
    assert reference[1] == two[1] > 0 and two[3] == 0
    both = changes(np.array([[2.0, 3.0, 4.0]]), np.ones((1, 3)), np.array(list("122")), list("12"), ["1", "2"], 0)[0]
    assert both[0][1] > 0, "where a period of several has an error"


def test_models_with_different_tokenizers_are_compared_by_bytes(file: Path) -> None:
    other = Tokenizer.train(iter(TEXTS * 20), 300)
    family = Autoregressive().over(other.vocabulary)
    rows = tiny(family.vocabulary.size, family.vocabulary.predicted, context=16, seed=3)
    with pytest.raises(
        RemaskError, match=r"line 3: field 'date' is '2009'; it must be a date that begins with YYYY-MM"
    ):
        remask.perplexity_by({"a": model(Autoregressive())}, file, "date", period="month")
    found = remask.perplexity_by({"a": model(Autoregressive()), "b": Checkpoint(rows, family, other, {})}, file, "date")
    assert found.unit == "byte"
    own = [row for row in found.rows if row.period == "2008"]
    assert own[0].bytes == own[1].bytes == own[0].tokens and own[1].tokens < own[1].bytes


def test_reference() -> None:
    periods = ["2008", "2009", "2010"]
    assert reference_of(periods, None) == ["2008"] and reference_of(periods, "2009") == ["2009"]
    assert reference_of(periods, "2000:2009") == ["2008", "2009"]
    with pytest.raises(RemaskError, match=r"reference is '2011:2012'.*2008 to 2010"):
        reference_of(periods, "2011:2012")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": "a"}', "line 2: field 'date' is None; it must be a date that begins with YYYY"),
        ('{"text": "a", "date": "May 2008"}', "field 'date' is 'May 2008'"),
        ('{"text": "a", "date": true}', "field 'date' is True"),
        ('{"date": "2008"}', "field 'text' is null; it must be a text"),
        ('{"text": "", "date": "2008"}', "field 'text'"),
        ("[1]", "it is not a JSON object but a list"),
        ("{", "it is not JSON"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "date": 1999}\n' + line + "\n")
    with pytest.raises(RemaskError, match="line 2") as error:
        dated_texts(path, "date", "text", 4)
    assert says in str(error.value)


def test_command(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        str(publish(tmp_path / "left", Autoregressive())),
        str(publish(tmp_path / "masked", Masked(), seed=1)),
    ]
    cli.main(["perplexity", *runs, str(file), "--by", "date", "--draws", "4", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert len(found["rows"]) == 8 and found["reference"] == ["2008"] and found["rows"][0]["perplexity"] > 1
    cli.main(["perplexity", *runs, str(file), "--draws", "4", "--json"])
    both = json.loads(capsys.readouterr().out)
    cli.main(["perplexity", runs[0], str(file), "--draws", "4", "--json"])
    assert next(iter(both.values())) == json.loads(capsys.readouterr().out)
    for wrong in (["--reference", "2008"], ["--by", "date", "--max-bytes", "3"], ["--by", "when"]):
        with pytest.raises(SystemExit):
            cli.main(["perplexity", runs[0], str(file), *wrong])
        assert capsys.readouterr().err.startswith("remask: ")
