"""Reinforcement from computed rewards: a masked model and its autoregressive twin learn countdown from being right.

    python experiments/rl/study.py OUT
    python experiments/rl/study.py OUT --table

Two networks of one shape first learn right answers, one question a row, for equally many steps. Then each goes on by
`remask.reinforce`, with every objective and seed; what it does with questions held out is measured before, meanwhile
and after. What is finished is not done again, and what was stopped goes on. `results.csv` and `results.png` beside this
file are written anew from all that is finished.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import remask
from remask.data.tokens import prepare
from remask.evaluation.questions import different
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.files import write_atomically
from remask.model.sizes import SizeOverrides
from remask.seeds import mix_seeds
from remask.tasks.base import task_of
from remask.training.fine_tuning import FineTuning
from remask.training.optim import Budget, Optimizer
from remask.training.recipe import Recipe
from remask.training.reinforcement.prompts import LOOKED_AT

HERE = Path(__file__).parent
TASK = "Countdown:numbers=3,largest=10"
SHAPE = SizeOverrides(layers=3, width=64, heads=4, ffn=192)
FAMILIES = {"masked": Masked(), "autoregressive": Autoregressive()}
RUNS = (("masked", "JustGRPO"), ("autoregressive", "JustGRPO"), ("masked", "WD1"))
SEEDS = (0, 1, 2)
ROWS, LEARNING = 20000, 1000
"""Questions with answers, and steps of 32 of them, by which the models learn before."""
STEPS, EVERY = 60, 20
"""Steps of reinforcement, 64 texts of 8 prompts each, and how often what they bring is measured."""
RATE = Optimizer(kind="adamw", lr=1e-3, weight_decay=0.0, floor=1.0, schedule="wsd", decay=0.01, warmup=2)
QUESTIONS, DRAWS = 128, 4
"""Questions held out, and texts drawn for each at temperature 1."""
COLUMNS = ("family", "objective", "seed", "step", "way", "right", "error", "passes", "gained", "gained_error")


def main() -> None:
    """Does what is missing, or only writes the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--table", action="store_true", help="print what was found, and do nothing else")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        for family in FAMILIES:
            learn(family, given.out)
            measure(family, given.out / family, given.out / "measured" / f"{family}.json")
        for seed in SEEDS:
            for family, objective in RUNS:
                reinforce(family, objective, seed, given.out)
    rows = list(results(given.out))
    if rows:
        write(rows, HERE)
    print(table(rows))


def learn(family: str, out: Path) -> None:
    """Rows, a tokenizer, and the model that reinforcement starts from."""
    task = task_of(TASK)
    for split, count in (("train", ROWS), ("valid", 200)):
        path = out / f"{split}.jsonl"
        if not path.exists():
            some = islice(task.examples(split), count)
            lines = (json.dumps({"prompt": one.prompt, "completion": one.answer}) for one in some)
            write_atomically(path, "\n".join(lines) + "\n")
    name, _, options = TASK.partition(":")
    tokenizer = prepare(f"task:{name},{options},documents=2000", out / "tokenizer", vocab_size=512)
    remask.train(
        Recipe(
            data=out / "train.jsonl",
            out=out / family,
            family=FAMILIES[family],
            architecture=SHAPE,
            sft=FineTuning(validation=out / "valid.jsonl", tokenizer=str(tokenizer.folder)),
            budget=Budget(steps=LEARNING),
            length=64,
            batch=32,
            compile="off",
            left_to_right_rows=0,
        )
    )


def reinforce(family: str, objective: str, seed: int, out: Path) -> None:
    """One run, in parts, after each of which the questions held out are answered."""
    run = out / f"{family}-{objective}-{seed}"
    for steps in range(EVERY, STEPS + 1, EVERY):
        path = out / "measured" / f"{run.name}-{steps:04}.json"
        if path.exists():
            continue
        recipe = remask.Reinforcement(
            model=str(out / family), out=run, tasks=[TASK], objective=f"{objective}:group=8", batch=64, seed=seed,
            budget=Budget(steps=steps), optimizer=RATE, log_every=1,
        )  # fmt: skip
        remask.reinforce(recipe)
        measure(family, run, path, whole=steps == STEPS)


