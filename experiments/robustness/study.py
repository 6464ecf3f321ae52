"""Classifiers under attack: a masked model beside its autoregressive twin, with votes, and with adversarial training.

    OMP_NUM_THREADS=1 python experiments/robustness/study.py runs/robustness
    python experiments/robustness/study.py runs/robustness --table

Reviews of a small grammar (`remask.robustness.reviews`). Two networks of one shape learn whole reviews at equal FLOPs,
half of them with the label behind ("text => label"), half with the label before ("label: text"); the masked one is
autoregressive for the first half. Then both learn rows of prompt and label, the masked one also under perturbed
embeddings. `results.csv` and `results.png` beside this file are written from what is found; what is finished is not
done again.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import remask
from remask.data.tokens import prepare
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import choose
from remask.model.sizes import SizeOverrides
from remask.robustness.classification import Classifier
from remask.robustness.labelled import Labelled, Template
from remask.robustness.reviews import DEGREES, LABELS, THINGS, reviews
from remask.robustness.smoothing import Smoothing
from remask.robustness.verdicts import Trial, summary
from remask.training.adversarial import Adversarial
from remask.training.fine_tuning import FineTuning
from remask.training.optim import Budget
from remask.training.recipe import Recipe
from remask.training.run import train

HERE = Path(__file__).parent
LABEL_LAST, LABEL_FIRST = Template("{text} => {label}"), Template("{label}: {text}")
SHAPE = SizeOverrides(layers=2, width=64, heads=4, ffn=192)
COMMON: dict[str, Any] = {"validation_rows": 32, "left_to_right_rows": 0, "compile": "off", "length": 96}
PRETRAINING, FINE_TUNING = 200, 60
"""Steps."""
RADIUS = 0.5
TESTED = 96
"""Reviews that are classified."""
REPLACED, TRIES = 3, 8
"""Tokens that an attack may replace, and replacements that it tries for each."""
RATES = (0.6, 0.85)


def main() -> None:
    """Trains what is missing and measures, or only prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps, for a try in a folder of its own")
    parser.add_argument("--table", action="store_true", help="print what was found, and do nothing else")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.table:
        train_all(given.out, given.share)
        measure_all(given.out)
    rows = json.loads((given.out / "found.json").read_text())
    write(rows, HERE if given.share == 1 else given.out)
    for row in rows:
        print("  ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))


def train_all(out: Path, share: float) -> None:
    """The corpus and the runs that are missing."""
    write_corpus(out)
    data, steps, tuning = out / "data", round(PRETRAINING * share), round(FINE_TUNING * share)
    tokens = prepare(str(out / "texts.jsonl"), data, vocab_size=512).folder
    whole: dict[str, Any] = {**COMMON, "data": tokens, "batch": 16}
    ar, masked = Autoregressive(), Masked()
    run(out / "ar", family=ar, budget=Budget(steps=steps), architecture=SHAPE, **whole)
    run(out / "half", family=ar, budget=Budget(steps=steps // 2), architecture=SHAPE, **whole)
    run(out / "masked", family=masked, model=str(out / "half"), budget=Budget(steps=steps - steps // 2), **whole)
    rows: dict[str, Any] = {**COMMON, "data": out / "rows.jsonl", "batch": 32, "budget": Budget(steps=tuning)}
    rows |= {"sft": FineTuning(padding="none", template="none")}
    hard = Adversarial(radius=RADIUS, steps=2)
    for name, family in (("ar", ar), ("masked", Masked(ceiling=1.0))):
        run(out / f"{name}-tuned", family=family, model=str(out / name), **rows)
    run(out / "masked-adversarial", family=Masked(ceiling=1.0), model=str(out / "masked"), adversarial=hard, **rows)


def run(out: Path, **options: Any) -> None:
    """One training, unless it is done."""
    print(f"== {out.name}", flush=True)
    train(Recipe(out=out, accelerator="cpu", precision="fp32", **options))


def write_corpus(out: Path) -> None:
    """Reviews for training: whole texts for the first part, and rows of prompt and label for the second."""
    out.mkdir(parents=True, exist_ok=True)
    forms = (LABEL_LAST, LABEL_FIRST)
    texts = [{"text": forms[i % 2].fill(one)} for i, one in enumerate(reviews(5000, seed=1))]
    rows = [
        {"prompt": one.text + LABEL_LAST.between, "completion": LABEL_LAST.last(one.label)}
        for one in reviews(2600, seed=2)
    ]
    for name, records in (("texts", texts), ("rows", rows)):
        path = out / f"{name}.jsonl"
        if not path.exists():
            path.write_text("".join(json.dumps(record) + "\n" for record in records))


def measure_all(out: Path) -> None:
    """Every classifier on the same reviews, as found.json."""
    path = out / "found.json"
    found = json.loads(path.read_text()) if path.exists() else []
    for name, trial in trials(out):
        if any(row["classifier"] == name for row in found):
            continue
        for what, (value, error) in trial().items():
            found.append({"classifier": name, "measure": what, "value": value, "error": error})
            print(name, what, round(value, 3), round(error, 3), flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")


def trials(out: Path) -> Iterator[tuple[str, Any]]:
    """The name of each classifier, and a function that measures it."""
    rows = list(reviews(TESTED, seed=3))
    models = {name: remask.load(out / name, device="cpu") for name in RUNS}
    words = [id for word in (*THINGS, *DEGREES) for id in models["ar"].tokenizer.encode(f" {word}")]
    attacked = Trial(attack=REPLACED, tries=TRIES, candidates=tuple(words))
    for run_name, label in RUNS.items():
        template = LABEL_FIRST if run_name in ("ar", "masked") else LABEL_LAST
        one = classifier(models[run_name], template)
        yield label, lambda one=one: measured(one, attacked, rows)
    for rate in RATES:
        smoothing = Smoothing(rate=rate, votes=25, draws=150, steps=2)
        vote = replace(attacked, smoothing=smoothing, denoiser=models["masked"])
        for run_name in ("masked-tuned", "ar-tuned") if rate == max(RATES) else ("masked-tuned",):
            one = classifier(models[run_name], LABEL_LAST)
            label = f"{RUNS[run_name]}, {rate:.0%} filled in by the masked model"
            yield label, lambda one=one, vote=vote: measured(one, vote, rows)


RUNS = {
    "ar": "autoregressive, p(text | label)",
    "masked": "masked, p(text | label)",
    "ar-tuned": "autoregressive, p(label | text)",
    "masked-tuned": "masked, p(label | text)",
    "masked-adversarial": "masked, p(label | text), adversarial",
}


def classifier(model: Any, template: Template) -> Classifier:
    """A classifier of reviews; a bound is of 16 draws at most."""
    estimator = choose(model.family) if model.family.exact else choose(model.family, "count", draws=16)
    return Classifier(model, LABELS, template, estimator)


def measured(one: Classifier, trial: Trial, rows: list[Labelled]) -> dict[str, tuple[float, float]]:
    """What `remask classify` prints, and the same for random replacements."""
    found = summary(list(trial.run(one, rows)))
    if trial.smoothing is None:
        random = summary(list(replace(trial, tries=1).run(one, rows)))
        found["right under random replacements"] = random["right under attack"]
    return found


def write(rows: list[dict[str, Any]], folder: Path) -> None:
    """results.csv and results.png."""
    with open(folder / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(row | {"value": f"{row['value']:.4f}", "error": f"{row['error']:.4f}"})
    picture(rows, folder / "results.png")


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy of each classifier, and the certified accuracy of the votes by the tokens that are replaced."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    measures = ("right", "right under random replacements", "right under attack", "vote is right under that attack")
    names = list(dict.fromkeys(row["classifier"] for row in rows))
    for i, measure in enumerate(measures):
        own = [row for row in rows if row["measure"] == measure]
        places = [names.index(row["classifier"]) + 0.16 * (1.5 - i) for row in own]
        left.errorbar(
            [row["value"] for row in own], places, xerr=[row["error"] for row in own], fmt="o", ms=4, label=measure
        )
    left.set(yticks=range(len(names)), yticklabels=names, xlabel="share, with its standard error", xlim=(-0.02, 1.02))
    left.invert_yaxis()
    left.legend(fontsize=7)
    for name in names:
        own = [row for row in rows if row["classifier"] == name and row["measure"].startswith("certified")]
        if own:
            right.plot(
                [int(row["measure"].split()[2]) for row in own], [row["value"] for row in own], "o-", label=short(name)
            )
    right.set(xlabel="replaced tokens", ylabel="right and certified", ylim=(-0.02, 1.02))
    right.xaxis.get_major_locator().set_params(integer=True)
    right.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def short(name: str) -> str:
    """The name of a vote without what all of them have."""
    return name.replace(", p(label | text)", "").replace(" filled in by the masked model", " hidden")


if __name__ == "__main__":
    main()
