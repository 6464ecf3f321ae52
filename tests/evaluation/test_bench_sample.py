"""Quality against speed of sampling: tiny networks that answer a tiny task, and what is made of their answers."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.folder import save
from remask.cli import main
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.evaluation.bench_points import Bench, Grade, Timing, mean_accuracy
from remask.evaluation.bench_report import note, page_text, shown_names
from remask.evaluation.bench_rows import lines_of, rows_of
from remask.evaluation.bench_sample import BenchOptions, bench_sample
from remask.evaluation.proportions import binomial_error
from remask.evaluation.questions import questions_of
from remask.evaluation.ways import fitting, product_of, usual_ways, way_of
from remask.evaluation.writing import write
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer, initialise
from remask.sampling import SamplingParams
from remask.sampling.confidence import Confidence
from remask.tasks.base import Task
from remask.vocabulary import Vocabulary

WAYS = ["Confidence:steps=2", "Threshold:threshold=0.5,cache=Dual"]
LEFT = ["LeftToRight", "PromptLookup"]
"""How an autoregressive model writes where none of the ways fits it."""
SMALL: dict[str, Any] = {"tasks": ["Letters"], "ways": WAYS, "batch": [1, 3], "limit": 6, "timed": 3, "repeats": 2}


@pytest.fixture(scope="module", autouse=True)
def letters() -> Iterator[type[Task]]:
    """A task whose answer is any letter of the corpus, some of which an untrained model writes."""

    @dataclass(frozen=True, kw_only=True)
    class Letters(Task):
        size: int = 3

        templates = ("{text}", "{text}{text}", "a{text}")
        __module__ = "remask.tasks.letters"  # where tasks are looked for

        def ask(self, rng: np.random.Generator) -> str:
            return "".join(rng.choice(list("abcdefgh"), self.size).tolist())

        def words(self, question: str) -> dict[str, str]:
            return {"text": question}

        def answer(self, question: str, rng: np.random.Generator) -> str:
            return question[:2]

        def right(self, question: str, answer: str) -> bool:
            return sum(map(ord, question + answer)) % 2 == 0

    yield Letters
    Letters.templates = ()
    Letters.__module__ = __name__  # no task any more


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Published folders of a masked and an autoregressive network with random weights, in bytes."""
    folder, tokenizer = tmp_path_factory.mktemp("models"), Tokenizer.bytes()
    shape = Architecture(
        layers=2, width=16, heads=4, kv_heads=2, head_width=4, ffn=24, context=64, rows=258, predicted=257
    )
    families: dict[str, Family] = {"masked": Masked(), "autoregressive": Autoregressive()}
    for name, family in families.items():
        model = Transformer(shape)
        initialise(model, "smdm", torch.Generator().manual_seed(0))
        save(folder / name, model.state_dict(), shape, family.over(tokenizer.vocabulary), tokenizer, {}, "# card\n")
    return [folder / name for name in families]


def bench(runs: list[Path], out: Path, **more: Any) -> dict[str, Any]:
    return bench_sample([str(run) for run in runs], out, "cpu", "fp32", options=BenchOptions(**{**SMALL, **more}))


