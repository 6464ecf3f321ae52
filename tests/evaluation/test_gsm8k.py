"""GSM8K in `remask eval`: solutions in one pass or two, their log, and what is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from zero_shot_rows import publish, short_rows, write_rows

import remask
from remask import cli
from remask.errors import Interrupted, RemaskError
from remask.evaluation.gsm8k import asking
from remask.evaluation.gsm8k.results import results_of, wilson
from remask.evaluation.gsm8k.solving import Asked, Solution, solve
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.zeroshot.command import Settings, evaluate
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.seeds import mix_seeds
from remask.tasks.gsm8k.problems import Problem, read_problems
from remask.tasks.gsm8k.wording import WORDINGS

WRITING = Writing(length=6, answer_length=4, temperature=0.5, batch=3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Published folders: "masked" and "left"."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "masked": publish(folder / "masked", Masked(), context=80),
        "left": publish(folder / "left", Autoregressive(), context=80, seed=1),
    }


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with four short problems."""
    rows = [{"question": f"{'Why ' * n}{n}?", "answer": f"Since <<1+1=2>>2.\n#### {n}"} for n in range(4)]
    return write_rows(tmp_path / "files" / "gsm8k.jsonl", rows).parent


def all_asked(files: Path, *templates: int) -> list[Asked]:
    return [Asked(problem, t) for t in templates for problem in read_problems(files / "gsm8k.jsonl")]


@pytest.mark.parametrize("name", ["masked", "left"])
def test_two_passes_are_two_samples(name: str, runs: dict[str, Path], files: Path) -> None:
    """Each is what `sample` writes: the second behind the question and the steps, whatever shares the batch."""
    model = remask.load(runs[name], device="cpu")
    found = [pair for part in solve(model, all_asked(files, 0, 1), WRITING) for pair in part]
    assert len(found) == 8 and {(one.template, one.problem.line) for one, _ in found} == {
        (t, line) for t in (0, 1) for line in (1, 2, 3, 4)
    }
    own: dict[str, Any] = {} if name == "left" else {"sampler": "Confidence"}
    for one, solution in found:
        prompt, texts = WORDINGS[one.template].prompt(one.problem.question), []
        for number, length in enumerate((6, 4)):
            seed = [mix_seeds(0, one.problem.line, one.template, number)]
            (sample,) = remask.sample(model, prompt=[prompt], length=length, temperature=0.5, seed=seed, **own)
            texts.append(sample.text)
            prompt = (prompt + sample.text).rstrip()
        assert solution.texts == tuple(texts) and solution.fits and solution.text == "".join(texts)
        assert solution.evaluations > 2


def test_one_pass_and_a_total_length(runs: dict[str, Path], files: Path) -> None:
    model = remask.load(runs["masked"], device="cpu")
    writing = Writing(passes=1, total=40, temperature=0, stop=False)
    for one, solution in [pair for part in solve(model, all_asked(files, 0), writing) for pair in part]:
        assert len(solution.texts) == 1 and solution.evaluations == 40 - len(one.prompt.encode())


def test_where_the_context_has_no_room(runs: dict[str, Path], files: Path) -> None:
    model = remask.load(runs["left"], device="cpu")
    long, short = Problem("x" * 90, "s", "1", 1, ""), Problem("x" * 66, "s", "1", 2, "")
    writing = Writing(length=20, answer_length=4, batch=2, stop=False)
    (found,) = solve(model, [Asked(long, 0), Asked(short, 0)], writing)
    by_line = {one.problem.line: solution for one, solution in found}
    assert by_line[1] == Solution(texts=("", ""), evaluations=0, fits=False)
    assert by_line[2].evaluations == 80 - 76 and not by_line[2].fits, "as long as there was room, and then none"
    results = results_of("run", model.family, [long, short], {0: [by_line[1], by_line[2]]}, writing, 1.0)
    assert results[0].dropped == 2 and results[0].value == 0


# What is counted


def solutions(*texts: str) -> list[Solution]:
    return [Solution(texts=(text,), evaluations=1, fits=True) for text in texts]


