"""A masked model corrects the drafts of an autoregressive one: right answers and a judge's likelihood, before and
after.

    OMP_NUM_THREADS=1 python experiments/drafts/study.py runs/drafts
    python experiments/drafts/study.py runs/drafts --table

List operations (`remask.tasks`), one question a row, noise and loss on the answers only. Networks of one shape: the
writer (autoregressive); the corrector (masked; autoregressive for its first half), of equal FLOPs; and a judge
(autoregressive, with another seed and twice the steps). The writer's drafts are drawn at temperature 1 and written
greedily; each way of revising meets the same drafts. `results.csv` and `results.png` beside this file are written from
what is found.
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import remask
from remask.data.tokens import prepare
from remask.evaluation.questions import questions_of
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.sizes import SizeOverrides
from remask.robustness.drafts import Draft
from remask.robustness.judging import judged
from remask.robustness.revising import Revised, revise
from remask.robustness.revision import Revision
from remask.tasks.base import Example, Task
from remask.tasks.rows import write_rows
from remask.training.fine_tuning import FineTuning
from remask.training.optim import Budget
from remask.training.recipe import Recipe
from remask.training.run import train

HERE = Path(__file__).parent
TASKS = ("Reverse", "Sort")
ITEMS, QUESTIONS = 4, 60
STEPS = 700
SHAPE: dict[str, Any] = {"validation_rows": 32, "left_to_right_rows": 0, "compile": "off", "length": 48, "batch": 32}
SMALL = SizeOverrides(layers=2, width=64, heads=4, ffn=192)
WAYS = {
    "certainty, 20 %": Revision(share=0.2),
    "certainty, 40 %": Revision(share=0.4),
    "certainty, 20 %, three rounds": Revision(share=0.2, rounds=3),
    "random, 20 %": Revision(share=0.2, choose="random"),
    "random, 40 %": Revision(share=0.4, choose="random"),
    "all written anew": Revision(share=1.0),
}


def main() -> None:
    """Trains what is missing and measures, or only prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, for a try in a folder of its own")
    parser.add_argument("--table", action="store_true", help="print what was found, and do nothing else")
    given = parser.parse_args()
    torch.set_num_threads(1)
    path = given.out / "found.json"
    if not given.table:
        train_all(given.out, round(STEPS * given.share))
        path.write_text(json.dumps(list(measure(given.out)), indent=1) + "\n")
    rows = json.loads(path.read_text())
    write(rows, HERE if given.share == 1 else given.out)
    for row in rows:
        print("  ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))


def train_all(out: Path, steps: int) -> None:
    """The rows, the tokenizer and the runs that are missing."""
    source = f"task:{'+'.join(TASKS)},items={ITEMS}"
    write_rows(f"{source},documents=12000", out / "rows.jsonl")
    write_rows(f"{source},documents=100,split=valid", out / "valid.jsonl")
    tokens = prepare(f"{source},documents=2000", out / "tokenizer", vocab_size=512).folder
    sft = FineTuning(validation=out / "valid.jsonl", template="none", padding="none")
    given: dict[str, Any] = {**SHAPE, "data": out / "rows.jsonl", "accelerator": "cpu", "precision": "fp32"}
    fresh = {"architecture": SMALL, "sft": FineTuning(**vars(sft) | {"tokenizer": str(tokens)})}
    left, half = Autoregressive(), steps // 2
    for name, family, budget, more in (
        ("writer", left, steps, fresh),
        ("judge", left, 2 * steps, fresh | {"seed": 1}),
        ("half", left, half, fresh),
        ("corrector", Masked(), steps - half, {"model": str(out / "half"), "sft": sft}),
    ):
        print(f"== {name}", flush=True)
        train(Recipe(out=out / name, family=family, budget=Budget(steps=budget), **given, **more))


def measure(out: Path) -> Iterator[dict[str, Any]]:
    """Each task, temperature of the drafts, and way of revising."""
    writer, corrector, judge = (remask.load(out / name, device="cpu") for name in ("writer", "corrector", "judge"))
    for name in TASKS:
        asked = questions_of(f"{name}:items={ITEMS}", QUESTIONS, 0, 0, None)[0]
        prompts = [one.prompt for one in asked.examples]
        for temperature in (1.0, 0.0):
            samples = remask.sample(writer, prompt=prompts, length=asked.length(writer) + 1, temperature=temperature)
            drafts = [Draft(p, s.text, s.ended) for p, s in zip(prompts, samples, strict=True) if s.text]
            examples = [one for one, s in zip(asked.examples, samples, strict=True) if s.text]
            unchanged = [Revised(d.prompt, d.text, d.text, 0, 1) for d in drafts]
            before = right_of(asked.task, examples, unchanged)
            yield row(name, temperature, "drafts", before, before, unchanged, judge, "drafts")
            for way, how in WAYS.items():
                revised = list(revise(corrector, drafts, how))
                after = right_of(asked.task, examples, revised)
                yield row(name, temperature, way, after, before, revised, judge, "revised")


def right_of(task: Task, examples: list[Example], texts: list[Revised]) -> np.ndarray:
    """(n,) 1 where an answer is right."""
    return np.array([float(task.right(e.question, t.text)) for e, t in zip(examples, texts, strict=True)])


def row(
    name: str,
    temperature: float,
    way: str,
    right: np.ndarray,
    before: np.ndarray,
    texts: list[Revised],
    judge: Any,
    of: str,
) -> dict[str, Any]:
    """A line of the table: right answers, what became right and wrong, and the judge's nats per token."""
    quality = judged(judge, texts)[of]
    found = {"task": name, "temperature": temperature, "way": way, "drafts": len(right)}
    found |= {"right": float(right.mean()), "right_error": float(right.std(ddof=1)) / math.sqrt(len(right))}
    found |= {"mended": float((right > before).mean()), "spoilt": float((right < before).mean())}
    found |= {"judge_nats": quality.nll, "judge_error": quality.nll_error, "entropy": quality.entropy}
    found |= {"changed_tokens": sum(one.changed for one in texts) / len(texts)}
    print("  ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in found.values()), flush=True)
    return found


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """results.csv and results.png."""
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in one.items()} for one in rows)
    picture(rows, folder / "results.png")


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each task: right answers of the drafts at temperature 1, and after each way of revising them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(TASKS), sharey=True), TASKS, strict=True):
        for shift, temperature in ((-0.12, 1.0), (0.12, 0.0)):
            own = [one for one in rows if (one["task"], one["temperature"]) == (name, temperature)]
            places = [i + shift for i in range(len(own))]
            errors = [one["right_error"] for one in own]
            label = f"drafts at temperature {temperature:g}"
            axes.errorbar([one["right"] for one in own], places, xerr=errors, fmt="o", ms=4, label=label)
            axes.set(yticks=range(len(own)), yticklabels=[one["way"] for one in own], xlim=(-0.02, 1.02))
        axes.set(title=name, xlabel="right answers, with their standard error")
    figure.axes[0].invert_yaxis()
    figure.axes[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