@pytest.fixture(scope="module")
def found(
    letters: type[Task], models: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("out") / "bench"
    return bench(models, out), out


def test_rows_and_lines(found: tuple[dict[str, Any], Path], models: list[Path]) -> None:
    result, out = found
    masked, left = map(str, models)
    with open(out / "bench.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cells = {(r["model"], r["way"], int(r["template"]), int(r["batch"])) for r in rows}
    ways = [(masked, WAYS[0]), (masked, "Threshold:threshold=0.5,cache=Dual"), *((left, name) for name in LEFT)]
    assert cells == {(*way, template, batch) for way in ways for template in range(3) for batch in (1, 3)}
    assert len(rows) == len(cells) == len(result["rows"]) and len(result["lines"]) == 8
    for row in rows:
        assert row["questions"] == "6" and row["length"] == "7" and row["rounds"] == "2" and row["memory"] == ""
        assert 0 <= float(row["accuracy"]) <= 1 and 0 < float(row["accuracy_error"]) < 0.5
        assert 0 < float(row["first_token"]) <= float(row["last_token"]) <= float(row["seconds"])
        most = {"Confidence": 2, "Threshold": 7, "LeftToRight": 7, "PromptLookup": 7}[row["sampler"]]
        assert 1 <= float(row["passes"]) <= most and 1 <= float(row["calls"]) <= most
    for line in result["lines"]:
        assert line["quality"] == pytest.approx(sum(line["templates"]) / 3)
        assert 0 < line["tokens"] <= 7 and 0 <= line["ended"] <= 1
    assert any(line["fastest"] for line in result["lines"])
    page = (out / "bench.md").read_text()
    assert f"| {models[0].parent.name}/masked" in page and "## Letters, batches of 3" in page
    assert " tokens | ended | " in page and "Graded at batches of 3, whatever the size that is timed" in page
    assert (out / "bench.png").stat().st_size > 10_000


def test_answers_are_those_of_remask_sample(found: tuple[dict[str, Any], Path], models: list[Path]) -> None:
    """The accuracy, and the tokens before end-of-text, are counted anew from what `remask.sample` writes."""
    _, out = found
    model = remask.load(models[0], device="cpu")
    kept = Bench.open(out, {})
    for questions in questions_of("Letters", 6, 0, 4, None):
        prompts = [example.prompt for example in questions.examples]
        samples = remask.sample(model, prompt=prompts, length=7, sampler="Confidence", steps=2, temperature=0.0)
        right = "".join(str(int(questions.task.right(e.question, s.text))) for e, s in zip(questions.examples, samples))
        (grade,) = [g for g in kept.grades if g.key == (str(models[0]), "Letters", questions.template, WAYS[0])]
        assert grade.right == right
        assert grade.tokens == sum(len(s.tokens) for s in samples) / 6
    assert {"0", "1"} == set("".join(g.right for g in kept.grades)), "some answers are right and some are not"


def test_tokens_stop_at_end_of_text(models: list[Path]) -> None:
    """A model made to write the end-of-text token wherever it stands second: one token of each text counts."""
    model = remask.load(models[0], device="cpu", dtype=torch.float32)
    end = model.family.vocabulary.end
    assert end is not None

    class Ending(torch.nn.Module):
        device, architecture = torch.device("cpu"), model.model.architecture

        def forward(self, tokens: torch.Tensor, *, ask: torch.Tensor, index: Any = None, **more: Any) -> torch.Tensor:
            row, column = ask.nonzero(as_tuple=True)
            place = column if index is None else index[row, column]
            logits = torch.zeros(len(row), model.family.vocabulary.predicted)
            logits[:, 97] = 1.0 + place.float()
            logits[place == 3, end] = 9.0
            return logits

    params = SamplingParams(sampler=Confidence(rule="left"), length=5, steps=5, temperature=0.0)
    written = write(Checkpoint(Ending(), model.family, model.text, {}), [[97, 98], [97, 98]], params, 2)
    assert [s.tokens for s in written.samples] == [[97], [97]] and written.tokens == 2
    assert written.calls == 2 and [s.evaluations for s in written.samples] == [2, 2]
    assert 0 < written.first[0] < written.last[0] <= written.seconds


def test_it_goes_on_and_refuses_other_settings(
    found: tuple[dict[str, Any], Path], models: list[Path], tmp_path: Path
) -> None:
    _, out = found
    kept = json.loads((out / "bench.json").read_text())
    gone = kept["timings"].pop(), kept["grades"].pop()
    (tmp_path / "bench.json").write_text(json.dumps(kept))
    bench(models, tmp_path)
    again = json.loads((tmp_path / "bench.json").read_text())
    assert again["timings"][:-1] == kept["timings"] and again["grades"] == [*kept["grades"], gone[1]]
    assert again["timings"][-1]["tokens"] == gone[0]["tokens"]
    bench(models[:1], tmp_path, ways=["FirstHitting:steps=1"], repeats=1)
    more = json.loads((tmp_path / "bench.json").read_text())
    assert len(more["grades"]) == len(again["grades"]) + 3, "another way is added to what is there"
    with pytest.raises(RemaskError, match=r"measured otherwise: --timed 3 there, 2 now\. Choose another --out"):
        bench(models, tmp_path, timed=2)
    with pytest.raises(RemaskError, match=r"measured otherwise: .*questions of Letters, template 0"):
        bench(models, tmp_path, limit=5)
    del more["settings"]["compile"]  # as before there was that option
    (tmp_path / "bench.json").write_text(json.dumps(more))
    with pytest.raises(RemaskError, match=r"measured otherwise: --compile false there, true now"):
        bench_sample([str(models[0])], tmp_path, "cpu", "fp32", compile=True, options=BenchOptions(**SMALL))
    more["settings"][f"weights of {models[0]}"] = "0" * 16
    (tmp_path / "bench.json").write_text(json.dumps(more))
    with pytest.raises(RemaskError, match=r"weights of .*/masked 0000000000000000 there"):
        bench(models, tmp_path)


def test_the_command_with_a_judge(
    models: list[Path], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", "sample", *map(str, models), "--judge", str(models[1]), "--json"]
    words += ["--data", str(corpus), "--samplers", "[Confidence,Threshold,LeftToRight]", "--caches", "[none,Prefix]"]
    words += ["--steps", "[2,4]", "--blocks", "[4]", "--length", "8", "--prompt-tokens", "8", "--limit", "4"]
    main([*words, "--batch", "[4]", "--repeats", "1", "--device", "cpu", "--out", str(tmp_path / "out")])
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert len(result["lines"]) == 7
    assert f"left out: {models[1]}, LeftToRight:cache=Prefix: LeftToRight has an exact cache by itself" in said.err
    assert f"left out: {models[0]}, LeftToRight: LeftToRight does not fit Masked models" in said.err
    for line in result["lines"]:
        assert line["task"] == "judge" and 0 < line["quality"] < 20 and 0 <= line["entropy"] <= math.log(8)
    assert 0 < result["real"]["nll"] < 20


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tasks": None}, r"name --tasks, as \[Sort\], or --judge"),
        ({"tasks": ["Leters"]}, "unknown task 'Leters'. Did you mean 'Letters'"),
        ({"ways": ["Treshold"]}, "unknown sampler 'Treshold'. Did you mean 'Threshold'"),
        ({"ways": ["Threshold:cache=Duel"]}, "unknown cache 'Duel'. Did you mean 'Dual'"),
        ({"ways": ["Threshold:bloc=3"]}, "unknown option of the way Threshold 'bloc'. Did you mean 'block'"),
        (
            {"ways": ["Threshold:steps=3"]},
            "no way of writing is left: .*masked, Threshold:steps=3: the number of",
        ),
        ({"ways": ["EsoLM"]}, "no way of writing is left: .*masked, EsoLM: EsoLM does not fit Masked"),
        ({"ways": ["Threshold:block=2,cache=Dual,block=3"]}, "gives block twice; give it once"),
        ({"ways": ["Threshold:cache=Dual:refresh=2,refresh=3"]}, "gives refresh twice"),
        ({"ways": ["Threshold", "block=3"]}, r"unknown way 'block=3'. An entry .*--ways '\[\"Threshold,block=3\"\]'"),
        ({"tasks": ["Letters:size=3", "largest=3"]}, r"--tasks '\[\"Letters:size=3,largest=3\"\]'"),
        ({"tasks": ["Letters:size=2"], "limit": 60}, r"has \d+ different test questions, and --limit is 60"),
        ({"limit": 0}, "limit is 0; it must be at least 1"),
        ({"limit": 2}, "a batch of 3 needs as many questions, and --limit is 2"),
        ({"batch": []}, r"batch is \[\]"),
        ({"judge": "ar"}, "--judge and --data belong together"),
        ({"caches": ["Dual"]}, "give --ways, or --samplers"),
        ({"ways": None, "caches": ["Dual"]}, "need --samplers"),
        ({"length": 60}, "context of 64 tokens; the prompts of Letters have up to 6, .*: give --length 58 or less"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"ways": ["Confidence:steps=2,tokens_per_step=2"]}, "give steps or tokens_per_step, not both"),
    ],
)
def test_what_cannot_be_measured(change: dict[str, Any], says: str, models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=says):
        bench(models[:1], tmp_path / "out", **change)
    assert not (tmp_path / "out" / "bench.json").exists()


