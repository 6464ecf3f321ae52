"""How fast text is generated, against LLaDA's published loop and an autoregressive model with a cache.

    python benchmarks/sample.py                # 30M, V = 32000, 64 + 256 tokens; some 8 minutes on 2 cores
    python benchmarks/sample.py --quick
    python benchmarks/sample.py --batches 1 --repeats 5

One network with random weights, in bf16 where the processor has it, serves all: speed does not depend on
what it has learnt, and the weights are spread so far that every position is predicted differently. The
baseline is the published loop as its description has it: every step computes the logits of all
positions, prompt and finished blocks too; at temperature 1 it draws float64 Gumbel noise over all of
them. Beside it stands Fast-dLLM's loop with its dual cache: one pass over the whole canvas when a block
begins, then passes over the block alone, with the softmax of all that was read in float64. First the
greedy decoders, theirs and ours, are run in fp32 and must write the same tokens. Every variant takes the
same number of steps, so this is the speed of loops and says nothing of quality; `remask bench sample`
weighs one against the other.
"""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from measure import FORMAT, WEIGHTS, Rounds, Row, alternate, options, pair, peaks, plain_logits, publish
from torch import Tensor

from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.machine import keep_memory
from remask.model.cache import KeyValueCache
from remask.model.packing import pack
from remask.model.sizes import size
from remask.model.transformer import Transformer, initialise
from remask.sampling import Canvas, SamplingParams, fill
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.vocabulary import Vocabulary


@dataclass(frozen=True)
class Task:
    """What is to be written."""

    vocabulary: int
    prompt: int
    length: int
    block: int
    steps: int

    @property
    def ids(self) -> Vocabulary:
        """The mask is the last id, and not predicted."""
        return Vocabulary(self.vocabulary + 1, mask=self.vocabulary, end=0)

    def prompts(self, rows: int) -> Tensor:
        """(rows, prompt) random ids."""
        rng = torch.Generator().manual_seed(rows)
        return torch.randint(self.vocabulary, (rows, self.prompt), generator=rng)


@torch.no_grad()
def network(name: str, ids: Vocabulary) -> Transformer:
    """Random weights, larger than those training starts from: with those all masks are predicted alike."""
    model = Transformer(replace(size(name), rows=ids.size, predicted=ids.predicted))
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    factors = {"q_proj": 4, "k_proj": 4, "lm_head": 4, "o_proj": 8, "down_proj": 8}
    for path, weight in model.named_parameters():
        weight.mul_(factors.get(path.split(".")[-2], 1))
    return model.eval().requires_grad_(False)


def gumbel_choice(logits: Tensor, temperature: float) -> Tensor:
    """The most probable token; above temperature 0 a draw by the Gumbel trick in float64."""
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits.double()
    exponential = -torch.rand_like(logits).log()
    return (logits.exp() / exponential**temperature).argmax(-1)


