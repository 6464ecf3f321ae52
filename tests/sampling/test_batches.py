"""Rows leave, join and change places between any two steps, whatever their samplers: each is as it would be alone."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import pytest
import torch
from tables import Counting, tiny
from torch import Tensor
from writing import CAUSAL, MASKED, Row, V, how

from remask.families import Family
from remask.families.interpolating import Interpolating
from remask.families.uniform import Uniform
from remask.model.cache import KeyValueCache
from remask.sampling import Canvas, Query, Sampler, SamplingParams, State, samplers, start, step
from remask.sampling.adaptive import EntropyBound, Factor, LocalLeap, Runs, Threshold
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence, Rule, Schedule
from remask.sampling.credit import Credit
from remask.sampling.esolm import EsoLM
from remask.sampling.expanding import DAEDAL
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.freedave import FreeDave
from remask.sampling.klass import KLASS
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA
from remask.sampling.loop import make_cache
from remask.sampling.predictions import Measure
from remask.sampling.prompt_lookup import PromptLookup
from remask.sampling.psi import Psi
from remask.sampling.sampler import largest
from remask.sampling.smdm import SMDM
from remask.sampling.wino import WINO
from remask.vocabulary import Vocabulary

Draw = random.Random


@dataclass(frozen=True, kw_only=True)
class Shuffled(Sampler):
    """A sampler as a user may add one: it draws its order beforehand and keeps it in the extras of the state."""

    def begin(self, state: State, family: Family) -> None:
        state.extras["order"] = state.uniforms(state.open)

    def query(self, state: State, family: Family) -> Query:
        return Query(largest(state.extras["order"], state.active, torch.ones_like(state.step)))

    def commit(self, state: State, family: Family, query: Query, logits: Tensor) -> Tensor:
        state.write(query.ask, *state.draw(query.ask, logits))
        return query.ask


def any_order(r: Draw) -> tuple[Sampler, dict[str, Any]]:
    """A sampler of masked models with its steps and blocks."""
    block = {"block": r.choice([None, None, 2, 3])}
    steps = {"steps": r.choice([None, 2, 5])}
    psi = {"kappa": r.choice([0.2, 0.7]), "schedule": r.choice(["constant", "rescaled"]), "eta": 0.5}
    held = r.choice([{}, {"hold": 0.4, "high": 0.5, "low": 0.5}])
    return r.choice(
        [
            (Ancestral(), {"steps": r.choice([3, 6]), **block}),
            (FirstHitting(at_once=r.choice([1, 2])), {**steps, **block}),
            (Confidence(rule=r.choice(get_args(Rule)), schedule=r.choice(get_args(Schedule))), {**steps, **block}),
            (LLaDA(remasking=r.choice(["low_confidence", "random"]), late_end=r.random() < 0.5), {**steps, **block}),
            (SMDM(algorithm=r.choice(["greedy", "origin"])), {"steps": r.choice([3, 6]), **block}),
            (Psi(tail=r.choice(["ancestral", "greedy"]), **psi, **held), {"steps": r.choice([4, 6])}),
            (Psi(**psi), {"steps": r.choice([4, 6]), **block}),
            (Shuffled(), {}),
            (Threshold(threshold=r.choice([0.3, 0.6])), block),
            (Factor(factor=r.choice([0.7, 2.0])), block),
            (EntropyBound(bound=r.choice([0.2, 1.0]), measure=r.choice(get_args(Measure))), block),
            (LocalLeap(threshold=0.5, near=0.3, radius=2), block),
            (Runs(threshold=0.8, low=0.2), block),
            (KLASS(threshold=0.2, drift=r.choice([0.05, 0.5]), history=r.choice([1, 2])), {**steps, **block}),
            (Credit(threshold=0.4, weight=1.5), block),
            (Confidence(prior=r.choice([1.0, 10.0]), rule=r.choice(get_args(Measure))), {**steps, **block}),
            (FreeDave(drafts=r.choice([1, 3]), prior=r.choice([0.0, 2.0])), {**steps, **block, "temperature": 0.0}),
            (WINO(threshold=0.3, keep=r.choice([0.5, 0.9])), {**block, "guidance": 0.0}),
            (Threshold(threshold=0.6, prior=2.0, finish=r.choice([0.5, 1.5])), block),
        ]
    )


def approximately_cached(r: Draw) -> tuple[Sampler, dict[str, Any]]:
    """The same, most of them with a cache."""
    sampler, options = any_order(r)
    name, refresh = r.choice(["Prefix", "Dual", "Delayed", "Selective"]), r.choice([":refresh=0", ":refresh=2"])
    if isinstance(sampler, WINO | FreeDave):
        return sampler, options
    if getattr(sampler, "finish", 0):  # it asks for all that is masked
        return sampler, {**options, "cache": r.choice(["Prefix", "Dual:refresh=2", "Delayed"])}
    few = ",candidates=2,gap=1" if name == "Selective" else ""
    window = {"window": r.choice([None, 0, 2]), "grow": r.random() < 0.3} if options.get("block") else {}
    return sampler, {**options, **window, "cache": r.choice([None, name + refresh + few, name + refresh + few])}


def revising(r: Draw) -> tuple[Sampler, dict[str, Any]]:
    """A sampler of uniform-state models."""
    sampler = r.choice([Ancestral(), Psi(kappa=0.5), Psi(kappa=0.3, high=0.7, low=0.2, tail="greedy")])
    return sampler, {"steps": r.choice([3, 5])}


def drawn_order(r: Draw) -> tuple[Sampler, dict[str, Any]]:
    """Eso-LM's sampler, by a time grid or in parallel."""
    return r.choice([(EsoLM(), {"steps": r.choice([2, 4, 16])}), (EsoLM(parallel_blocks=2), {})])


