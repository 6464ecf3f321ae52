"""How long one training step takes, and what share of the machine's peak that is.

    python benchmarks/train.py                       # 10M, V = 8192, 32 x 256 tokens; some 10 minutes on 2 cores
    python benchmarks/train.py --quick
    python benchmarks/train.py --variants fp32 compiled --repeats 3

A step is forward, backward, fused AdamW (without clipping) and zero_grad, on random tokens. Every
variant runs in a process of its own, started with its own allocator setting; the processes stay alive
and take turns, three steps a round. All see the same masks in the same step. The last masked variant
is what `remask train` does on a CPU.

The share of the peak counts the arithmetic that the `ask` form must do: all products of the trunk, and
the head at half of the positions, the mean of the masked share. The same number serves every masked
variant, also those that do more; the autoregressive one predicts everywhere, with causal attention.

The processes together hold about 22 GiB at 10M; choose fewer variants on larger models (`--variants bf16`: 18).
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from measure import Row, alternate, options, pair, peaks, publish, status
from torch import Tensor
from torch.nn.functional import cross_entropy

from remask.batch import Batch
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.machine import ALLOCATOR
from remask.model import eager
from remask.model.sizes import Architecture, size
from remask.model.transformer import Transformer, initialise
from remask.seeds import mix_seeds
from remask.training.optim import Optimizer
from remask.vocabulary import Vocabulary

STEPS = 3
"""Steps of a variant in one round."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way of taking a step."""

    bf16: bool = True
    everywhere: bool = False
    """Logits at all positions in float32, of which the masked are then taken."""
    compiled: bool = False
    allocator: bool = False
    plain: bool = False
    """Every operation between the products by its plain formula, also where no graph is compiled (`model.eager`)."""
    repeatable: bool = False
    """Kernels that add up in a fixed order, as `remask train` has them on a CPU."""
    causal: bool = False
    """The autoregressive family, which has no other way than everywhere."""


FP32, BF16 = "fp32 eager, logits everywhere", "bf16 eager, logits everywhere"
VARIANTS = {
    FP32: Variant(bf16=False, everywhere=True, plain=True),
    BF16: Variant(everywhere=True, plain=True),
    "bf16 eager, logits everywhere, allocator": Variant(everywhere=True, plain=True, allocator=True),
    "bf16 eager, ask, plain, allocator": Variant(plain=True, allocator=True),
    "bf16 eager, ask, allocator": Variant(allocator=True),
    "bf16 compiled, ask, allocator, repeatable": Variant(compiled=True, allocator=True, repeatable=True),
    "autoregressive: bf16 compiled, allocator": Variant(compiled=True, allocator=True, causal=True),
}
PEAKS = "peaks"
"""The process that measures matrix products, with the allocator set."""


@dataclass(frozen=True)
class Shape:
    """What is trained on."""

    size: str
    vocabulary: int
    rows: int
    length: int

    @property
    def architecture(self) -> Architecture:
        """The named size; the mask is read and not predicted."""
        return replace(size(self.size), rows=self.vocabulary + 1, predicted=self.vocabulary)


