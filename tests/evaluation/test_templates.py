"""Questions in several prompt templates: the mean with its error, the spread, and whose order depends on them."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zero_shot_rows import publish, short_rows, write_rows

from remask import cli
from remask.evaluation.zeroshot.answers import Answer
from remask.evaluation.zeroshot.asking import BenchmarkQuestions, Settings
from remask.evaluation.zeroshot.command import evaluate
from remask.evaluation.zeroshot.log import Log
from remask.evaluation.zeroshot.protocol import Scoring
from remask.evaluation.zeroshot.templates import Spread, changes_of_order, spread_of
from remask.families.autoregressive import Autoregressive
from remask.tasks.zeroshot import Question, benchmark


def spread(run: str, *values: float) -> Spread:
    return Spread(run=run, task="piqa", metric="acc", values=values, mean=float(np.mean(values)), error=0.1)


def test_the_order_of_runs() -> None:
    assert changes_of_order([spread("a", 0.5, 0.6), spread("b", 0.4, 0.5)]) == []
    assert changes_of_order([spread("a", 0.5, 0.4), spread("b", 0.4, 0.5)]) == ["piqa, acc"]
    assert spread("a", 0.4, 0.6).spread == pytest.approx(0.1 * math.sqrt(2))


def test_the_error_of_a_perplexity_over_templates_is_that_of_the_jackknife() -> None:
    nats = np.random.default_rng(1).normal([[2.0], [3.0]], 0.4, (2, 60))
    one, log = benchmark("lambada_openai"), Log(Path())
    ways = [
        BenchmarkQuestions(one, Path(), dict.fromkeys(range(60), Question((("c", " w"),), (" w",), 0)), Scoring(), part)
        for part in ("", ", template 2")
    ]
    for way, own in zip(ways, nats, strict=True):
        for line, x in enumerate(own.tolist()):
            answer = Answer(nats=(x,), groups=((),), errors=(0.0,), kind="exact", greedy=(True,))
            log.keep("run", way.name, line, answer, 0.0)
    each = [math.exp(own.mean()) for own in nats]
    found = spread_of("run", "lambada_openai", "perplexity", ways, each, log)
    without = [np.mean([math.exp(np.delete(own, i).mean()) for own in nats]) for i in range(60)]
    assert found.mean == pytest.approx(np.mean(each))
    assert found.error == pytest.approx(math.sqrt(59 * np.var(without)), rel=0.03)


def test_the_command(tmp_path: Path, capsys: Any) -> None:
    run, files, out = publish(tmp_path / "left", Autoregressive()), tmp_path / "files", tmp_path / "out"
    write_rows(files / "arc_easy.jsonl", short_rows())
    write_rows(files / "lambada_openai.jsonl", [{"text": f"number {i} is {i}"} for i in range(5)])
    command = ["eval", str(run), "--tasks", "arc_easy,lambada_openai", "--files", str(files), "--out", str(out)]
    cli.main([*command, "--templates", "3"])
    page = capsys.readouterr().out
    assert page.strip() == (out / "results.md").read_text().strip() and "| arc_easy, template 3 " in page
    found = json.loads((out / "results.json").read_text())
    logged = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    of = {(one["task"], one["metric"]): one for one in found["results"]}
    over = {(one["task"], one["metric"]): one for one in found["templates"]}
    names = {task: [task, f"{task}, template 2", f"{task}, template 3"] for task in ("arc_easy", "lambada_openai")}
    assert over.keys() == {(task, metric) for task, metric in of if "template" not in task}
    for (task, metric), one in over.items():
        assert one["values"] == [of[name, metric]["value"] for name in names[task]]
        assert one["mean"] == pytest.approx(np.mean(one["values"]))
    nats = {(one["task"], one["line"]): one["nats"] for one in logged}
    right = [[int(np.argmin(nats[name, i + 1]) == i % 3) for name in names["arc_easy"]] for i in range(12)]
    expected = np.std(np.mean(right, axis=1), ddof=1) / math.sqrt(12)
    assert over["arc_easy", "acc"]["error"] == pytest.approx(expected)
    assert nats["arc_easy", 1] != nats["arc_easy, template 2", 1]
    # the answers in the first template are those of a command without templates
    before = len(logged)
    alone = evaluate([str(run)], "arc_easy", files, out=out, settings=Settings())
    assert "templates" not in alone and len((out / "answers.jsonl").read_text().splitlines()) == before
    with pytest.raises(SystemExit):
        cli.main([*command, "--templates", "4"])
    assert "templates is 4; it must be at least 1, and arc_easy has 3" in capsys.readouterr().err