def left(r: Draw) -> tuple[Sampler, dict[str, Any]]:
    """Left to right, with drafts or without."""
    return r.choice([LeftToRight(), PromptLookup(ngram=r.choice([1, 2]), longest=r.choice([1, 2, 8]))]), {}


@dataclass(frozen=True)
class Kind:
    """A family, the samplers that fit it, and how many batches are tried."""

    family: Family
    choose: Callable[[Draw], tuple[Sampler, dict[str, Any]]]
    batches: int
    guided: bool = True


KINDS = {
    "any order": Kind(MASKED, any_order, 30),
    "any order, approximately cached": Kind(MASKED, approximately_cached, 30),
    "left to right, cached": Kind(CAUSAL, left, 20, guided=False),
    "eso-lm A, cached": Kind(Interpolating(alpha_0=0.6, variant="A").over(MASKED.vocabulary), drawn_order, 20),
    "eso-lm B, cached": Kind(Interpolating(alpha_0=0.6, variant="B").over(MASKED.vocabulary), drawn_order, 20),
    "uniform": Kind(Uniform().over(Vocabulary(size=V, end=8)), revising, 15, guided=False),
}


@dataclass
class Written:
    """A row, how it is written, and what becomes of it alone, without a cache."""

    row: Row
    params: SamplingParams
    tokens: Tensor = field(init=False)
    confidence: Tensor = field(init=False)
    log_prob: float = field(init=False)
    calls: int = field(init=False)
    valid: Tensor = field(init=False)

    def check(self, state: State, at: int) -> None:
        """One row of a state is as this row is alone."""
        length = len(self.row)
        assert torch.equal(state.tokens[at, :length], self.tokens)
        assert torch.equal(state.valid[at, :length], self.valid)
        torch.testing.assert_close(state.confidence[at, :length], self.confidence, rtol=1e-3, atol=1e-4)
        assert float(state.log_prob[at]) == pytest.approx(self.log_prob, rel=1e-3, abs=1e-4)
        if not isinstance(self.params.sampler, FreeDave):  # whose drafts are not read beside a cache
            assert int(state.calls[at]) == self.calls


def some_row(r: Draw, kind: Kind) -> Written:
    """A prompt with what is open behind it, sometimes with given text between, and options of its own."""
    prompt = [r.randrange(V - 1) for _ in range(r.randrange(4))]
    open_: list[int | None] = [None] * r.randint(1, 6)
    behind = r.choice([[], [], [3], [4, None]])
    sampler, options = kind.choose(r)
    usual = {
        "temperature": r.choice([1.0, 1.0, 0.0, 0.6, 1.7]),
        "top_p": r.choice([1.0, 1.0, 0.8]),
        "top_k": r.choice([0, 0, 4]),
        "guidance": r.choice([0.0, 0.0, 0.7, -0.4]) if kind.guided else 0.0,
        "stop": r.random() < 0.5,
        "seed": r.getrandbits(60),
    }
    if sampler.takes_expansion and not behind and not {"cache", "window", "grow"} & options.keys() and r.random() < 0.5:
        low, below = r.choice([0.4, 1.0]), r.choice([0.2, 0.6])
        options["expand"] = DAEDAL(initial=2, add=r.choice([2, 3]), ends=2, append_below=below, low=low)
        open_ = [*open_, *[None] * r.randint(0, 6)]
    return Written([*prompt, *open_, *behind], how(sampler, **{**usual, **options}))


def finish(state: State, advance: Callable[[State], object]) -> State:
    """All steps of a state."""
    for _ in range(200):
        if bool(state.finished.all()):
            return state
        advance(state)
    raise AssertionError("the rows are not complete after 200 steps")


