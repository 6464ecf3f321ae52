"""The reversal test: sources of questions, marks with their errors, and the command with its log."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zero_shot_rows import publish, write_rows

import remask
from remask import cli
from remask.errors import RemaskError
from remask.evaluation.ngrams import bleu
from remask.evaluation.proportions import wilson
from remask.evaluation.reversal.command import reversal
from remask.evaluation.reversal.marks import marks_of, mean_of
from remask.evaluation.reversal.sources import FILES, cells_of
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked

SHARED = Path(__file__).parents[3] / "shared" / "data"
PUBLISHED = SHARED / "reversal_curse" / "june_version_7921032488"
COUPLETS = [{"first": "窈窕淑女", "second": "君子好逑", "source": "诗经"}, {"first": "如切如磋", "second": "如琢如磨"}]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Published folders of a masked and an autoregressive model, of random weights."""
    folder = tmp_path_factory.mktemp("models")
    masked = publish(folder / "masked", Masked(), context=128)
    return [str(masked), str(publish(folder / "left", Autoregressive(), context=128, seed=1))]


def rows(*completions: str) -> list[dict[str, Any]]:
    return [{"prompt": f"Ask {number} of", "completion": text} for number, text in enumerate(completions)]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder in the form of the published files, two of them with a control and one missing."""
    folder = tmp_path / "files"
    for name, (file, control) in FILES.items():
        if name != "both, told both ways":
            write_rows(folder / file, rows(" Ada", " Ada", " Bo"))
        if control:
            write_rows(folder / control, rows(" Bo", " Cy", " Ada"))
    return folder


# BLEU and the other marks


def test_bleu_by_hand() -> None:
    """Precisions of 1 to 4 units, their geometric mean, and the penalty of a short text."""
    # a b c d e x: 5/6, 4/5, 3/4 and 2/3 of its runs are in the reference
    assert bleu(list("abcdex"), list("abcdef")) == pytest.approx((1 / 3) ** (1 / 4))
    # the same reference, and a text of five units that are all in it: exp(1 - 6/5)
    assert bleu("abcde", "abcdef") == pytest.approx(math.exp(-1 / 5))
    # aaaa has at most the two a of the reference, and at most its one aa: 2/4, 1/3
    assert bleu("aaaa", "aab", 2) == pytest.approx((2 / 4 * 1 / 3) ** (1 / 2))
    assert bleu("abcd", "abce") == 0, "no run of four"
    assert bleu("abcdefg", "abcdefg") == 1 and bleu("", "a") == 0 and bleu("a", "") == 0
    marks = marks_of("He is Al of the red barn", "Al of the red barn")
    assert marks["word_bleu"] == pytest.approx((5 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** (1 / 4))
    assert marks["bleu"] > marks["word_bleu"], "characters, the spaces among them"


def test_bleu_is_that_of_nltk() -> None:
    nltk = pytest.importorskip("nltk.translate.bleu_score", reason="nltk is not installed")
    rng = np.random.default_rng(0)
    for _ in range(50):
        text, reference = ("".join(rng.choice(list("abc"), rng.integers(1, 12))) for _ in range(2))
        assert bleu(text, reference) == pytest.approx(nltk.sentence_bleu([reference], text), abs=1e-9)


@pytest.mark.parametrize(
    ("text", "match", "exact"),
    [
        (" Ada Marlow", 1, 1),
        ("Ada Marlow.", 1, 0),
        (" it was ADA MARLOW who", 1, 0),
        (" Ada  Marlow", 0, 0),
        ("", 0, 0),
        (" Ada", 0, 0),
    ],
)
def test_both_definitions_of_a_match(text: str, match: int, exact: int) -> None:
    found = marks_of(text, " Ada Marlow ")
    assert (found["match"], found["exact"]) == (match, exact)
    assert 0 <= found["bleu"] <= 1 and (found["bleu"] == 1) == bool(exact)


# The errors


def test_the_error_is_between_subjects() -> None:
    """Ten prompts that all succeed or all fail are one observation."""
    rng = np.random.default_rng(0)
    of_subject = rng.integers(2, size=40)
    marks, subjects = np.repeat(of_subject, 10), [str(i // 10) for i in range(400)]
    found = mean_of(marks.tolist(), subjects)
    assert found.error == pytest.approx(of_subject.std(ddof=1) / math.sqrt(40))
    alone = mean_of(marks.tolist(), [str(i) for i in range(400)])
    assert alone.error == pytest.approx(marks.std(ddof=1) / math.sqrt(400))
    assert found.high - found.low > 2.5 * (alone.high - alone.low)


def test_one_subject_of_most_rows_is_no_crowd() -> None:
    """Ten subjects, of which one has 91 of 100 rows, say hardly more than that one alone."""
    subjects = ["a"] * 91 + list("bcdefghij")
    rows = 100**2 / (91**2 + 9)
    for right in (0.0, 1.0):
        found = mean_of([right] * 100, subjects)
        assert (found.low, found.high) == pytest.approx(wilson(right, rows)) and found.high - found.low > 0.7


def test_nothing_right_is_not_certain() -> None:
    found = mean_of([0.0] * 300, [str(i // 10) for i in range(300)])
    assert found.value == found.low == 0 and found.high == pytest.approx(wilson(0, 30)[1]) and 0.1 < found.high < 0.12
    assert math.isnan(mean_of([1.0, 0.0], ["a", "a"]).error)


# The sources


def test_generated_questions() -> None:
    cells = {cell.name: cell.rows for cell in cells_of("pairs:people=24,world=3")}
    assert set(cells) == {
        f"{w}, {t}" for w in ("name", "description") for t in ("same order", "reversed", "told both ways")
    }
    for name, of_cell in cells.items():
        assert len(of_cell) == 3 * 6 and len({row.subject for row in of_cell}) == 6
        for row in of_cell:
            assert row.control not in (None, row.completion) and row.completion.startswith(" ")
            assert (row.subject in row.completion) == name.startswith("name")
    with pytest.raises(RemaskError, match="asked is not given here"):
        cells_of("pairs:asked=same")
    with pytest.raises(RemaskError, match="people=3"):
        cells_of("pairs:people=3")


def test_files_in_the_published_form(files: Path) -> None:
    cells = {cell.name: cell.rows for cell in cells_of(str(files))}
    assert list(cells) == list(FILES)[:4]
    assert [row.control for row in cells["name, reversed"]] == [" Bo", " Cy", " Ada"]
    assert {row.control for row in cells["name, same order"]} == {None}
    assert [row.subject for row in cells["name, reversed"]] == [" Ada", " Ada", " Bo"]
    own = write_rows(files / "own.jsonl", rows(" x"))
    assert [cell.name for cell in cells_of(str(own))] == ["own"]


def test_the_published_files() -> None:
    if not PUBLISHED.is_dir():
        pytest.skip("the published files are not beside the project")
    cells = {cell.name: cell.rows for cell in cells_of(str(PUBLISHED))}
    assert {name: len(own) for name, own in cells.items()} == {**dict.fromkeys(FILES, 300), "both, told both ways": 600}
    assert {len({row.subject for row in own}) for own in cells.values()} == {30}, "thirty people of each group"
    for name in ("name, reversed", "description, reversed"):
        assert sum(row.control == row.completion for row in cells[name]) < 20
    poems = {cell.name: cell.rows for cell in cells_of(str(SHARED / "llada_poem" / "poem_data.json"))}
    assert [len(own) for own in poems.values()] == [469, 469]


def test_couplets(tmp_path: Path) -> None:
    path = tmp_path / "poems.json"
    path.write_text(json.dumps(COUPLETS), encoding="utf-8")
    after, before = cells_of(str(path))
    assert after.rows[0].prompt.startswith("窈窕淑女") and after.rows[0].completion == "君子好逑"
    assert before.rows[1].prompt.startswith("如琢如磨") and before.rows[1].completion == "如切如磋"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"prompt": "x"}', "a.jsonl, line 1: field 'completion' is missing"),
        ("a.jsonl", '{"prompt": "x", "completion": " "}', "'completion' is empty"),
        ("a.jsonl", '{"prompt": 3, "completion": "y"}', "'prompt' is a number"),
        ("a.jsonl", "[]", "line 1: it is not a JSON object but a list"),
        ("a.jsonl", "{", "line 1: it is not JSON"),
        ("a.jsonl", "\n", "holds no questions"),
        ("a.json", "{}", "couplets are a list of objects"),
        ("a.json", '[{"first": "x"}]', "entry 1: field 'second' is missing"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(RemaskError) as error:
        cells_of(str(tmp_path / name))
    assert says in str(error.value)


def test_wrong_sources_are_named(tmp_path: Path, files: Path) -> None:
    with pytest.raises(RemaskError, match=r"no such folder or file.*pairs:people"):
        cells_of(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(RemaskError, match=r"holds none of the files d2p_prompts_test\.jsonl"):
        cells_of(str(tmp_path / "empty"))
    write_rows(files / "p2d_reverse_prompts_test_randomized.jsonl", [{"prompt": "?", "completion": "x"}] * 3)
    with pytest.raises(RemaskError, match=r"randomized.jsonl, line 1: its prompt is not that of p2d"):
        cells_of(str(files))


# The command


def test_the_answers_are_those_of_sampling_and_scoring(runs: list[str], files: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    cli.main(
        ["bench", "reversal", *runs, "--questions", str(files), "--out", str(out), "--draws", "4", "--length", "6"]
    )
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert len(lines) == 2 * 4 * 3
    cells = {cell.name: cell.rows for cell in cells_of(str(files))}
    models = {run: remask.load(run) for run in runs}
    for line in lines:
        row, m = cells[line["kind"]][line["place"]], models[line["run"]]
        assert (
            line["text"]
            == remask.sample(
                m, prompt=row.prompt, length=6, temperature=0, sampler=None if m.family.exact else "Confidence"
            ).text
        )
        if row.control is not None and m.family.exact:
            alone = remask.score(m, text=row.control, prompt=row.prompt)
            assert line["control"] == pytest.approx(alone.nats, rel=1e-4)
    found = {
        (one["run"], one["kind"], one["measure"]): one
        for one in json.loads((out / "reversal.json").read_text())["results"]
    }
    of_left = [line for line in lines if line["run"] == runs[1] and line["kind"] == "name, reversed"]
    gains = [line["control"] - line["nats"] for line in of_left]
    assert found[runs[1], "name, reversed", "gain"]["value"] == pytest.approx(np.mean(gains))
    assert found[runs[0], "name, reversed", "match"]["subjects"] == 2
    assert (out / "reversal.png").stat().st_size > 1000 and (out / "reversal.csv").read_text().count("\n") > 20


def test_a_model_that_knows_the_answers(runs: list[str], tmp_path: Path) -> None:
    """Questions whose right answers are what the model writes: all match, and none of the control does."""
    prompts = [f"Ask {i} of" for i in range(4)]
    written = remask.sample(remask.load(runs[1]), prompt=prompts, length=6, temperature=0)
    path = write_rows(
        tmp_path / "own.jsonl",
        [{"prompt": p, "completion": s.text} for p, s in zip(prompts, written) if s.text.strip()],
    )
    found = reversal([runs[1]], str(path), length=6, out=tmp_path / "out")
    assert {one["measure"]: one["value"] for one in found["results"]}["match"] == 1


def test_it_goes_on_and_refuses_other_settings(
    runs: list[str], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, given = tmp_path / "out", {"draws": 4, "length": 6}
    whole = reversal(runs, str(files), out=tmp_path / "whole", **given)
    reversal(runs[:1], str(files), out=out, limit=2, **given)
    kept = (out / "answers.jsonl").read_text().splitlines()
    (out / "answers.jsonl").write_text("\n".join(kept[:7]) + '\n{"run": "cut')
    again = reversal(runs, str(files), out=out, **given)
    assert again["results"] == whole["results"]
    assert (out / "answers.jsonl").read_text().splitlines()[:7] == kept[:7]
    with pytest.raises(RemaskError, match=r"measured otherwise.*length 6 there, 5 now"):
        reversal(runs, str(files), out=out, draws=4, length=5)
    (out / "answers.jsonl").write_text("{}\n")
    with pytest.raises(RemaskError, match="line 1 is damaged"):
        reversal(runs, str(files), out=out, **given)
    write_rows(files / "d2p_prompts_test.jsonl", rows(" Eve"))
    with pytest.raises(RemaskError, match=r"questions of name, same order"):
        reversal(runs, str(files), out=out, **given)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"length": 0}, "length is 0"),
        ({"length": 5, "total": 9}, "give length or total, not both"),
        ({"length": 500}, "has a context of 128 tokens"),
        ({"total": 5}, "of a total of 5"),
        ({"chat": True}, "no chat template"),
        ({"way": "Nothing"}, "unknown sampler 'Nothing'"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_wrong_options_are_named(
    runs: list[str], files: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(RemaskError, match=says):
        reversal(runs, str(files), out=tmp_path / "out", **options)


def test_a_way_holds_for_those_that_it_fits(runs: list[str], files: Path, tmp_path: Path) -> None:
    """SMDM's sampler with guidance and a total length: the autoregressive model writes from left to right."""
    found = reversal(
        runs, str(files), way="SMDM:steps=4,guidance=0.8", total=24, limit=2, draws=4, out=tmp_path / "out"
    )
    assert {one["run"] for one in found["results"]} == set(runs)
    m = remask.load(runs[0])
    line = json.loads((tmp_path / "out" / "answers.jsonl").read_text().splitlines()[0])
    alone = remask.sample(
        m, prompt="Ask 0 of", length=24 - len(m.family.bos) - 8, sampler="SMDM", steps=4, guidance=0.8, temperature=0
    )
    assert line["text"] == alone.text