@torch.inference_mode()
def published(model: Transformer, task: Task, prompts: Tensor, temperature: float) -> tuple[Tensor, int]:
    """LLaDA's block-wise low-confidence decoding: the canvas at the end, and the number of network passes.

    Logits and softmax stay in the network's number format, as there.
    """
    mask = task.vocabulary
    canvas = torch.full((len(prompts), task.prompt + task.length), mask)
    canvas[:, : task.prompt] = prompts
    rounds, passes = task.steps // (task.length // task.block), 0
    for first in range(task.prompt, canvas.shape[1], task.block):
        behind = first + task.block
        open_ = (canvas[:, first:behind] == mask).sum(1)
        for i in range(rounds):
            masked = canvas == mask
            logits = plain_logits(model, canvas)  # (B, L, V)
            passes += 1
            guess = gumbel_choice(logits, temperature)
            sure = logits.softmax(-1).gather(-1, guess[..., None])[..., 0]
            sure[:, behind:] = -torch.inf
            sure = sure.masked_fill(~masked, -torch.inf)
            for row, count in enumerate((open_ // rounds + (i < open_ % rounds)).tolist()):
                kept = sure[row].topk(count).indices
                canvas[row, kept] = guess[row, kept]
    return canvas, passes


@torch.inference_mode()
def fast_dllm(model: Transformer, task: Task, prompts: Tensor) -> tuple[Tensor, int]:
    """Fast-dLLM's greedy loop with its dual cache: the canvas at the end, and the number of network passes."""
    mask, rows = task.vocabulary, len(prompts)
    canvas = torch.full((rows, task.prompt + task.length), mask)
    canvas[:, : task.prompt] = prompts
    rounds, passes = task.steps // (task.length // task.block), 0
    for first in range(task.prompt, canvas.shape[1], task.block):
        inside = slice(first, first + task.block)
        cache = KeyValueCache(model.architecture.layers, rows, canvas.shape[1], exact=False)
        open_ = int((canvas[0, inside] == mask).sum())
        for i in range(rounds):
            read = slice(0, canvas.shape[1]) if i == 0 else inside
            index = torch.arange(canvas.shape[1])[read].expand(rows, -1)
            logits = model(canvas[:, read], index=index, cache=cache).to(model.lm_head.weight.dtype)  # (B, Q, V)
            passes += 1
            guess = logits.argmax(-1)
            sure = logits.double().softmax(-1).gather(-1, guess[..., None])[..., 0]
            sure = sure.masked_fill((canvas[:, read] != mask) | (index >= first + task.block), -torch.inf)
            count = open_ // rounds + (i < open_ % rounds)
            for row in range(rows):
                kept = sure[row].topk(count).indices
                canvas[row, index[row, kept]] = guess[row, kept]
    return canvas, passes


def ours(model: Transformer, task: Task, prompts: Tensor, params: SamplingParams, family: Family) -> tuple[Tensor, int]:
    """The canvas at the end, and the number of network passes."""
    rows = [[*prompt, *[None] * task.length] for prompt in prompts.tolist()]
    state = fill(model, family, Canvas.of(rows), replace(params, stop=False))
    return state.tokens, int(state.calls.max())


Decoder = Callable[[Transformer, Task, Tensor], tuple[Tensor, int]]
REFERENCE = "LLaDA's loop"
DUAL = "Fast-dLLM's loop, dual cache"
CACHED = "autoregressive, KV cache"


def decoders(task: Task) -> dict[str, Decoder]:
    """Every variant by name; the name ends in its temperature."""
    masked, causal = Masked().over(task.ids), Autoregressive().over(task.ids)
    at_once = task.length // task.steps
    found: dict[str, Decoder] = {}
    for t in (0, 1):
        found[f"{REFERENCE}, T={t}"] = partial(published, temperature=t)
        whole = SamplingParams(sampler=Confidence(), steps=task.steps, temperature=t)
        blocks = replace(whole, block=task.block)
        found[f"Confidence in blocks of {task.block}, T={t}"] = partial(ours, params=blocks, family=masked)
        found[f"Confidence, T={t}"] = partial(ours, params=whole, family=masked)
        for policy in ("Prefix", "Dual", "Delayed", "Selective"):
            params = replace(blocks, cache=policy)
            found[f"Confidence in blocks of {task.block}, {policy} cache, T={t}"] = partial(
                ours, params=params, family=masked
            )
        one_by_one = SamplingParams(sampler=LeftToRight(), temperature=t)
        found[f"{CACHED}, T={t}"] = partial(ours, params=one_by_one, family=causal)
    found[f"{DUAL}, T=0"] = fast_dllm
    ancestral = SamplingParams(sampler=Ancestral(), steps=task.steps)
    found["Ancestral, T=1"] = partial(ours, params=ancestral, family=masked)
    several, single = SamplingParams(sampler=FirstHitting(), steps=task.steps), SamplingParams(sampler=FirstHitting())
    found[f"FirstHitting, {at_once} at once, T=1"] = partial(ours, params=several, family=masked)
    found["FirstHitting, T=1"] = partial(ours, params=single, family=masked)
    return found


def agree(model: Transformer, task: Task) -> str:
    """Runs both greedy decoders in fp32; a sentence, or AssertionError where they differ."""
    prompts = task.prompts(2)
    theirs, _ = published(model, task, prompts, 0)
    cached, _ = fast_dllm(model, task, prompts)
    known = decoders(task)
    for name, expected in {"": theirs, " Dual cache,": cached}.items():
        written, _ = known[f"Confidence in blocks of {task.block},{name} T=0"](model, task, prompts)
        differ = int((expected != written).sum())
        assert differ == 0, f"in fp32 at T = 0 the published loop and ours{name} differ in {differ} tokens"
    kinds = theirs[:, task.prompt :].unique().numel()
    return (
        f"fp32, T = 0: {REFERENCE} and ours wrote the same {2 * task.length} tokens ({kinds} different ones), "
        f"and so did {DUAL} and ours"
    )


def compare(
    model: Transformer, mine: Transformer, task: Task, rows: int, repeats: int, quick: bool
) -> tuple[list[Row], Rounds]:
    """One table, for one batch size. `mine` is the network of our own variants.

    Batches above 1 run the greedy variants only: the published draws take long.
    """
    prompts, passes = task.prompts(rows), {}
    chosen = {name: run for name, run in decoders(task).items() if rows == 1 or name.endswith("T=0")}

    def timed(name: str) -> list[float]:
        start = time.perf_counter()
        _, passes[name] = chosen[name](model if name.startswith((REFERENCE, DUAL)) else mine, task, prompts)
        return [time.perf_counter() - start]

    short = replace(task, length=task.block, steps=1)
    for run in decoders(short).values():  # warm up: first calls of kernels
        run(model, short, prompts)
    rounds = alternate({name: partial(timed, name) for name in chosen}, repeats, lambda: peaks(quick))
    shown = []
    for name in chosen:
        temperature = name[-3:]
        shown.append(
            {
                f"batch {rows}": name,
                "s (best)": f"{rounds.best(name):.2f}",
                "median": f"{rounds.median(name):.2f}",
                "tokens/s": f"{rows * task.length / rounds.best(name):.0f}",
                "network passes": str(passes[name]),
                "against LLaDA's loop": pair(rounds.ratio(f"{REFERENCE}, {temperature}", name)),
                "against Fast-dLLM's": pair(rounds.ratio(f"{DUAL}, T=0", name)) if temperature == "T=0" else "",
                "against autoregressive": pair(rounds.ratio(f"{CACHED}, {temperature}", name)),
            }
        )
    return shown, rounds


def main() -> None:
    parser = options(__doc__, size="30M", toy="tiny", repeats=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="rows written together (1 8)")
    parser.add_argument("--pack", action="store_true", help="our variants have packed weights (remask sample --pack)")
    given = parser.parse_args()
    name, repeats = given.of(given)
    task = Task(500, 8, 32, 8, 8) if given.quick else Task(32000, 64, 256, 32, 64)
    keep_memory()
    model = network(name, task.ids)
    notes = [
        f"Model: {name}, V = {task.vocabulary}, random weights in {FORMAT}; prompt {task.prompt}, {task.length} new "
        f"tokens, {task.steps} steps where a number of steps is an option; larger batches only at T = 0",
        f"Baselines: `{REFERENCE}` and `{CACHED}`, at the same temperature",
        agree(model, task),
    ]
    print(notes[-1])
    model.to(WEIGHTS)
    mine = model
    if given.pack:
        mine = copy.deepcopy(model)
        notes.append(f"Ours with packed weights: {pack(mine) / 2**20:.0f} MiB more")
    results = [compare(model, mine, task, rows, repeats, given.quick) for rows in given.batches]
    publish("sample", "Generating text", notes, [t for t, _ in results], [r for _, r in results], given)


if __name__ == "__main__":
    main()