def alone(kind: Kind, model: Any, rows: Sequence[Written]) -> None:
    """Writes each row by itself."""
    for each in rows:
        state = start(kind.family, Canvas.of([each.row]), each.params)
        cache = make_cache(model, state) if each.params.cache else None
        finish(state, partial(step, model, kind.family, cache=cache))
        each.tokens, each.confidence, each.valid = state.tokens[0], state.confidence[0], state.valid[0]
        each.log_prob, each.calls = float(state.log_prob[0]), int(state.calls[0])


@dataclass
class Batch:
    """Rows under way together: the state, its cache, and which they are."""

    state: State
    cache: KeyValueCache | None
    rows: list[Written]

    def take(self, chosen: Sequence[int]) -> "Batch":
        """Some of them, in that order."""
        index = torch.tensor(list(chosen), dtype=torch.int64)
        cache = None if self.cache is None else self.cache.rows(index)
        return Batch(self.state.rows(index), cache, [self.rows[i] for i in chosen])

    def join(self, other: "Batch") -> "Batch":
        """Both together."""
        cache = None if self.cache is None or other.cache is None else self.cache.join(other.cache)
        return Batch(self.state.join(other.state), cache, self.rows + other.rows)


def begin_batch(kind: Kind, model: Any, rows: list[Written]) -> Batch:
    state = start(kind.family, Canvas.of([each.row for each in rows]), [each.params for each in rows])
    return Batch(state, make_cache(model, state, approximate=kind.choose is approximately_cached), rows)


def write_together(kind: Kind, model: Any, rows: list[Written], r: Draw) -> None:
    """Rows that come and go: some join late, some wait aside for a while, places change, and complete ones leave."""
    counted = Counting(model)
    waiting, aside, batch = rows, list[Batch](), None
    for _ in range(400):
        if waiting and (batch is None or r.random() < 0.4):
            n = r.randint(1, len(waiting))
            new, waiting = begin_batch(kind, model, waiting[:n]), waiting[n:]
            batch = new if batch is None else r.choice([batch.join(new), new.join(batch)])
        if aside and (batch is None or r.random() < 0.4):
            other = aside.pop()
            batch = other if batch is None else batch.join(other)
        if batch is None:
            return
        if r.random() < 0.5:
            batch = batch.take(r.sample(range(len(batch.rows)), len(batch.rows)))
        if len(batch.rows) > 1 and r.random() < 0.25:
            cut = r.randrange(1, len(batch.rows))
            aside.append(batch.take(range(cut)))
            batch = batch.take(range(cut, len(batch.rows)))
        before = counted.calls
        step(counted, kind.family, batch.state, batch.cache)
        shadows = any(isinstance(params.sampler, WINO) for params in batch.state.params)
        assert counted.calls - before <= 1 + shadows, "one network call for all rows, and one for those with a shadow"
        finished = batch.state.finished.tolist()
        leave = all(finished) or (any(finished) and r.random() < 0.5)  # complete rows may stay: they do not change
        if leave:
            for at, each in enumerate(batch.rows):
                if finished[at]:
                    each.check(batch.state, at)
            left_over = [at for at, done in enumerate(finished) if not done]
            batch = batch.take(left_over) if left_over else None
    raise AssertionError("the rows are not complete after 400 steps")


@pytest.mark.parametrize("name", KINDS)
def test_rows_that_come_and_go_are_written_as_each_would_be_alone(name: str) -> None:
    kind, r = KINDS[name], random.Random(name)
    model = tiny(V + 1, V, layers=2, seed=5, sharpness=2.5, time=name == "uniform")
    pool = [some_row(r, kind) for _ in range(60)]
    fitting = {sampler for sampler in samplers().values() if sampler().fits(kind.family)}
    while not fitting <= {type(each.params.sampler) for each in pool}:
        pool.append(some_row(r, kind))
    alone(kind, model, pool)
    for _ in range(kind.batches):
        write_together(kind, model, r.sample(pool, r.randint(2, 7)), r)


def test_all_samplers_at_once_with_one_call_a_step() -> None:
    kind, r = KINDS["any order"], random.Random(1)
    model = tiny(V + 1, V, seed=5, sharpness=2.5)
    pool = [some_row(r, kind) for _ in range(80)]
    alone(kind, model, pool)
    counted, batch = Counting(model), begin_batch(kind, model, pool)
    longest = max(each.calls for each in pool)
    finish(batch.state, lambda state: step(counted, kind.family, state))
    for at, each in enumerate(pool):
        each.check(batch.state, at)
    assert longest <= 2 * counted.calls and max(counted.sizes) > 40
