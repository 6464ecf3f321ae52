"""How fast a loaded model writes with packed weights and with weights of 8 bits, and what 8 bits cost in the bound.

    python benchmarks/speed.py                                   # 30M, V = 32000; some 10 minutes on 2 cores
    python benchmarks/speed.py --quick
    python benchmarks/speed.py --models runs/masked runs/left --data data/novels

Three networks with the same random weights: as loaded, packed, and of 8 bits. Speed is that of one network call, as
samplers make it, with the head at every position that is read: an autoregressive step, a block of 32 against a cache,
and a whole canvas. Packed weights are used for few rows only; how many products of a call took them is counted, and no
ratio is given where none did. The bound of trained models is taken on the same rows of the validation text, with the
same noise.
"""

import copy
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import Rounds, Row, alternate, options, pair, peaks, publish
from sample import network
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from remask import load
from remask.data.tokens import open_tokens
from remask.likelihood import Estimate, Request, score
from remask.machine import fast_bf16, keep_memory, peak
from remask.model.attention import CAUSAL, FULL
from remask.model.cache import KeyValueCache
from remask.model.int8 import to_int8
from remask.model.packing import PackedProduct, linears, pack
from remask.vocabulary import Vocabulary

CANVAS, BLOCK = 320, 32
PLAIN, PACKED, INT8 = "plain", "packed", "int8"


@dataclass(frozen=True)
class Call:
    """One network call of a sampler."""

    name: str
    rows: int
    size: int
    """Positions that are read."""
    causal: bool = False
    cached: bool = True

    def run(self, model: Any, cache: KeyValueCache | None, tokens: Tensor) -> Tensor:
        """Reads the last positions of the canvas, or all of it."""
        index = torch.arange(CANVAS - self.size, CANVAS).expand(self.rows, -1) if self.cached else None
        read = tokens[: self.rows, CANVAS - self.size :]
        ask = torch.ones(read.shape, dtype=torch.bool)
        if not self.cached:
            ask[:, :-BLOCK] = False
        return model(read, index=index, ask=ask, attention=CAUSAL if self.causal else FULL, cache=cache)

    def full_cache(self, model: Any, tokens: Tensor) -> KeyValueCache | None:
        """A cache as long as the canvas; what stands in it does not matter for the time, so only its end is read."""
        if not self.cached:
            return None
        cache = KeyValueCache(model.architecture.layers, self.rows, CANVAS)
        last = torch.full((self.rows, 1), CANVAS - 1)
        model(tokens[: self.rows, -1:], index=last, attention=CAUSAL if self.causal else FULL, cache=cache)
        return cache


CALLS = [
    *(Call(f"an autoregressive step, batch {rows}", rows, 1, causal=True) for rows in (1, 8, 32)),
    *(Call(f"a block of {BLOCK} against a cache, batch {rows}", rows, BLOCK) for rows in (1, 8)),
    Call(f"a whole canvas of {CANVAS}, batch 1", 1, CANVAS, cached=False),
]