def stepper(variant: Variant, shape: Shape) -> Callable[[int], float]:
    """A function that takes step i and returns its loss."""
    if variant.plain:
        eager.LEAST = sys.maxsize
    model = Transformer(shape.architecture)
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    optimizer = Optimizer(lr=1e-4).build(model)
    kind = Autoregressive() if variant.causal else Masked(objective="low_variance")
    family = kind.over(Vocabulary(shape.vocabulary + 1, mask=shape.vocabulary, end=0))
    tokens = torch.randint(shape.vocabulary, (shape.rows, shape.length), generator=torch.Generator().manual_seed(1))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    if variant.compiled:
        model.compile()

    def everywhere(tokens: Tensor, *, ask: Tensor, target: Tensor, **reading: Any) -> Tensor:
        return cross_entropy(model(tokens, **reading)[ask], target, reduction="none")

    precision = torch.autocast("cpu", torch.bfloat16) if variant.bf16 else contextlib.nullcontext()

    if variant.repeatable:
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    def step(number: int) -> float:
        rng = torch.Generator().manual_seed(mix_seeds(0, number))
        with precision:
            loss = family.loss(everywhere if variant.everywhere else model, batch, rng).per_token()  # type: ignore[arg-type]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def work(name: str, shape: Shape, quick: bool) -> None:
    """A worker: a word on a line of stdin, the answer as JSON on a line of stdout."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a library that prints must not answer
    step = stepper(VARIANTS[name], shape) if name != PEAKS else lambda number: 0.0
    number = 0
    for line in sys.stdin:
        answer: Any
        if line.strip() == "step":
            start = time.perf_counter()
            loss = step(number)
            answer = [time.perf_counter() - start, loss]
            number += 1
        elif line.strip() == "memory":
            answer = status("VmHWM") / 1024
        else:
            answer = peaks(quick)
        print(json.dumps(answer), file=answers, flush=True)


def started(name: str, shape: Shape, quick: bool) -> subprocess.Popen[str]:
    """A worker's process, with or without the allocator set; it ends when its stdin is closed."""
    plain = {k: v for k, v in os.environ.items() if k not in (*ALLOCATOR, "REMASK_ALLOCATOR")}
    allocator = name == PEAKS or VARIANTS[name].allocator
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", json.dumps([name, *vars(shape).values(), quick])],
        env={**plain, **ALLOCATOR, "REMASK_ALLOCATOR": "set"} if allocator else plain,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(worker: subprocess.Popen[str], word: str) -> Any:
    """A worker's answer to a word."""
    assert worker.stdin is not None and worker.stdout is not None
    print(word, file=worker.stdin, flush=True)
    line = worker.stdout.readline()
    if not line:
        raise SystemExit(f"a worker ended with status {worker.wait()}; its message is above")
    return json.loads(line)


def main() -> None:
    if sys.argv[1:2] == ["--worker"]:
        name, *shape, quick = json.loads(sys.argv[2])
        return work(name, Shape(*shape), quick)
    parser = options(__doc__, size="10M", toy="tiny", repeats=6)
    parser.add_argument("--variants", nargs="+", metavar="WORD", help="only those whose name has one of these words")
    given = parser.parse_args()
    name, repeats = given.of(given)
    shape = Shape(name, 512, 4, 64) if given.quick else Shape(name, 8192, 32, 256)
    wanted = given.variants or [""]
    chosen = [v for v in VARIANTS if any(word in v for word in wanted)]
    if not chosen:
        parser.error(f"no variant has any of {wanted}; they are: {'; '.join(VARIANTS)}")

    with contextlib.ExitStack() as stack:
        running = {v: stack.enter_context(started(v, shape, given.quick)) for v in [PEAKS, *chosen]}
        warm = {v: [ask(running[v], "step") for _ in range(STEPS)] for v in chosen}
        losses = [warm[v][0][1] for v in chosen if not VARIANTS[v].causal]
        assert not losses or max(losses) < 1.02 * min(losses), f"the variants compute different losses: {losses}"
        turns = {v: lambda v=v: [ask(running[v], "step")[0] for _ in range(STEPS)] for v in chosen}
        rounds = alternate(turns, repeats, lambda: ask(running[PEAKS], PEAKS))
        memory = {v: ask(running[v], "memory") for v in chosen}

    tokens, shown = shape.rows * shape.length, []
    for variant in chosen:
        causal = VARIANTS[variant].causal
        flops = shape.architecture.flops(shape.length, asked=1.0 if causal else 0.5, causal=causal) * tokens
        row: Row = {
            "variant": variant,
            "ms a step (best)": f"{rounds.best(variant) * 1e3:.0f}",
            "median": f"{rounds.median(variant) * 1e3:.0f}",
            "tokens/s": f"{tokens / rounds.best(variant):,.0f}",
            "share of bf16 peak": pair(rounds.share(variant, flops)),
            "GiB": f"{memory[variant]:.2f}",
            "first step, s": f"{warm[variant][0][0]:.1f}",
        }
        baselines = {"against fp32": FP32, "against bf16": BF16}
        row |= {head: pair(rounds.ratio(base, variant)) for head, base in baselines.items() if base in chosen}
        shown.append(row)
    notes = [
        f"Model: {shape.size}, V = {shape.vocabulary}, {shape.rows} x {shape.length} tokens a step, fused AdamW",
        f"Baselines: `{FP32}` and `{BF16}`, both with the allocator as the system sets it",
        "plain: operations between the products by their formulas, not by the blocks of `remask.model.eager`",
        "GiB is the peak of resident memory; the first step includes compilation (a cache may be warm)",
        "Share of the peak: the arithmetic of the ask form, also for variants that do more",
    ]
    publish("train", "One training step", notes, [shown], [rounds], given)


if __name__ == "__main__":
    main()
