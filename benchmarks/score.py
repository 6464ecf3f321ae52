"""How long a likelihood takes, at equal standard error, against the published estimator.

    python benchmarks/score.py --run runs/x --text novel.txt     # a trained masked model; some 3 minutes on 2 cores
    python benchmarks/score.py --run runs/x                      # on texts that the model itself writes
    python benchmarks/score.py --run runs/x --items lambada.jsonl --questions arc_easy.jsonl --limit 200
    python benchmarks/score.py --quick

Texts of 64 tokens behind prompts of 64. The baseline is SMDM's estimator as its description has it: one
request at a time, 1024 draws in batches of 32, rates stratified within a batch, independent masks,
logits of every position. Ours is `remask.likelihood.score`: texts together, logits where masked, and for
the estimator "count" about as many draws as reach the same error. With `--items`, lines with prompt and text (or
context and continuation), those are scored in place of texts of 64 tokens. First the errors are measured: theirs as
the spread of its batches, ours as the spread over seeds, on the same few texts. Then both are timed in turn:
the published one on one batch of each text, since time is linear in the batches, and ours on as many rows
or, with `--items`, on all texts. Weights 1/p on
independent masks have, strictly, no finite variance (the integral of 1/p over p diverges, slowly): the
error of the published estimator is what these draws happened to show, good to perhaps a third.

With `--questions`, lines with prompt and answers (or query and choices), and without `--run`, a second table
compares `remask.likelihood.rank`, which stops when the best answer is known, with all draws: time, and how
often the best answer is that of 1024 draws.

Without `--run` the weights are random: the time of a draw is right, but such a network finds every
token about equally improbable, so that exactly counted masks have next to no error. Do not quote
its ratio at equal error.
"""

import argparse
import itertools
import math
import time
from dataclasses import replace
from pathlib import Path

import torch
from measure import FORMAT, WEIGHTS, Row, alternate, options, pair, peaks, plain_logits, publish
from rankings import Questions, measure_ranking, questions_of, random_questions, texts_of
from torch import Tensor
from torch.nn.functional import cross_entropy

import remask
from remask.errors import RemaskError
from remask.families import Family
from remask.families.masked import Masked
from remask.likelihood import Request, score
from remask.machine import keep_memory
from remask.model.sizes import size
from remask.model.transformer import Transformer, initialise
from remask.sampling import Canvas, SamplingParams, fill
from remask.sampling.ancestral import Ancestral
from remask.vocabulary import Vocabulary

DRAWS, BATCH = 1024, 32
"""Of the published estimator."""
PROMPT = TARGET = 64
SEEDS, PILOT, FEW = 16, 32, 16
"""Seeds over which our spread is measured, the draws with which it is measured first, and the texts."""


@torch.inference_mode()
def published(model: Transformer, text: Request, mask: int, batches: int, rng: torch.Generator) -> Tensor:
    """(batches,) nats: SMDM's estimate from each batch of 32 draws; their mean is its answer."""
    row = torch.tensor([*text.prompt, *text.target]).repeat(BATCH, 1)
    first, found = len(text.prompt), []
    for _ in range(batches):
        rate = (torch.rand((), generator=rng) + torch.arange(BATCH) / BATCH) % 1
        hidden = torch.rand(row.shape, generator=rng) < rate[:, None]
        hidden[:, :first] = False
        logits = plain_logits(model, row.masked_fill(hidden, mask))  # (B, L, V)
        nats = cross_entropy(logits[hidden], row[hidden], reduction="none")
        found.append((nats / rate[:, None].expand_as(hidden)[hidden]).sum() / BATCH)
    return torch.stack(found).double()


