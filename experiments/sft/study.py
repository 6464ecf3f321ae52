"""Supervised fine-tuning in miniature: models of abstracts learn to give an abstract its title.

    python experiments/sft/study.py arxiv_cs_abstracts_2008_2019.jsonl OUT
    python experiments/sft/study.py arxiv_cs_abstracts_2008_2019.jsonl OUT --report

A masked model and its autoregressive twin of the size `tiny` are trained on abstracts without titles, at equal FLOPs,
and fine-tuned on pairs of an abstract and its title; the masked one also in each way that the papers of SMDM and LLaDA
choose between, and both without the abstracts before. Then each is asked for the titles of abstracts that none has
read. Runs that are finished are not run again, one that was stopped goes on, and so do the answers. `results.csv` and
`results.png` beside this file are written anew from all finished runs.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

HERE = Path(__file__).resolve().parent
ASKED = "\n\nTitle:"
READ = 400
"""Characters of an abstract that are shown."""
HELD_OUT = 12
"""One of this many abstracts is neither read nor learnt from."""
COMMON = "--length 160 --batch 32 --compile off --left_to_right_rows 0 --validation_rows 32"
MASKED, TWIN = "--family Masked", "--family Autoregressive"
VARIANTS = {
    "masked": (MASKED, True),
    "masked, no end-of-text padding": (f"{MASKED} --sft.padding none", True),
    "masked, each reply weighs the same": (f"{MASKED} --sft.weights examples", True),
    "masked, adapters of rank 16": (f"{MASKED} --lora.rank 16", True),
    "masked, not trained on abstracts": (MASKED, False),
    "autoregressive": (TWIN, True),
    "autoregressive, not trained on abstracts": (TWIN, False),
}
"""The options, and whether the run starts from the model of abstracts."""
WRITTEN = "--length 32 --temperature 0"
"""A canvas of 32 tokens, in random order; the autoregressive models from left to right."""
WAYS = {
    "a canvas of 64, in random order": "--length 64 --temperature 0",
    "a canvas of 64, the most certain first": "--length 64 --temperature 0 --sampler Confidence",
    "a canvas of 64, blocks of 8, the most certain first": "--length 64 --temperature 0 --sampler Confidence --block 8",
}
"""Other ways in which the masked model is asked to write: end-of-text tokens, which it is certain of, flood a canvas
that is filled where it is most certain first."""


def main() -> None:
    """Trains what is missing, asks for titles, and writes the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("abstracts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=600, help="steps of the training on abstracts")
    parser.add_argument("--tuning", type=int, default=400, help="steps of the fine-tuning")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--draws", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="report only, of what is finished")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    divide(given.abstracts, given.out, given.questions)
    if not given.report:
        remask(given.out / "prepare.log", "prepare", given.out / "read.jsonl", "--vocab-size", 4096, "--out",
               given.out / "data")  # fmt: skip
        with ThreadPoolExecutor(given.workers) as pool:
            list(pool.map(lambda family: pretrain(given, family), (MASKED, TWIN)))
            list(pool.map(lambda name: fine_tune(given, name), VARIANTS))
            list(pool.map(lambda name: score(given, name), VARIANTS))
            list(pool.map(lambda row: ask(given, *row), rows()))
    report(given.out)


def divide(abstracts: Path, out: Path, questions: int) -> None:
    """read.jsonl: abstracts; titles.jsonl: their beginnings, each with its title; questions.jsonl and answers.jsonl:
    those of others."""
    rows = [json.loads(line) for line in abstracts.read_text(encoding="utf-8").splitlines() if line.strip()]
    held = rows[::HELD_OUT][:questions]
    apart = {row["text"] for row in rows[::HELD_OUT]}
    learnt = [row for row in rows if row["text"] not in apart]
    tuned = [{"prompt": beginning(row["text"]) + ASKED, "completion": f" {row['title']}"} for row in learnt]
    asked = [{"question_id": number, "turns": [beginning(row["text"]) + ASKED]} for number, row in enumerate(held)]
    files = {
        "read": [{"text": row["text"]} for row in learnt],
        "titles": tuned,
        "questions": asked,
        "answers": [{"title": row["title"]} for row in held],
    }
    for name, lines in files.items():
        path, text = out / f"{name}.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def beginning(text: str) -> str:
    """The first words of an abstract."""
    return text if len(text) <= READ else text[:READ].rpartition(" ")[0]


def remask(log: Path, *arguments: Any) -> None:
    """One command, on one thread."""
    with open(log, "a") as file:
        command = [sys.executable, "-m", "remask", *map(str, arguments)]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=file, stderr=file, check=True)


def folder_of(out: Path, name: str) -> Path:
    """The run of a variant."""
    return out / re.sub(r"\W+", "-", name)


def pretrain(given: argparse.Namespace, family: str) -> None:
    """A model of abstracts."""
    run = folder_of(given.out, f"abstracts {family.split()[-1]}")
    options = ["--data", given.out / "data", "--model", given.model, *family.split()]
    train(run, options, given.steps, given.seed)