@torch.inference_mode()
def timed(model: Any, call: Call, tokens: Tensor, repeats: int) -> list[float]:
    """Seconds of each of some calls: on one thread those of the processor, which other processes do not lengthen."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    cache, found = call.full_cache(model, tokens), []
    for _ in range(repeats + 1):
        start = clock()
        call.run(model, cache, tokens)
        found.append(clock() - start)
    return found[1:]


class PackedCalls(TorchDispatchMode):
    """Counts the products with packed weights inside a `with`."""

    found = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found += func is torch.ops.mkldnn._linear_pointwise.default
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def packed_products(model: Any, call: Call, tokens: Tensor) -> tuple[int, int]:
    """How many products of a call take packed weights, and how many weights are packed."""
    cache = call.full_cache(model, tokens)
    with PackedCalls() as counted:
        call.run(model, cache, tokens)
    products = (getattr(layer, "product", None) or vars(layer).get("forward") for layer in linears(model))
    return counted.found, sum(isinstance(product, PackedProduct) for product in products)


def own_peaks(quick: bool) -> dict[str, float]:
    """The peaks of the number formats that this processor has: bfloat16 would take seconds where it has not."""
    return peaks(quick) if fast_bf16("cpu") else {"fp32": peak("cpu", False, 0.02 if quick else 0.2)}


def compare(models: dict[str, Any], call: Call, tokens: Tensor, repeats: int, quick: bool) -> tuple[Row, Rounds]:
    """One line of the table of speeds."""
    calls = max(1, 16 // (call.rows * call.size))
    used, packed = packed_products(models[PACKED], call, tokens)
    runs = {name: partial(timed, model, call, tokens, calls) for name, model in models.items()}
    rounds = alternate(runs, repeats, lambda: own_peaks(quick))
    row = {"call": call.name, f"{PLAIN}, ms": f"{1000 * rounds.median(PLAIN):.1f}"}
    row["products packed"] = f"{used} of {packed}"
    row |= {f"{name}, times as fast": pair(rounds.ratio(PLAIN, name)) for name in (PACKED, INT8)}
    return row | ({} if used else {f"{PACKED}, times as fast": "not packed"}), rounds


def bound(path: Path, data: Path, rows: int) -> Row:
    """Bits per byte of a trained model as stored and in 8 bits, and the standard error of the difference."""
    tokens, found = open_tokens(data).valid, {}
    for precision in ("fp32", "int8"):
        model = load(path, precision=precision)
        size = model.model.architecture.context - len(model.family.bos)
        requests = []
        for i in range(rows):
            part = slice(i * (len(tokens) // rows), i * (len(tokens) // rows) + size)
            requests.append(Request(tokens.ids[part].tolist(), model.family.bos, int(tokens.byte_lengths[part].sum())))
        found[precision] = [e for _, e in score(model.model, model.family, requests, draws=16)]
    one, two = (Estimate.total(found[precision]).bits_per_byte for precision in ("fp32", "int8"))
    apart = torch.tensor([b.bits_per_byte - a.bits_per_byte for a, b in zip(*found.values(), strict=True)])
    return {
        "model, non-embedding parameters": f"{type(model.family).__name__}, {model.model.architecture.non_embedding:,}",
        "bits per byte, fp32": f"{one:.4f}",
        "int8": f"{two:.4f}",
        "change": f"{two - one:+.4f} +- {float(apart.std()) / rows**0.5:.4f}",
    }


def main() -> None:
    parser = options(__doc__, size="30M", toy="tiny", repeats=7)
    parser.add_argument("--models", type=Path, nargs="*", default=[], help="trained models whose bound is compared")
    parser.add_argument("--data", type=Path, help="the prepared folder with their validation text")
    parser.add_argument("--vocabulary", type=int, default=32000, help="ids of the network whose speed is measured")
    parser.add_argument("--bf16", action="store_true", help="plain and packed in bfloat16 (needs a processor for it)")
    given = parser.parse_args()
    if given.bf16 and not fast_bf16("cpu"):
        parser.error("this processor is slow at bfloat16")
    name, repeats = given.of(given)
    keep_memory()
    vocabulary = 2000 if given.quick else given.vocabulary
    ids = Vocabulary(vocabulary + 1, mask=vocabulary, end=0)
    models = {INT8: network(name, ids)}
    models[PLAIN], models[PACKED] = (copy.deepcopy(models[INT8]) for _ in range(2))
    if given.bf16:
        for which in (PLAIN, PACKED):
            models[which].bfloat16()
    weights = sum(w.numel() * w.element_size() for w in models[PLAIN].parameters())
    extra = pack(models[PACKED])
    to_int8(models[INT8])
    models = {which: models[which] for which in (PLAIN, PACKED, INT8)}
    tokens = torch.randint(vocabulary, (32, CANVAS), generator=torch.Generator().manual_seed(0))
    lines = [compare(models, call, tokens, repeats, given.quick) for call in CALLS]
    notes = [
        f"Model: {name}, V = {vocabulary}, random weights, plain and packed in {'bf16' if given.bf16 else 'fp32'}; the "
        "head at every position that is read, at the last 32 of a whole canvas",
        "Seconds are the processor's, on one thread"
        if torch.get_num_threads() == 1
        else "Seconds are those of a clock",
        f"Weights {weights / 2**20:.0f} MiB; packed weights take {extra / 2**20:.0f} MiB more",
    ]
    tables = [[row for row, _ in lines]]
    if given.models:
        tables.append([bound(path, given.data, 8 if given.quick else 64) for path in given.models])
        notes.append(
            "Bound: the same 64 rows of the validation text and the same noise for both formats; the error is "
            "that of the mean difference over rows"
        )
    publish("speed", "Packed weights and weights of 8 bits", notes, tables, [r for _, r in lines], given)


if __name__ == "__main__":
    main()
