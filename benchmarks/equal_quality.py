"""How fast text of equal quality is generated, against LLaDA's loop at one token a step and the autoregressive twin.

    python benchmarks/equal_quality.py --run masked --twin autoregressive --data DATA     # some 20 minutes on 2 cores
    python benchmarks/equal_quality.py --run masked --twin autoregressive --data DATA --texts 8 --length 32 --repeats 1

Continuations of validation texts at temperature 1 or the one named, all from the same prompts. The baseline is LLaDA's
published loop of sample.py: one token a step, logits of every position and float64 noise over all of them at each.
Quality is the judge's NLL, nats a token, beside the token entropy, and neither tells anything without the other: texts
that repeat themselves are probable. The judge is the twin, so that its own texts have an advantage.
The difference of a way's NLL to the baseline's is taken text by text; its standard error is that of these differences.
First all texts are written for the judge, then some are written again and timed, all ways in turn.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from measure import FORMAT, WEIGHTS, Rounds, Row, alternate, pair, peaks, publish, say
from sample import REFERENCE, Task, published
from torch import Tensor

import remask
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokens import Prepared, open_tokens
from remask.evaluation.judging import entropy_of
from remask.likelihood import Request, score
from remask.machine import keep_memory
from remask.model.packing import pack
from remask.sampling import Canvas, SamplingParams, fill
from remask.sampling.ancestral import Ancestral
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA

TWIN = "autoregressive, KV cache"
COOL = 0.4
"""A temperature at which texts written in any order have about the entropy of those that LLaDA's loop writes at 1: that
loop keeps the most certain of its draws, which makes texts repeat themselves."""
Way = Callable[[Tensor], Tensor]
"""(B, P) prompts -> (B, P + length) tokens."""


def ways_of(masked: Checkpoint, mine: Checkpoint, twin: Checkpoint, task: Task) -> dict[str, Way]:
    """Every way of writing by name; the first is the baseline. `mine` is the masked model as our own ways read it."""
    one_by_one = replace(task, steps=task.length)

    def reference(prompts: Tensor) -> Tensor:
        torch.manual_seed(seed_of(prompts))
        return published(masked.model, one_by_one, prompts, 1.0)[0]

    def ours(checkpoint: Checkpoint, params: SamplingParams, prompts: Tensor) -> Tensor:
        canvas = Canvas.of([[*prompt, *[None] * task.length] for prompt in prompts.tolist()])
        return fill(
            checkpoint.model, checkpoint.family, canvas, replace(params, stop=False, seed=seed_of(prompts))
        ).tokens

    found: dict[str, Way] = {f"{REFERENCE}, one token a step": reference}
    found[TWIN] = partial(ours, twin, SamplingParams(sampler=LeftToRight()))
    for share in (1, 2, 4, 8):
        params = SamplingParams(sampler=Ancestral(), steps=task.length // share)
        found[f"Ancestral, {params.steps} steps"] = partial(ours, mine, params)
        if share > 1:
            cached = replace(params, block=task.block, cache="Dual")
            found[f"Ancestral, {params.steps} steps in blocks of {task.block}, Dual"] = partial(ours, mine, cached)
    cool = SamplingParams(sampler=Ancestral(), steps=task.length // 4, temperature=COOL)
    found[f"Ancestral, {cool.steps} steps, temperature {COOL}"] = partial(ours, mine, cool)
    same = SamplingParams(sampler=LLaDA(), steps=task.length, block=task.block, cache="Dual")
    found[f"LLaDA, one token a step in blocks of {task.block}, Dual"] = partial(ours, mine, same)
    return found


def seed_of(prompts: Tensor) -> int:
    """Of the noise of a batch, so that no two batches share theirs."""
    return int(prompts.sum())


def judged(judge: Checkpoint, texts: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """(N,) float64 nats a token of each text given its prompt of `first` tokens, and its token entropy."""
    requests = [Request(row[first:], row[:first]) for row in texts.tolist()]
    found = score(judge.model, judge.family, requests, device=judge.model.device)
    nats = torch.tensor([estimate.nats_per_token for _, estimate in found], dtype=torch.float64)
    return nats, torch.tensor([entropy_of(row[first:]) for row in texts], dtype=torch.float64)


def with_error(values: Tensor, sign: str = "") -> str:
    """Mean and standard error."""
    return f"{float(values.mean()):{sign}.3f} ± {float(values.std()) / math.sqrt(len(values)):.3f}"


def in_batches(write: Way, prompts: Tensor, size: int) -> Tensor:
    """All texts, so many at once."""
    return torch.cat([write(part) for part in prompts.split(size)])


def prompts_of(data: Prepared, texts: int, prompt: int, length: int) -> tuple[Tensor, Tensor]:
    """(N, P) prompts and (N, P + length) real texts, evenly spread over the validation text."""
    ids = torch.tensor(data.valid.ids, dtype=torch.int64)
    starts = torch.linspace(0, len(ids) - prompt - length - 1, texts).long()
    rows = torch.stack([ids[s : s + prompt + length] for s in starts.tolist()])
    return rows[:, :prompt], rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run or folder of a trained masked model")
    parser.add_argument(
        "--twin", type=Path, required=True, help="the autoregressive model with its tokenizer; the judge"
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of `remask prepare` with their tokenizer")
    parser.add_argument("--texts", type=int, default=32, help="texts that are judged (32)")
    parser.add_argument("--timed", type=int, default=2, help="batches that are timed in a round (2)")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="rows written together (1 8)")
    parser.add_argument("--prompt", type=int, default=32, help="tokens given (32)")
    parser.add_argument("--length", type=int, default=192, help="tokens written (192)")
    parser.add_argument("--block", type=int, default=32, help="tokens of a block (32)")
    parser.add_argument(
        "--pack", action="store_true", help="pack the weights of all but LLaDA's loop (remask sample --pack)"
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds in which every way is timed (3)")
    parser.add_argument("--out", type=Path, help="folder for equal_quality.md and .json (benchmarks/results)")
    parser.set_defaults(quick=False)
    given = parser.parse_args()
    keep_memory()
    masked, twin = (remask.load(path, dtype=WEIGHTS) for path in (given.run, given.twin))
    judge = remask.load(given.twin)
    mask = masked.family.vocabulary.mask
    if mask is None or mask != masked.model.architecture.predicted:
        parser.error(f"--run {given.run}: the published loop needs a masked model whose mask is its last id")
    task = Task(mask, given.prompt, given.length, given.block, given.length)
    prompts, real = prompts_of(open_tokens(given.data), given.texts, given.prompt, given.length)
    mine, packed = masked, 0
    if given.pack:
        mine = replace(masked, model=copy.deepcopy(masked.model))
        packed = pack(mine.model) + pack(twin.model)
    ways = ways_of(masked, mine, twin, task)
    baseline = next(iter(ways))

    nats, entropies = judged(judge, real, given.prompt)
    quality: list[Row] = [row_of("real text", nats, entropies, None)]
    theirs: Tensor | None = None
    for name, write in ways.items():
        say(f"writing: {name}")
        nats, entropies = judged(judge, in_batches(write, prompts, max(given.batches)), given.prompt)
        theirs = nats if theirs is None else theirs
        quality.append(row_of(name, nats, entropies, nats - theirs))

    tables, measured = [quality], []
    for size in given.batches:
        parts = prompts.split(size)[: given.timed]
        rounds = alternate({n: partial(timed, w, parts) for n, w in ways.items()}, given.repeats, lambda: peaks(False))
        tables.append([speed_of(name, rounds, baseline, size, task) for name in ways])
        measured.append(rounds)
    shape = masked.model.architecture
    notes = [
        f"Models: trained, {shape.non_embedding / 1e6:.1f} M parameters without embeddings, V = {shape.predicted}; "
        + FORMAT
        + (f"; weights packed, {packed / 2**20:.0f} MiB more" if packed else ""),
        f"{given.texts} continuations of {given.length} tokens, behind {given.prompt} given ones; "
        f"timed: {given.timed} batches a round",
        f"Baselines: `{baseline}`, and `{TWIN}`, which also is the judge, in fp32",
    ]
    publish("equal_quality", "Generating text of equal quality", notes, tables, measured, given)


def row_of(name: str, nats: Tensor, entropies: Tensor, difference: Tensor | None) -> Row:
    """A line of the table of quality."""
    compared = "" if difference is None or not difference.any() else with_error(difference, "+")
    return {
        "way": name,
        "judge's NLL": with_error(nats),
        "against LLaDA's loop": compared,
        "token entropy": with_error(entropies),
    }


def timed(write: Way, parts: list[Tensor]) -> list[float]:
    """Seconds of each batch."""
    seconds = []
    for part in parts:
        start = time.perf_counter()
        write(part)
        seconds.append(time.perf_counter() - start)
    return seconds


def speed_of(name: str, rounds: Rounds, baseline: str, size: int, task: Task) -> Row:
    """A line of the table of speed at one batch size."""
    return {
        f"batch {size}": name,
        "s (best)": f"{rounds.best(name):.2f}",
        "median": f"{rounds.median(name):.2f}",
        "tokens/s": f"{size * task.length / rounds.best(name):.0f}",
        "against LLaDA's loop": pair(rounds.ratio(baseline, name)),
        "against autoregressive": pair(rounds.ratio(TWIN, name)),
    }


if __name__ == "__main__":
    main()