def test_accuracy_by_prompt_and_over_them(runs: dict[str, Path]) -> None:
    model = remask.load(runs["left"], device="cpu")
    problems = [Problem("q", "s", answer, line, "") for line, answer in enumerate(("1,000", "2", "3", "4"))]
    of = {
        0: solutions("a #### 1000", "#### 2", "3", "#### 5"),
        2: solutions("#### $1,000", "#### 3", "so it is #### 3\n", ""),
    }
    found = {one.metric: one for one in results_of("r", model.family, problems, of, WRITING, 2.0)}
    found = {name: one for name, one in found.items() if name.startswith("acc")}
    assert set(found) == {"acc", "acc, template 0", "acc, template 2"}
    assert found["acc"].value == found["acc, template 0"].value == found["acc, template 2"].value == 0.5
    assert found["acc, template 0"].interval == pytest.approx(wilson(2, 4)) and found["acc"].interval is None
    assert found["acc"].error == pytest.approx(((0.5**2 + 0 + 0 + 0.5**2) / 3) ** 0.5 / 2), "means 1, 1/2, 1/2, 0"
    assert "prompts from 0.5000 to 0.5000" in found["acc"].scored and found["acc"].kind == "written"
    (one,) = [x for x in results_of("r", model.family, problems, {1: of[0]}, WRITING, 2.0) if x.metric == "acc"]
    assert one.interval == pytest.approx(wilson(2, 4)) and "prompts" not in one.scored