def subject(given: argparse.Namespace, name: str) -> tuple[Transformer, Family, list[Request], str, Questions]:
    """The model, its family, the texts, a sentence about them, and the questions."""
    count, length, questions = 8 if given.quick else 32, PROMPT + TARGET, Questions()
    if given.run is None:
        vocabulary = Vocabulary(513, 512, 0) if given.quick else Vocabulary(8193, 8192, 0)
        model = Transformer(replace(size(name), rows=vocabulary.size, predicted=vocabulary.predicted))
        initialise(model, "smdm", torch.Generator().manual_seed(0))
        model.to(WEIGHTS).eval().requires_grad_(False)
        rows = torch.randint(vocabulary.predicted, (count, length), generator=torch.Generator().manual_seed(1))
        family, about = Masked().over(vocabulary), f"{name}, V = {vocabulary.predicted}, random weights and texts: "
        about += "the ratio at equal error means nothing here"
        questions = random_questions(family, 4 if given.quick else 32)
    else:
        checkpoint = remask.load(given.run, dtype=WEIGHTS)
        model, family, shape = checkpoint.model, checkpoint.family, checkpoint.model.architecture
        if "count" not in family.estimators:
            raise SystemExit(f"--run {given.run}: the estimators are for masked models")
        about = f"trained, {shape.non_embedding / 1e6:.1f} M parameters without embeddings, V = {shape.predicted}; "
        if given.questions is not None:
            questions = questions_of(checkpoint, given.questions, given.limit)
        if given.items is not None:
            texts = texts_of(checkpoint, given.items, given.limit)
            return model, family, texts, about + f"texts of {given.items.name}", questions
        if given.text is None:
            canvas = Canvas.of([[None] * length] * count)
            written = fill(model, family, canvas, SamplingParams(sampler=Ancestral(), stop=False, seed=1))
            rows, about = written.tokens, about + "texts that it wrote itself"
        else:
            ids = torch.tensor(checkpoint.tokenizer.encode(given.text.read_text()))
            if len(ids) < count * length:
                raise SystemExit(f"--text {given.text} has {len(ids)} tokens; {count * length} are needed")
            starts = torch.linspace(0, len(ids) - length, count).long()
            rows, about = torch.stack([ids[s : s + length] for s in starts]), about + "pieces of a text"
    texts = [Request(row[PROMPT:], row[:PROMPT]) for row in rows.tolist()]
    return model, family, texts, about, questions


def rms(values: list[float]) -> float:
    """Root of the mean square: how errors of texts are averaged."""
    return math.sqrt(sum(v * v for v in values) / len(values))


def measure_count(model: Transformer, family: Family, texts: list[Request], draws: int) -> tuple[float, float, Tensor]:
    """Of the estimator "count" with so many draws: its spread over seeds, the error that it reports, both in nats of a
    text, and (N, SEEDS) values."""
    repeated = [replace(text, noise_key=f"{i}, {seed}") for i, text in enumerate(texts) for seed in range(SEEDS)]
    found = [estimate for _, estimate in score(model, family, repeated, estimator="count", draws=draws)]
    values = torch.tensor([estimate.nats for estimate in found], dtype=torch.float64).view(len(texts), SEEDS)
    return rms(values.std(1).tolist()), rms([estimate.stderr for estimate in found]), values