def fine_tune(given: argparse.Namespace, name: str) -> None:
    """A model of titles."""
    options, started = VARIANTS[name]
    start = ["--model", given.model, "--sft.tokenizer", given.out / "data"]
    if started:
        start = ["--model", folder_of(given.out, f"abstracts {options.split()[1]}")]
    data = ["--data", given.out / "titles.jsonl", "--sft.skip-bad"]
    train(folder_of(given.out, name), [*data, *start, *options.split()], given.tuning, given.seed)


def train(run: Path, options: list[Any], steps: int, seed: int) -> None:
    """One run, unless it is finished."""
    if (run / "done").exists():
        return
    print(f"training {run.name}", flush=True)
    more = ["--budget.steps", steps, "--validate_every", steps, "--seed", seed, "--out", run]
    remask(run.with_suffix(".log"), "train", *options, *COMMON.split(), *more)
    (run / "done").touch()


def rows() -> list[tuple[str, str, str]]:
    """The rows of the table: the variant, how it is asked to write, and the options for that."""
    usual = [(name, "", WRITTEN) for name in VARIANTS]
    return usual + [("masked", way, options) for way, options in WAYS.items()]


def file_of(out: Path, name: str, way: str) -> Path:
    """The answers of a row."""
    return folder_of(out, f"{name} {way}".strip()).with_suffix(".jsonl")


def ask(given: argparse.Namespace, name: str, way: str, options: str) -> None:
    """The titles that a model writes."""
    run, file = folder_of(given.out, name), file_of(given.out, name, way)
    print(f"asking {file.stem}", flush=True)
    more = ["--questions", given.out / "questions.jsonl", "--out", file, *options.split()]
    remask(file.with_suffix(".log"), "answer", run, *more)


def score(given: argparse.Namespace, name: str) -> None:
    """How probable the true titles are to a model."""
    run = folder_of(given.out, name)
    if not run.with_suffix(".scores").exists():
        print(f"scoring {run.name}", flush=True)
        command = [sys.executable, HERE / "score.py", run, given.out, given.draws]
        with open(run.with_suffix(".log"), "a") as log:
            subprocess.run([str(part) for part in command], env=os.environ | {"OMP_NUM_THREADS": "1"},
                           stdout=log, stderr=log, check=True)  # fmt: skip


def report(out: Path) -> None:
    """results.csv, a table, titles to read, and the picture."""
    titles = [json.loads(line)["title"] for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    table, written = [], {}
    for name, way, _ in rows():
        file, scores = file_of(out, name, way), folder_of(out, name).with_suffix(".scores")
        if not file.exists() or not scores.exists():
            continue
        answers = map(json.loads, file.read_text(encoding="utf-8").splitlines())
        replies = [line["choices"][0]["turns"][0] for line in answers]
        written[file.stem] = replies
        found = json.loads(scores.read_text())
        table.append({"variant": name, "written": way} | measures(replies, titles, found))
    with open(HERE / "results.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    for row in table:
        print(" | ".join(str(value) for value in row.values()))
    for number in range(4):
        print(f"\n{titles[number]}")
        for name, replies in written.items():
            print(f"    {name}: {replies[number]}")
    picture([row for row in table if not row["written"]], HERE / "results.png")


def measures(replies: list[str], titles: list[str], scores: dict[str, Any]) -> dict[str, Any]:
    """What a line of the table says: means over the questions, with their standard errors."""
    own = [overlap(reply, title) for reply, title in zip(replies, titles, strict=True)]
    other = [overlap(reply, title) for reply, title in zip(replies, titles[1:] + titles[:1], strict=True)]
    found: dict[str, Any] = {"questions": len(titles)}
    values = {
        "bits_per_byte": scores["bits_per_byte"],
        "gain_of_the_abstract": scores["gain"],
        "word_f1": own,
        "word_f1_of_others": other,
    }
    for key, value in values.items():
        found[key] = round(mean(value), 4)
        found[f"{key}_error"] = round(stdev(value) / len(value) ** 0.5, 4)
    found["words"] = round(mean(len(words(reply)) for reply in replies), 2)
    found["empty"] = round(mean(not words(reply) for reply in replies), 3)
    found["words_of_the_title"] = round(mean(len(words(title)) for title in titles), 2)
    return found


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return re.findall(r"\w+", text.lower())


def overlap(reply: str, title: str) -> float:
    """The F1 of the words of two texts."""
    mine, theirs = Counter(words(reply)), Counter(words(title))
    both = sum((mine & theirs).values())
    return 2 * both / (sum(mine.values()) + sum(theirs.values())) if both else 0.0


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Bits per byte of the true titles (of masked models a bound), and the F1 of the written words."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.4), layout="constrained")
    names = [row["variant"] for row in rows]
    colours = ["#cf222e" if name.startswith("auto") else "#0969da" for name in names]
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, key, label in (
        (left, "bits_per_byte", "bits per byte of the true title"),
        (right, "word_f1", "F1 of the words"),
    ):
        errors = [1.96 * row[f"{key}_error"] for row in rows]
        axes.barh(names, [row[key] for row in rows], xerr=errors, color=colours, capsize=2, error_kw={"linewidth": 0.8})
        axes.set_xlabel(label)
    others = [row["word_f1_of_others"] for row in rows]
    right.barh(names, others, color="#00000055", height=0.3, label="another's title")
    right.legend(frameon=False, fontsize=8)
    left.invert_yaxis()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