def test_wilsons_interval() -> None:
    """Against the formula; near 0 it is no point."""
    z, n = 1.959963984540054, 1319
    for k in (0, 7, 784, 1319):
        p, middle = k / n, (k / n + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        assert wilson(k, n) == pytest.approx((middle - half, middle + half), abs=1e-9)
    assert wilson(0, n)[1] > 0.002


def test_the_second_reading_is_there_where_it_is_installed(runs: dict[str, Path]) -> None:
    pytest.importorskip("math_verify")
    model = remask.load(runs["left"], device="cpu")
    problems = [Problem("q", "s", "2", 1, ""), Problem("q", "s", "3", 2, "")]
    found = results_of("r", model.family, problems, {0: solutions("so it is 2", "#### 3")}, WRITING, 1.0)
    assert {one.metric: one.value for one in found} == {"acc": 0.5, "math_verify": 1.0}


# The command


def command(run: Path, files: Path, out: Path, *more: str) -> list[str]:
    short = ["--writing.length", "6", "--writing.answer-length", "4"]
    return ["eval", str(run), "--tasks", "gsm8k", "--files", str(files), "--out", str(out), *short, *more]


def test_the_command(runs: dict[str, Path], files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rows(files / "arc_easy.jsonl", short_rows(3))
    out = tmp_path / "out"
    both = [str(runs["masked"]), str(runs["left"])]
    cli.main([*command(runs["masked"], files, out), str(runs["left"])][:1] + both + command(Path(), files, out)[2:])
    page = capsys.readouterr().out
    lines = [line for line in page.splitlines() if line.startswith("| gsm8k")]
    assert (
        len([line for line in lines if " acc" in line]) == 8 and " 95 % |" in page and "two passes of 6 tokens" in page
    )
    kept = [json.loads(line) for line in (out / "solutions.jsonl").read_text().splitlines()]
    assert (
        len(kept) == 2 * 3 * 4 and {one["run"] for one in kept} == set(both) and all(len(x["texts"]) == 2 for x in kept)
    )
    found = json.loads((out / "results.json").read_text())["results"]
    assert all(one["kind"] == "written" for one in found) and (out / "results.png").stat().st_size > 1000
    cli.main(
        [*command(runs["left"], files, out, "--json")[:3], "gsm8k,arc_easy", *command(runs["left"], files, out)[4:]]
    )
    assert {"gsm8k", "arc_easy"} == {one["task"] for one in json.loads((out / "results.json").read_text())["results"]}
    assert len((out / "solutions.jsonl").read_text().splitlines()) == 24, "nothing is written twice"


def test_a_stopped_command_goes_on(
    runs: dict[str, Path], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, writing = [str(runs["masked"])], Writing(length=6, answer_length=4, temperature=1.0, batch=2)
    whole = evaluate(run, "gsm8k", files, out=tmp_path / "whole", writing=writing, settings=Settings())
    original, parts = asking.solve, []

    def stopping(*arguments: Any) -> Any:
        for part in original(*arguments):
            if len(parts) == 2:
                raise KeyboardInterrupt
            parts.append(part)
            yield part

    monkeypatch.setattr(asking, "solve", stopping)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="the same command goes on"):
        evaluate(run, "gsm8k", files, out=out, writing=writing, settings=Settings())
    monkeypatch.setattr(asking, "solve", original)
    assert len((out / "solutions.jsonl").read_text().splitlines()) == 4
    with open(out / "solutions.jsonl", "a") as file:
        file.write('{"run": "cut of')
    again = evaluate(run, "gsm8k", files, out=out, writing=writing, settings=Settings())
    for one, other in zip(whole["results"], again["results"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    logs = [(folder / "solutions.jsonl").read_text().splitlines() for folder in (tmp_path / "whole", out)]
    texts = [sorted((x["line"], x["template"], x["texts"]) for x in map(json.loads, log)) for log in logs]
    assert texts[0] == texts[1], "in other batches, the same texts"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--writing.passes", "3"], "writing.passes is '3'; it must be 1 or 2"),
        (["--writing.templates", "[3]"], "writing.templates has 3; GSM8K has templates 0 to 2"),
        (["--writing.batch", "0"], "writing.batch is 0; it must be at least 1"),
        (["--writing.sampler", "Confidenc"], "unknown sampler 'Confidenc'"),
        (["--writing.sampler", "Threshold", "--writing.steps", "3"], "leave steps out"),
        (["--tasks", "gsm8k=nowhere.jsonl"], "there is no file of GSM8K at 'nowhere.jsonl'"),
        (["--tasks", "gsm8k=a,gsm8k=b"], "gsm8k is named as gsm8k=a and gsm8k=b; name it once"),
        (["--tasks", "gsm8"], "unknown benchmark 'gsm8'. Did you mean 'gsm8k'?"),
        (["--files", "/"], "gsm8k: / has no gsm8k.jsonl or"),
    ],
)
def test_wrong_use_is_named(
    runs: dict[str, Path], files: Path, tmp_path: Path, arguments: list[str], message: str, capsys: Any
) -> None:
    with pytest.raises(SystemExit):
        cli.main(command(runs["masked"], files, tmp_path / "out", *arguments))
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_other_settings_are_refused(runs: dict[str, Path], files: Path, tmp_path: Path) -> None:
    run, out = [str(runs["left"])], tmp_path / "out"
    first = Writing(length=6, templates=[0])
    evaluate(run, "gsm8k", files, out=out, writing=first, settings=Settings())
    with pytest.raises(RemaskError, match=r"settings of gsm8k.length 6 there, 7 now. Choose another --out"):
        evaluate(run, "gsm8k", files, out=out, writing=Writing(length=7), settings=Settings())
    more = evaluate(run, "gsm8k", files, out=out, writing=Writing(length=6, templates=[0, 1]), settings=Settings())
    assert {one["metric"] for one in more["results"]} >= {"acc", "acc, template 0", "acc, template 1"}
    (out / "solutions.jsonl").write_text('{"run": 3}\n')
    with pytest.raises(RemaskError, match=r"solutions.jsonl, line 1 is damaged"):
        evaluate(run, "gsm8k", files, out=out, writing=first, settings=Settings())
    (out / "protocol.json").unlink()
    with pytest.raises(RemaskError, match=r"has solutions.jsonl without protocol.json"):
        evaluate(run, "gsm8k", files, out=out, writing=first, settings=Settings())


def test_a_prompt_is_asked_once() -> None:
    assert Writing(templates=[1, 0, 1]).asked == [0, 1] and Writing().asked == [0, 1, 2]
