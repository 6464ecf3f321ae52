"""GSM8K in `remask eval`: solutions in one pass or two, their log, and what is counted."""

import json
from pathlib import Path
from typing import Any

import pytest
from zero_shot_rows import publish, short_rows, write_rows

import remask
from remask import cli
from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.opening import Opening
from remask.errors import Interrupted, RemaskError
from remask.evaluation.gsm8k import asking
from remask.evaluation.gsm8k.asking import Problems, solve_share
from remask.evaluation.gsm8k.log import SolutionLog
from remask.evaluation.gsm8k.results import results_of
from remask.evaluation.gsm8k.solving import PromptedProblem, Solution, batches, solve
from remask.evaluation.gsm8k.writing import Writing
from remask.evaluation.proportions import wilson
from remask.evaluation.zeroshot.command import Settings, evaluate
from remask.evaluation.zeroshot.metrics import Result
from remask.evaluation.zeroshot.templates import Spread
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


def all_asked(files: Path, *templates: int) -> list[PromptedProblem]:
    return [PromptedProblem(problem, t) for t in templates for problem in read_problems(files / "gsm8k.jsonl")]


@pytest.mark.parametrize("name", ["masked", "left"])
def test_two_passes_are_two_samples(name: str, runs: dict[str, Path], files: Path) -> None:
    """Each is what `sample` writes: the second behind the question and the steps, whatever shares the batch."""
    model = remask.load(runs[name], device="cpu")
    found = [pair for batch in batches(all_asked(files, 0, 1), 3) for pair in solve(model, batch, WRITING)]
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
    for one, solution in solve(model, all_asked(files, 0), writing):
        assert len(solution.texts) == 1 and solution.evaluations == 40 - len(one.prompt.encode())


def test_where_the_context_has_no_room(runs: dict[str, Path], files: Path) -> None:
    model = remask.load(runs["left"], device="cpu")
    long, short = Problem("x" * 90, "s", "1", 1, ""), Problem("x" * 66, "s", "1", 2, "")
    writing = Writing(length=20, answer_length=4, batch=2, stop=False)
    found = solve(model, [PromptedProblem(long, 0), PromptedProblem(short, 0)], writing)
    by_line = {one.problem.line: solution for one, solution in found}
    assert by_line[1] == Solution(texts=("", ""), evaluations=0, fits=False)
    assert by_line[2].evaluations == 80 - 76 and not by_line[2].fits, "as long as there was room, and then none"
    results, _ = judged(model, [long, short], [[by_line[1], by_line[2]]], writing)
    assert results[0].dropped == 2 and results[0].value == 0 and "no room for a text of 2 problems" in results[0].scored


# What is counted


def judged(
    model: Checkpoint, problems: list[Problem], of: list[list[Solution]], writing: Writing = WRITING
) -> tuple[list[Result], list[Spread]]:
    """The results of solutions under each prompt."""
    log = SolutionLog(Path())
    for template, own in enumerate(of):
        for problem, solution in zip(problems, own, strict=True):
            log.keep("r", template, problem.line, solution, 0.5)
    return results_of({"r": model.family}, Problems(Path(), problems, len(of)), writing, log)


def solutions(*texts: str) -> list[Solution]:
    return [Solution(texts=(text,), evaluations=1, fits=True) for text in texts]


def test_accuracy_by_prompt_and_over_them(runs: dict[str, Path]) -> None:
    model = remask.load(runs["left"], device="cpu")
    problems = [Problem("q", "s", answer, line, "") for line, answer in enumerate(("1,000", "2", "3", "3"))]
    of = [
        solutions("a #### 1000", "#### 2", "3", "#### 5"),
        solutions("#### $1,000", "#### 3", "so it is #### 3\n", ""),
    ]
    results, over = judged(model, problems, of)
    found = {one.task: one for one in results if one.metric == "acc"}
    assert list(found) == ["gsm8k", "gsm8k, template 2"]
    for one in found.values():
        assert one.value == 0.5 and one.interval == pytest.approx(wilson(0.5, 4)) and one.kind == "written"
        assert one.chance == 0.5 and one.questions == 4 and one.seconds == 2.0
        assert one.error == pytest.approx((0.25 * 4 / 3) ** 0.5 / 2)
    (spread,) = [one for one in over if one.metric == "acc"]
    assert spread.values == (0.5, 0.5) and spread.mean == 0.5 and spread.spread == 0
    assert spread.error == pytest.approx(((0.5**2 + 0 + 0 + 0.5**2) / 3) ** 0.5 / 2), "means 1, 1/2, 1/2, 0"
    assert judged(model, problems, of[:1])[1] == []


def test_the_second_reading_is_there_where_it_is_installed(runs: dict[str, Path]) -> None:
    pytest.importorskip("math_verify")
    model = remask.load(runs["left"], device="cpu")
    problems = [Problem("q", "s", "2", 1, ""), Problem("q", "s", "3", 2, "")]
    found, _ = judged(model, problems, [solutions("so it is 2", "#### 3")])
    assert {one.metric: one.value for one in found} == {"acc": 0.5, "math_verify": 1.0}


# The command


def command(*runs: Path, files: Path, out: Path, tasks: str = "gsm8k", more: list[str] | None = None) -> list[str]:
    short = ["--writing.length", "6", "--writing.answer-length", "4", "--writing.steps", "3", "--templates", "3"]
    return ["eval", *map(str, runs), "--tasks", tasks, "--files", str(files), "--out", str(out), *short, *(more or [])]