def test_a_tokenizer_that_cannot_write_the_answers(models: list[Path]) -> None:
    import tokenizers

    model = remask.load(models[0], device="cpu")
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel({"abc": 0, "?": 1}, unk_token="?"))
    poor = replace(model, text=Tokenizer(inner, model.family.vocabulary))
    with pytest.raises(RemaskError, match=r"the tokenizer of poor cannot write '.*', which Letters needs: leave"):
        questions_of("Letters", 4, 0, 4, None)[0].check(poor, "poor")


def test_ways() -> None:
    way = way_of("Threshold: threshold=0.8 ,cache=Dual:refresh=8,block=32")
    assert way.name == "Threshold:threshold=0.8,block=32,cache=Dual:refresh=8" and way.rule == "Threshold"
    params = way.params(64, 0.5)
    assert (params.block, params.cache, params.temperature, params.steps) == (32, "Dual:refresh=8", 0.5, None)
    assert way_of("Confidence:tokens_per_step=8,temperature=1").params(20, 0.0).steps == 3
    assert way_of("EsoLM:cache=false").sampler.cache is False, "an option that the sampler has is the sampler's"
    names = [w.name for w in product_of(["Confidence", "Threshold"], ["none", "Dual"], [4, 8], [0])]
    assert names[:2] == ["Confidence:steps=4", "Confidence:steps=8"]
    assert names[4:] == ["Threshold", "Threshold:cache=Dual"], "without steps, and so once each"
    assert [w.name for w in usual_ways(Autoregressive(), 8)] == ["LeftToRight", "PromptLookup"]
    masked = usual_ways(Masked(), 100)
    assert len(masked) == 13 and masked[5].name == "Threshold:block=32,cache=Dual"
    assert fitting(masked, Masked(), 100) == (masked, [])


