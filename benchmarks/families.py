"""Tokens per second of every family, in training and in sampling, on one network shape.

    python benchmarks/families.py            # 10M, V = 8192, 16 x 256 tokens a step; some 10 minutes on 2 cores
    python benchmarks/families.py --quick

Training is forward, backward and fused AdamW on random tokens, compiled, in bfloat16, as `remask train` does on a
CPU that is fast at it; uniform models with their time embedding. Sampling writes 128 tokens behind 8, one row, in
float32, by the family's own sampler: in 32 steps where it has steps, one token a step where it is
autoregressive (with its cache). The families take turns. The masked one stands for 1.

The last table is of long texts: 1024 tokens in 64 and 256 steps, by a masked model, which reads all of them in every
step, and by an interpolating one with its cache, which reads each twice in all.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from measure import Row, alternate, options, pair, peaks, publish

from remask.batch import Batch
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.machine import keep_memory
from remask.model.sizes import size
from remask.model.transformer import Transformer, initialise
from remask.sampling import Canvas, SamplingParams, fill, samplers
from remask.vocabulary import Vocabulary

FAMILIES: dict[str, Family] = {
    "Masked, bound": Masked(objective="bound"),
    "Masked, low variance": Masked(objective="low_variance"),
    "Uniform": Uniform(),
    "Uniform, curriculum": Uniform(curriculum=1.0),
    "Interpolating, alpha_0 = 1": Interpolating(),
    "Interpolating, alpha_0 = 0.25": Interpolating(alpha_0=0.25),
    "Autoregressive": Autoregressive(),
}
BASE, CACHED = "Masked, bound", "Interpolating, alpha_0 = 1"
WRITTEN, STEPS = 128, 32


def made(name: str, vocabulary: int, family: Family) -> tuple[Transformer, Family]:
    """A fresh network for a family."""
    ids = Vocabulary(vocabulary, mask=vocabulary - 1, end=0)
    model = Transformer(replace(size(name), rows=ids.size, predicted=ids.predicted, time=family.time == "required"))
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    return model, family.over(ids)


def trainer(
    name: str, vocabulary: int, family: Family, rows: int, length: int, steps: int
) -> Callable[[], list[float]]:
    """Takes `steps` training steps, and gives the seconds of each."""
    model, family = made(name, vocabulary, family)
    model.compile()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokens = torch.randint(1, vocabulary - 1, (rows, length), generator=torch.Generator().manual_seed(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), progress=0.0)
    rng = torch.Generator().manual_seed(0)

    def run() -> list[float]:
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16):
                loss = family.loss(model, batch, rng).per_token()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seconds.append(time.perf_counter() - start)
        return seconds

    run()  # compiles
    return run


def writer(name: str, vocabulary: int, family: Family, written: int, steps: int = STEPS) -> Callable[[], list[float]]:
    """Writes one text, and gives its seconds."""
    model, family = made(name, vocabulary, family)
    model = model.eval().requires_grad_(False)
    sampler = samplers()[family.sampler]()
    params = SamplingParams(sampler=sampler, steps=steps if sampler.takes_steps else None, stop=False)
    canvas = Canvas.of([[*range(1, 9), *[None] * written]])

    def run() -> list[float]:
        start = time.perf_counter()
        fill(model, family, canvas, params)
        return [time.perf_counter() - start]

    run()
    return run


def main() -> None:
    given = options(__doc__, size="10M", toy="tiny", repeats=5).parse_args()
    name, repeats = given.of(given)
    keep_memory()
    vocabulary, rows, length, written = (500, 4, 64, 16) if given.quick else (8192, 16, 256, WRITTEN)
    training = alternate(
        {label: trainer(name, vocabulary, f, rows, length, 3) for label, f in FAMILIES.items()},
        repeats,
        partial(peaks, given.quick),
    )
    sampling = alternate(
        {label: writer(name, vocabulary, f, written) for label, f in FAMILIES.items()},
        repeats,
        partial(peaks, given.quick),
    )
    extent, grids = (32, (4, 8)) if given.quick else (1024, (64, 256))
    long = alternate(
        {
            f"{label}, {steps} steps": writer(name, vocabulary, FAMILIES[label], extent, steps)
            for steps in grids
            for label in (BASE, CACHED)
        },
        min(repeats, 3),
        partial(peaks, given.quick),
    )
    tables: list[list[Row]] = []
    for what, rounds, tokens in (("training", training, rows * length), ("sampling", sampling, written)):
        tables.append(
            [
                {
                    "family": label,
                    f"{what}, ms (best)": f"{rounds.best(label) * 1e3:.0f}",
                    "median": f"{rounds.median(label) * 1e3:.0f}",
                    "tokens/s (best)": f"{tokens / rounds.best(label):.0f}",
                    "times the cost of the masked": pair(rounds.ratio(label, BASE)),
                }
                for label in FAMILIES
            ]
        )
    tables.append(
        [
            {
                "long texts": f"{label}, {steps} steps",
                "seconds (best)": f"{long.best(f'{label}, {steps} steps'):.2f}",
                "tokens/s (best)": f"{extent / long.best(f'{label}, {steps} steps'):.0f}",
                "times the speed of the masked": pair(long.ratio(f"{BASE}, {steps} steps", f"{label}, {steps} steps")),
            }
            for steps in grids
            for label in (BASE, CACHED)
        ]
    )
    notes = [
        f"{name}, V = {vocabulary}; training {rows} x {length} tokens a step; sampling {written} tokens, {STEPS} steps",
        "Costs are ratios in this run; a masked model is asked at half of its positions, the others at all",
    ]
    publish("families", "Every family, in training and in sampling", notes, tables, [training, sampling, long], given)


if __name__ == "__main__":
    main()