def test_the_command(runs: dict[str, Path], files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A masked model in three steps and its twin, which heeds no steps; and with other benchmarks beside."""
    write_rows(files / "arc_easy.jsonl", short_rows(3))
    out, both = tmp_path / "out", list(runs.values())
    cli.main(command(*both, files=files, out=out))
    page = capsys.readouterr().out
    lines = [line for line in page.splitlines() if line.startswith("| gsm8k")]
    assert len([line for line in lines if "| acc" in line]) == 8 and " 95 % |" in page and "| spread |" in page
    assert "by Confidence in 3 steps" in page and "by LeftToRight, temp" in page and "two passes of 6 tokens" in page
    kept = [json.loads(line) for line in (out / "solutions.jsonl").read_text().splitlines()]
    assert len(kept) == 2 * 3 * 4 and {one["run"] for one in kept} == set(map(str, both))
    assert all(len(one["texts"]) == 2 for one in kept)
    found = json.loads((out / "results.json").read_text())["results"]
    assert all(one["kind"] == "written" for one in found) and (out / "results.png").stat().st_size > 1000
    cli.main(command(*both, files=files, out=out, tasks="gsm8k,arc_easy", more=["--json"]))
    found = json.loads(capsys.readouterr().out)["results"]
    assert {one["task"].partition(",")[0] for one in found} == {"gsm8k", "arc_easy"}
    assert len((out / "solutions.jsonl").read_text().splitlines()) == 24, "nothing is written twice"


def test_a_stopped_command_goes_on(
    runs: dict[str, Path], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, writing = [str(runs["masked"])], Writing(length=6, answer_length=4, temperature=1.0, batch=2)
    whole = evaluate(run, "gsm8k", files, templates=2, out=tmp_path / "whole", writing=writing, settings=Settings())
    original, parts = asking.solve, []

    def stopping(*arguments: Any) -> Any:
        if len(parts) == 2:
            raise KeyboardInterrupt
        parts.append(original(*arguments))
        return parts[-1]

    monkeypatch.setattr(asking, "solve", stopping)
    out = tmp_path / "out"
    with pytest.raises(Interrupted, match="the same command goes on"):
        evaluate(run, "gsm8k", files, templates=2, out=out, writing=writing, settings=Settings())
    monkeypatch.setattr(asking, "solve", original)
    assert len((out / "solutions.jsonl").read_text().splitlines()) == 4
    with open(out / "solutions.jsonl", "a") as file:
        file.write('{"run": "cut of')
    again = evaluate(run, "gsm8k", files, templates=2, out=out, writing=writing, settings=Settings())
    for one, other in zip(whole["results"], again["results"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    logs = [(folder / "solutions.jsonl").read_text().splitlines() for folder in (tmp_path / "whole", out)]
    texts = [sorted((x["line"], x["template"], x["texts"]) for x in map(json.loads, log)) for log in logs]
    assert texts[0] == texts[1], "in other batches, the same texts"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--writing.passes", "3"], "writing.passes is '3'; it must be 1 or 2"),
        (["--templates", "4"], "templates is 4; it must be at least 1, and gsm8k has 3"),
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
        cli.main(command(runs["masked"], files=files, out=tmp_path / "out", more=arguments))
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_other_settings_are_refused(runs: dict[str, Path], files: Path, tmp_path: Path) -> None:
    run, out = [str(runs["left"])], tmp_path / "out"
    first = Writing(length=6)
    evaluate(run, "gsm8k", files, out=out, writing=first, settings=Settings())
    with pytest.raises(RemaskError, match=r"settings of gsm8k.length 6 there, 7 now. Choose another --out"):
        evaluate(run, "gsm8k", files, out=out, writing=Writing(length=7), settings=Settings())
    more = evaluate(run, "gsm8k", files, templates=2, out=out, writing=first, settings=Settings())
    assert [one["task"] for one in more["results"] if one["metric"] == "acc"] == ["gsm8k", "gsm8k, template 2"]
    assert len(more["templates"]) >= 1
    (out / "solutions.jsonl").write_text('{"run": 3}\n')
    with pytest.raises(RemaskError, match=r"solutions.jsonl, line 1 is damaged"):
        evaluate(run, "gsm8k", files, out=out, writing=first, settings=Settings())
    (out / "protocol.json").unlink()
    with pytest.raises(RemaskError, match=r"has solutions.jsonl without protocol.json"):
        evaluate(run, "gsm8k", files, out=out, writing=first, settings=Settings())


def test_the_work_is_divided_among_processes(runs: dict[str, Path], files: Path, tmp_path: Path) -> None:
    """Each solves every other batch; the solutions are the same."""
    writing = Writing(length=6, answer_length=4, temperature=1.0, batch=2)
    parts = {}
    for workers in (1, 2):
        todo = [(str(runs["masked"]), batch) for batch in batches(all_asked(files, 0), 2)]
        found = [one for i in range(workers) for one in solve_share(i, workers, Opening("cpu"), todo, writing)]
        parts[workers] = {(one.template, one.problem.line): solution for _, one, solution, _ in found}
    assert parts[1] == parts[2] and len(parts[1]) == 4