def test_names_of_ways_have_one_spelling_without_defaults() -> None:
    names = {
        "Threshold:threshold=0.90": "Threshold",
        "Confidence: rule=margin , steps=04": "Confidence:rule=margin,steps=4",
        "Confidence:cache=none,temperature=1.0": "Confidence:temperature=1",
        "Threshold:cache=Dual:refresh=0,grow=true,window=8,block=4,guidance=0.50": (
            "Threshold:block=4,grow=true,guidance=0.5,window=8,cache=Dual"
        ),
        "Factor:block=4,expand=DAEDAL:initial=9,add=8,low=0.20": "Factor:block=4,expand=DAEDAL:initial=9,low=0.2",
        "Confidence:cache=Selective:candidates=16,gap=2": "Confidence:cache=Selective:candidates=16,gap=2",
        "Confidence:cache=Selective,gap=4,steps=2,candidates=16": "Confidence:steps=2,cache=Selective:candidates=16",
    }
    for text, name in names.items():
        assert way_of(text).name == name and way_of(name) == way_of(text)
    (way,) = product_of(["Confidence"], ["Selective:candidates=16,gap=2"], [2], [])
    assert way.cache == "Selective:candidates=16,gap=2" and way.params(8, 0.0).steps == 2
    params = way_of("Threshold:block=4,window=8,grow=true").params(16, 0.5)
    assert (params.window, params.grow, params.temperature) == (8, True, 0.5)
    family = Masked().over(Vocabulary(size=9, mask=8, end=7))
    ways = [way_of("Threshold:expand=DAEDAL:add=3,cache=Dual"), way_of("Factor:expand=DAEDAL")]
    kept, reasons = fitting(ways, family, 8)
    assert [way.name for way in kept] == ["Factor:expand=DAEDAL"] and "leave cache, window and grow out" in reasons[0]


def test_names_of_models_are_shown_in_short() -> None:
    shown = shown_names(["runs/a", "/long/path/b", "/long/other/path/b"])
    assert shown == {"runs/a": "runs/a", "/long/path/b": "/long/path/b", "/long/other/path/b": "/long/other/path/b"}
    assert shown_names(["/long/path/b"]) == {"/long/path/b": "path/b"}


