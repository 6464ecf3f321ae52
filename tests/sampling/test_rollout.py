"""Attention rollout: against matrices that are multiplied out, and what `Selective` reads by it."""

from typing import Any

import pytest
import torch
from tables import tiny
from torch import Tensor
from writing import MASKED, V, begin, fill, how

from remask.errors import RemaskError
from remask.model.rollout import Rollout
from remask.model.rotary import rotary, rotate
from remask.model.transformer import Transformer
from remask.sampling import Canvas, SamplingParams, start, step
from remask.sampling.adaptive import Threshold
from remask.sampling.caching import MASKED_BEFORE, ROLLOUT, policy_of
from remask.sampling.confidence import Confidence
from remask.sampling.loop import make_cache
from remask.sampling.selective import close_gaps, most_looked_at

LENGTH = 14
ROW = [3, 1, 4, *[None] * 11]


class Noted:
    """A network that notes what each call reads, and the queries and keys of every layer before they are rotated."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.architecture = model, model.architecture
        self.index, self.ask, self.made = torch.empty(0), torch.empty(0), dict[tuple[int, str], Tensor]()
        for number, layer in enumerate(model.model.layers):
            for kind in ("q", "k"):
                name = f"{kind}_norm" if getattr(layer.self_attn, f"{kind}_norm") is not None else f"{kind}_proj"
                getattr(layer.self_attn, name).register_forward_hook(self.hook(number, kind, "norm" in name))

    def hook(self, layer: int, kind: str, by_head: bool) -> Any:
        """Notes the output of a projection, or of the norm behind it, as (B, H, Q, d)."""

        def note(module: Any, given: Any, found: Tensor) -> None:
            width = self.architecture.head_width
            self.made[layer, kind] = found if by_head else found.unflatten(-1, (-1, width)).transpose(1, 2)

        return note

    def __call__(self, tokens: Tensor, **arguments: Any) -> Tensor:
        self.index, self.ask = arguments["index"], arguments["ask"]
        return self.model(tokens, **arguments)


class Plain:
    """The rollout of one row by its definition, with the keys that were kept."""

    def __init__(self, layers: int) -> None:
        self.keys = [dict[int, Tensor]() for _ in range(layers)]

    def of_call(self, noted: Noted, row: int) -> list[float]:
        """The column sums of M_n ... M_1 after a call in which the row is number `row`."""
        places = noted.index[row].tolist()
        product = torch.eye(LENGTH, dtype=torch.float64)
        for layer, keys in enumerate(self.keys):
            q, k = (noted.made[layer, kind][row] for kind in ("q", "k"))  # (H, Q, d), (G, Q, d)
            table = rotary(noted.architecture, noted.index[row].clamp(min=0))
            q, k = rotate(q[None], *table)[0].double(), rotate(k[None], *table)[0].double()
            keys.update({place: k[:, at] for at, place in enumerate(places) if place >= 0})
            weights = torch.eye(LENGTH, dtype=torch.float64)
            for at, place in enumerate(places):
                if place < 0:
                    continue
                weights[place] = 0
                for head in range(len(q)):
                    group = head * len(k) // len(q)
                    scores = torch.tensor(
                        [float(q[head, at] @ keys[other][group]) / q.shape[-1] ** 0.5 for other in sorted(keys)]
                    )
                    weights[place, sorted(keys)] += scores.double().softmax(0) / len(q)
            with_residual = weights + torch.eye(LENGTH)
            product = (with_residual / with_residual.sum(1, keepdim=True)) @ product
        return product.sum(0).tolist()


@pytest.mark.parametrize("convolution", [0, 3])
def test_the_rollout_of_every_call_is_that_of_its_definition(convolution: int) -> None:
    """Of the second of two rows, the first of which has another cache, is shorter, and leaves early."""
    noted = Noted(tiny(V + 1, V, layers=3, seed=5, sharpness=2.5, convolution=convolution))
    cache_of = "Selective:candidates=3,gap=1,rollout=0.3"
    state = start(
        MASKED,
        Canvas.of([[2, *[None] * 4], ROW]),
        [how(Confidence(), cache="Dual", steps=2), how(Confidence(), cache=cache_of, guidance=0.5)],
    )
    cache, plain, partial_calls = make_cache(noted, state), Plain(3), 0
    for _ in range(11):
        calls = int(state.calls[1])
        alone = bool(state.finished[0])
        wanted = state.extras[ROLLOUT][1].tolist()
        changed = (state.extras[MASKED_BEFORE][1] ^ state.masked[1]).nonzero()[:, 0].tolist()
        step(noted, MASKED, state, cache)
        assert int(state.calls[1]) == calls + 2
        row = 0 if alone else 1
        places = sorted(i for i in noted.index[row].tolist() if i >= 0)
        if len(places) < LENGTH:
            partial_calls += 1
            asked = noted.index[row][noted.ask[row]].tolist()
            assert 0 < len(asked) <= 3 and places == read_by_definition(asked, changed, wanted)
        torch.testing.assert_close(
            state.extras[ROLLOUT][1], torch.tensor(plain.of_call(noted, row)).double(), rtol=1e-4, atol=1e-5
        )
        assert float(state.extras[ROLLOUT][1].sum()) == pytest.approx(LENGTH, rel=1e-5)
        assert not bool(state.extras[ROLLOUT][0].any()), "nothing is computed for a row that does not ask for it"
        if bool(state.finished.all()):
            break
    assert bool(state.finished.all()) and partial_calls > 5


def read_by_definition(asked: list[int], changed: list[int], rollout: list[float]) -> list[int]:
    """What a call reads: what is asked, what was just written, the others that are looked at most, and gaps."""
    chosen = {*asked, *changed}
    others = sorted((i for i in range(LENGTH) if i not in chosen), key=lambda i: -rollout[i])
    total, mass, more = sum(rollout[i] for i in others), 0.0, list[int]()
    for i in others:
        mass += rollout[i] / total
        if mass > 0.3 and more:
            break
        more.append(i)
    row = torch.zeros(1, LENGTH, dtype=torch.bool)
    row[0, [*chosen, *more]] = True
    return close_gaps(row, 1)[0].nonzero()[:, 0].tolist()


def test_most_looked_at() -> None:
    score = torch.tensor([[5.0, 1.0, 3.0, 1.0, 9.0]], dtype=torch.float64)
    among = torch.tensor([[True, True, True, True, False]])
    for share, wanted in ((0.1, [0]), (0.5, [0]), (0.8, [0, 2]), (0.9, [0, 1, 2]), (1.0, [0, 1, 2, 3])):
        assert most_looked_at(score, among, share)[0].nonzero()[:, 0].tolist() == wanted
    assert not bool(most_looked_at(score, torch.zeros_like(among), 0.5).any())


@pytest.mark.parametrize("sampler", [Confidence(), Threshold(threshold=0.5)], ids=repr)
def test_with_all_of_the_rollout_a_cache_changes_nothing(sampler: Any) -> None:
    model = tiny(V + 1, V, seed=5, sharpness=2.5, convolution=3)
    rows = [ROW, [None] * 6, [2, None, None, 4, None, None]]
    ways: list[dict[str, Any]] = [{}, {"block": 3}, {"temperature": 0, "window": 2, "block": 3}]
    for options in ways:
        plain, cached = (fill(sampler, model, rows, cache=cache, **options) for cache in (None, "Selective:rollout=1"))
        assert torch.equal(plain[-1].tokens, cached[-1].tokens) and torch.equal(plain[-1].calls, cached[-1].calls)


def test_more_of_the_rollout_reads_more_and_none_computes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = list[int]()
    for share in (0.0, 0.1, 0.5, 1.0):
        noted = Noted(tiny(V + 1, V, seed=2))
        state = begin(Confidence(), [ROW], cache=f"Selective:candidates=2,gap=0,rollout={share}")
        cache, read = make_cache(noted, state), 0
        if not share:
            monkeypatch.setattr(Rollout, "note", None)
        while not bool(state.finished.all()):
            step(noted, MASKED, state, cache)
            read += int((noted.index >= 0).sum())
        monkeypatch.undo()
        counts.append(read)
    assert counts == sorted(set(counts)) and counts[-1] == 11 * LENGTH


def test_rows_in_company() -> None:
    """At temperature 0 a row with a rollout is written as it is alone, whoever joins it."""
    model = tiny(V + 1, V, seed=8, sharpness=2.5)
    rows = [ROW, [7, *[None] * 9], [5, 2, *[None] * 7]]
    ways = [how(Threshold(threshold=0.6), cache=f"Selective:candidates=3,rollout={p}", block=4) for p in (0.1, 0.4, 0)]
    ways = [SamplingParams(**{**vars(way), "temperature": 0}) for way in ways]
    alone = []
    for row, way in zip(rows, ways, strict=True):
        state = start(MASKED, Canvas.of([row]), way)
        cache = make_cache(model, state)
        while not bool(state.finished.all()):
            step(model, MASKED, state, cache)
        alone.append(state.tokens[0])
    state = start(MASKED, Canvas.of(rows[:2]), ways[:2])
    cache = make_cache(model, state)
    step(model, MASKED, state, cache)
    late = start(MASKED, Canvas.of(rows[2:]), ways[2:])
    other = make_cache(model, late)
    assert cache is not None and other is not None
    state, cache = state.join(late), cache.join(other)
    while not bool(state.finished.all()):
        step(model, MASKED, state, cache)
    for at, wanted in enumerate(alone):
        assert torch.equal(state.tokens[at, : len(wanted)], wanted)


def test_what_cannot_be() -> None:
    with pytest.raises(RemaskError, match=r"rollout is 1\.5; it must be from 0 to 1"):
        policy_of("Selective:rollout=1.5")