def main() -> None:
    parser = options(__doc__, size="10M", toy="tiny", repeats=5)
    parser.add_argument("--run", type=Path, help="run or published folder of a trained masked model")
    parser.add_argument("--text", type=Path, help="text file to cut the texts from; needs --run")
    parser.add_argument("--items", type=Path, help="JSONL of texts to score instead; needs --run")
    parser.add_argument("--questions", type=Path, help="JSONL of questions to rank; needs --run")
    parser.add_argument("--only_questions", action="store_true", help="leave the texts out; needs --questions")
    parser.add_argument("--limit", type=int, default=200, help="most items and questions that are taken (200)")
    given = parser.parse_args()
    if (given.items or given.questions) and given.run is None:
        parser.error("--items and --questions need --run: random weights come without a tokenizer")
    if given.only_questions and given.questions is None and not given.quick:
        parser.error("--only_questions needs --questions")
    if given.text is not None and given.run is None:
        parser.error("--text needs --run: random weights come without a tokenizer")
    if given.limit < 1:
        parser.error(f"--limit is {given.limit}; it must be at least 1")
    name, repeats = given.of(given)
    keep_memory()
    try:
        model, family, texts, about, questions = subject(given, name)
    except RemaskError as error:  # a run or a file that is not what it should be
        parser.error(str(error))
    number = 2 if given.quick else FEW
    if given.only_questions:
        ranked, times, notes = measure_ranking(model, family, questions, repeats, given)
        return publish("rank", "Ranking answers", [f"Model: {about}; {FORMAT}", *notes], [ranked], [times], given)
    few = texts[:: max(1, len(texts) // number)][:number]
    timed = few if given.items is None else texts
    rng = torch.Generator().manual_seed(2)

    # the errors, in nats of a whole text
    batches = DRAWS // BATCH
    theirs = [published(model, text, family.mask, batches, rng) for text in few]
    their_error = rms([float(v.std()) / math.sqrt(batches) for v in theirs])
    pilot, _, _ = measure_count(model, family, few, PILOT)
    draws = max(8, 8 * round(PILOT * (pilot / their_error) ** 2 / 8))
    spread, reported, values = measure_count(model, family, few, draws)
    gap = float(torch.stack([v.mean() for v in theirs]).mean() - values.mean())
    gap_error = math.sqrt(their_error**2 + spread**2 / SEEDS) / math.sqrt(len(few))

    # the times, in seconds for one whole text
    seeds = itertools.count()

    def time_published() -> list[float]:
        start = time.perf_counter()
        for text in timed:
            published(model, text, family.mask, 1, rng)
        return [(time.perf_counter() - start) * batches / len(timed)]

    def time_ours(estimator: str, number: int) -> list[float]:
        seed = next(seeds)
        some = timed if given.items is not None else timed[: max(1, DRAWS // number)]
        start = time.perf_counter()
        for _ in score(model, family, some, estimator=estimator, draws=number, seed=seed):
            pass
        return [(time.perf_counter() - start) / len(some)]

    baseline, same, equal = f"published, {DRAWS} draws", f"smdm, {DRAWS} draws", f"count, {draws} draws"
    variants = {
        baseline: time_published,
        **({} if given.items is not None else {same: lambda: time_ours("smdm", DRAWS)}),
        equal: lambda: time_ours("count", draws),
    }
    rounds = alternate(variants, repeats, lambda: peaks(given.quick))
    rows: list[Row] = []
    for variant in variants:
        error = spread if variant == equal else their_error  # `smdm` makes the draws of the published one
        faster = rounds.ratio(baseline, variant)
        work = (their_error / error) ** 2 if error > 0 else math.inf
        rows.append(
            {
                "estimator": variant,
                "s a text (best)": f"{rounds.best(variant):.3f}",
                "median": f"{rounds.median(variant):.3f}",
                "standard error, nats": f"{error:.3f}",
                "against published": pair(faster, 1),
                "at equal error": pair((faster[0] * work, faster[1] * work), 1),
            }
        )
    notes = [
        f"Model: {about}; {FORMAT}",
        f"{len(texts)} texts of {sum(len(text.target) for text in texts) / len(texts):.1f} tokens behind prompts of "
        f"{sum(len(text.prompt) for text in texts) / len(texts):.1f}, mean {float(values.mean()):.1f} nats",
        f"Baseline: `{baseline}`, timed on one of its {batches} batches for each of {len(timed)} texts, and scaled",
        f"Standard errors, on the same {len(few)} of the texts: the published one from its {batches} batches, that of "
        f"`{equal}` as the spread over {SEEDS} seeds; it reported {reported:.3f}",
        "At equal error: time multiplied by the square of the error",
        f"The two estimators differ by {gap:+.3f} +- {gap_error:.3f} nats in the mean of those texts",
    ]
    tables, times = [rows], [rounds]
    if questions:
        ranked, more, said = measure_ranking(model, family, questions, repeats, given)
        tables, times, notes = [rows, ranked], [rounds, more], notes + said
    publish("score", "Scoring texts", notes, tables, times, given)


if __name__ == "__main__":
    main()