def test_a_way_that_is_added_is_timed_in_the_same_rounds(
    models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small: dict[str, Any] = {"batch": [3], "repeats": 2, "timed": 3}
    bench(models[:1], tmp_path, **{**small, "ways": WAYS[:1]})
    first = Bench.open(tmp_path, {})
    bench(models[:1], tmp_path, **{**small, "ways": WAYS[1:]})
    assert "Letters, batches of 3: 1 ways were timed without some" in capsys.readouterr().err
    second = Bench.open(tmp_path, {})
    assert [t.way for t in second.timings] == [way for _ in range(2) for way in (WAYS[1], WAYS[0]) for _ in range(3)]
    assert {t.series for t in second.timings} == {1} and second.grades[:3] == first.grades
    second.timings = second.timings[:7]  # as if it had been interrupted in the second round
    second.save()
    bench(models[:1], tmp_path, **small)
    third = Bench.open(tmp_path, {})
    assert third.timings[:7] == second.timings and len(third.timings) == 12
    assert {t.series for t in third.timings} == {1}


def test_repetition_does_not_win_under_a_judge() -> None:
    real = {"nll": 3.0, "nll_error": 0.1, "entropy": 4.0, "entropy_error": 0.1}
    settings = {"limit": 2, "temperature": 0, "device": "cpu", "threads": 1, "precision": "fp32", "timed": 2}
    bench = Bench(Path("unused"), settings, real, families={"m": "Masked"})
    texts = (("Threshold", 0.5, 1.0, 1.0), ("Confidence", 3.2, 3.7, 2.0), ("Factor", 3.1, 3.5, 1.0))
    for way, nll, entropy, seconds in texts:
        about: dict[str, Any] = {"model": "m", "task": "judge", "template": 0, "way": way}
        of: dict[str, Any] = {"questions": 2, "length": 9, "tokens": 9, "ended": 0, "graded_at": 2}
        bench.grades.append(Grade(**about, **of, nll=nll, nll_error=0.1, entropy=entropy, entropy_error=0.1))
        of = {"batch": 2, "round": 0, "texts": 2, "tokens": 18, "calls": 1, "passes": 1, "memory": None}
        bench.timings.append(Timing(**about, **of, seconds=seconds, first=seconds, last=seconds))
    assert [line.way for line in lines_of(bench) if line.fastest] == ["Confidence"]
    assert "within 10 % of that of real text" in note(bench, "judge") and "remask frontier" in note(bench, "judge")
    assert "Graded at batches of 2" in page_text(bench, lines_of(bench))


def test_one_task_without_brackets_is_told_how_a_list_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "sample", "run", "--tasks", "Sort"])
    said = capsys.readouterr().err
    assert "tasks is 'Sort'" in said and "as [a] for a single one" in said and "null" not in said


def test_questions_are_different() -> None:
    for questions in questions_of("Letters:size=2", 3, 0, 4, None):
        assert len({one.question for one in questions.examples}) == 3


def test_weights_of_8_bits_and_packed_ones(models: list[Path], tmp_path: Path) -> None:
    options = BenchOptions(**{**SMALL, "ways": WAYS[:1], "batch": [3], "repeats": 1})
    if "fbgemm" in torch.backends.quantized.supported_engines:
        result = bench_sample([str(models[0])], tmp_path / "8", "cpu", "int8", options=options)
        assert result["settings"]["precision"] == "int8" and len(result["lines"]) == 1
    assert bench_sample([str(models[0])], tmp_path, "cpu", "fp32", pack=True, options=options)["settings"]["pack"]


def test_errors_of_accuracy() -> None:
    about: dict[str, Any] = {"model": "m", "task": "t", "way": "Threshold", "questions": 4, "length": 3}
    grades = [Grade(**about, template=i, tokens=2, ended=1, right=x) for i, x in enumerate(("1100", "1110"))]
    mean, error = mean_accuracy(grades)
    assert mean == 0.625 and error == pytest.approx(np.std([1, 1, 0.5, 0], ddof=1) / 2)
    assert mean_accuracy([replace(grades[0], right="1111")]) == (1.0, binomial_error(4, 4))


def test_speed_is_the_median_of_the_rounds() -> None:
    about: dict[str, Any] = {"model": "m", "task": "t", "way": "Threshold"}
    bench = Bench(Path("unused"), {}, families={"m": "Masked"})
    for template, seconds in ((0, (1.0, 9.0, 2.0)), (1, (3.0, 3.0, 4.0))):
        bench.grades.append(Grade(**about, template=template, questions=2, length=3, tokens=2, ended=1, right="10"))
        of: dict[str, Any] = {"batch": 2, "texts": 2, "tokens": 10, "calls": 1, "passes": 1, "memory": None}
        bench.timings += [
            Timing(**about, **of, template=template, round=i, seconds=s, first=s / 2, last=s)
            for i, s in enumerate(seconds)
        ]
    assert [row.tokens_per_second for row in rows_of(bench)] == [10 / 2, 10 / 3]
    (line,) = lines_of(bench)
    assert line.tokens_per_second == 20 / 5 and line.first_token == 1.25 and line.rounds == 3 and line.fastest