def ways_of(family: str, room: int) -> dict[str, dict[str, Any]]:
    """How questions held out are answered."""
    if family == "autoregressive":
        return {
            "drawn": {"sampler": "LeftToRight"},
            "left to right": {"sampler": "LeftToRight", "temperature": 0.0},
        }
    return {
        "drawn": {"sampler": "Confidence:rule=left"},
        "left to right": {"sampler": "Confidence:rule=left", "temperature": 0.0},
        "most certain first": {"sampler": "Confidence", "temperature": 0.0},
        "two at once": {"sampler": "Confidence", "steps": (room + 1) // 2, "temperature": 0.0},
    }


def measure(family: str, run: Path, path: Path, whole: bool = True) -> None:
    """Writes the share of right answers to each question, and the passes of a text, in each way; or only as drawn."""
    if path.exists():
        return
    checkpoint, task = remask.load(run, device="cpu"), task_of(TASK)
    asked = different(TASK, task.examples("test", 0), QUESTIONS)
    known = islice(task.examples("train"), LOOKED_AT)
    room = 1 + max(len(checkpoint.tokenizer.encode(one.answer)) for one in known)
    found = {}
    for way, options in ways_of(family, room).items():
        if not whole and way != "drawn":
            continue
        drawn = DRAWS if way == "drawn" else 1
        every = [(one, draw) for one in asked for draw in range(drawn)]
        texts = remask.sample(
            checkpoint,
            prompt=[one.prompt for one, _ in every],
            seed=[mix_seeds(i) for i in range(len(every))],
            length=room,
            **options,
        )
        right = [float(task.right(one.question, s.text)) for (one, _), s in zip(every, texts, strict=True)]
        shares = [sum(right[i : i + drawn]) / drawn for i in range(0, len(right), drawn)]
        found[way] = {"right": shares, "passes": sum(s.evaluations for s in texts) / len(texts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(found))


def results(out: Path) -> Iterator[dict[str, Any]]:
    """A row for each model and way. Errors are standard errors between questions; `gained` is the difference to the
    model before, on the same questions, with its own."""
    for path in sorted((out / "measured").glob("*.json")):
        family, _, rest = path.stem.partition("-")
        objective, seed, step = rest.split("-") if rest else ("before", "", "0")
        before = json.loads((out / "measured" / f"{family}.json").read_text())
        for way, one in json.loads(path.read_text()).items():
            right = torch.tensor(one["right"], dtype=torch.float64)
            gained = right - torch.tensor(before[way]["right"], dtype=torch.float64)
            yield {
                "family": family, "objective": objective, "seed": seed, "step": int(step), "way": way,
                "right": round(float(right.mean()), 4), "error": round(error(right), 4),
                "passes": round(one["passes"], 2),
                "gained": round(float(gained.mean()), 4), "gained_error": round(error(gained), 4),
            }  # fmt: skip


def error(values: torch.Tensor) -> float:
    """The standard error of a mean."""
    return float(values.std() / len(values) ** 0.5)


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """results.csv, and results.png: the share of right texts among those drawn, by the steps of reinforcement."""
    from matplotlib.figure import Figure

    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for i, (family, objective) in enumerate(RUNS):
        start = [r for r in rows if (r["family"], r["objective"], r["way"]) == (family, "before", "drawn")]
        drawn = [r for r in rows if (r["family"], r["objective"], r["way"]) == (family, objective, "drawn")]
        for seed in map(str, SEEDS):
            curve = sorted([*start, *(r for r in drawn if r["seed"] == seed)], key=lambda r: r["step"])
            label = f"{family}, {objective}" if seed == str(SEEDS[0]) else None
            axes.errorbar(
                [r["step"] + 0.4 * (i - 1) for r in curve],
                [r["right"] for r in curve],
                [r["error"] for r in curve],
                color=f"C{i}", marker="o", markersize=3, capsize=2, label=label,
            )  # fmt: skip
    axes.set(xlabel="steps of reinforcement", ylabel="right texts, questions held out", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / "results.png", dpi=120)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: each family and way, before and after the last step, the mean over seeds.

    The error of the gain is that between questions; the gains of the seeds stand behind it.
    """
    lines = ["| family | way | before | objective | after | gain | gains of seeds |", "|---|---|---|---|---|---|---|"]
    for first in (r for r in rows if r["objective"] == "before"):
        for family, objective in RUNS:
            if family != first["family"]:
                continue
            key = (family, objective, first["way"])
            own = [r for r in rows if (r["family"], r["objective"], r["way"]) == key and r["step"] == STEPS]
            if not own:
                continue
            after, gain, wrong = (sum(r[x] for r in own) / len(own) for x in ("right", "gained", "gained_error"))
            seeds = ", ".join(f"{r['gained']:+.2f}" for r in own)
            lines.append(
                f"| {first['family']} | {first['way']} | {first['right']:.2f} ± {first['error']:.2f} | {objective} | "
                f"{after:.2f} | {gain:+.2f} ± {wrong:.2f} | {seeds} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
