"""The loop that fills canvases: what every sampler promises at every step, whatever shares the batch."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from tables import Counting, tiny
from torch import Tensor
from writing import BIDIRECTIONAL, CAUSAL, EVERY, MASKED, PROMPTED, begin, family_of, fill, how, network

from remask.errors import RemaskError
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.model.transformer import Transformer
from remask.sampling import Canvas, SamplingParams, start, step, stream
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.esolm import EsoLM
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.loop import groups, make_cache
from remask.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model() -> Transformer:
    return network()


# Every sampler


@pytest.mark.parametrize("name", EVERY)
def test_what_every_step_promises(name: str, model: Transformer) -> None:
    """Each step has a network call and writes something; all that is open is written once, and nothing else changes."""
    params, canvas, counted = EVERY[name], Canvas.of(PROMPTED), Counting(model)
    fixed, family = ~canvas.open & canvas.valid, family_of(EVERY[name].sampler)
    steps, seen = [], []
    for shown in stream(counted, family, begin(params, PROMPTED, seed=3)):
        steps.append(shown)
        seen.append({k: v.clone() for k, v in vars(shown).items()})
        assert torch.equal(shown.tokens[fixed], canvas.tokens[fixed])
        assert not bool(((shown.changed | shown.masked) & ~canvas.open).any())
        assert bool((shown.confidence[fixed] == 1).all()) and not bool(shown.confidence[shown.masked].any())
        assert bool(shown.changed.any())
    assert counted.calls == len(steps) <= 30 and all(asked > 0 for asked in counted.asked)
    assert int(steps[-1].calls.sum()) == sum(counted.sizes)
    assert torch.equal(torch.stack([shown.changed for shown in steps]).long().sum(0), canvas.open.long())
    assert not bool(steps[-1].masked.any())
    for shown, was in zip(steps, seen, strict=True):  # one step is not altered by the next
        assert all(torch.equal(getattr(shown, k), v) for k, v in was.items())
    for one, two in itertools.pairwise(steps):
        assert not bool((two.masked & ~one.masked).any())
        assert bool((two.log_prob <= one.log_prob + 1e-12).all())
    again, other = (fill(params, model, PROMPTED, seed=seed) for seed in (3, 4))
    assert len(again) == len(steps)
    for one, two in zip(steps, again, strict=True):
        assert torch.equal(one.tokens, two.tokens) and torch.equal(one.changed, two.changed)
        torch.testing.assert_close(one.log_prob, two.log_prob, rtol=1e-5, atol=1e-5)
    assert not torch.equal(steps[-1].tokens, other[-1].tokens), "another seed gives another text"


def test_no_call_where_nothing_is_open(model: Transformer) -> None:
    counted = Counting(model)
    for params in EVERY.values():
        assert fill(params, counted, [[1, 2, 3], [4, 5]]) == []
    assert counted.calls == 0


def test_ancestral_skips_steps_that_change_nothing(model: Transformer) -> None:
    counted = Counting(model)
    steps = fill(Ancestral(), counted, [[None] * 5], steps=1000)
    assert counted.calls == len(steps) <= 5
    assert counted.asked == [int(step.changed.sum()) for step in steps]


def test_blocks_are_filled_from_left_to_right(model: Transformer) -> None:
    """Blocks count open positions, so given text does not fill them up."""
    row = [None, 1, None, 2, None, None, 3, None]
    steps = fill(Confidence(), model, [row], block=2)
    order = [int(step.changed[0].nonzero()) for step in steps]
    assert [set(order[:2]), set(order[2:4]), set(order[4:])] == [{0, 2}, {4, 5}, {7}]


HEAT: list[dict[str, Any]] = [{}, {"temperature": 0}, {"temperature": 3.0, "top_p": 0.9, "top_k": 4}]


@pytest.mark.parametrize("number", range(len(HEAT)))
def test_the_mask_is_never_written(number: int) -> None:
    """A network whose head has a row for the mask, as LLaDA's, and that would rather write nothing else."""
    model = tiny(6, 6, seed=1)
    family = Masked().over(Vocabulary(size=6, mask=2, end=5))

    def eager(tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        logits = model(tokens, ask=ask, **reading)
        logits[..., 2] += 20.0
        return logits

    for params in [*BIDIRECTIONAL.values()][number :: len(HEAT)]:
        last = fill(params, eager, [[None] * 8, [1, *[None] * 5]], family=family, **HEAT[number])[-1]
        assert not bool((last.tokens == 2).any())
        assert bool(last.log_prob.isfinite().all())


# A row does not depend on its neighbours; batches that change between steps are in test_batches.py


@pytest.mark.parametrize("name", EVERY)
def test_a_row_is_the_same_alone_and_in_any_batch(name: str, model: Transformer) -> None:
    """Tokens, confidence, log-probability and calls, wherever the row stands; every other one stops at an end."""
    stop = list(EVERY).index(name) % 2 == 0
    batches = [[4, 2, 0, 3, 1], [1, 3]]
    last = [fill(EVERY[name], model, [PROMPTED[i] for i in b], seeds=b, stop=stop)[-1] for b in batches]
    for i, row in enumerate(PROMPTED):
        alone = fill(EVERY[name], model, [row], seeds=[i], stop=stop)[-1]
        for batch, found in zip(batches, last, strict=True):
            if i in batch:
                at = batch.index(i)
                assert torch.equal(found.tokens[at, : len(row)], alone.tokens[0])
                assert int(found.calls[at]) == int(alone.calls[0])
                torch.testing.assert_close(found.confidence[at, : len(row)], alone.confidence[0], rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(found.log_prob[at], alone.log_prob[0], rtol=1e-4, atol=1e-5)


def test_a_forced_text_is_written_and_has_its_log_probability(model: Transformer) -> None:
    """What a sampler has written, forced upon it with the same seeds, has the same probability."""
    options: dict[str, Any] = {"temperature": 1.5, "top_k": 6}
    for params in EVERY.values():
        if params.sampler.chooses_first:
            family = family_of(params.sampler)
            free = fill(params, model, PROMPTED, seeds=range(5), **options)[-1]
            again = start(family, Canvas.of(PROMPTED), replace(params, **options), range(5), forced=free.tokens)
            *_, last = stream(model, family, again)
            assert torch.equal(last.tokens, free.tokens)
            torch.testing.assert_close(last.log_prob, free.log_prob)
            torch.testing.assert_close(last.confidence, free.confidence)


# Starting


def test_seeds_are_those_of_the_params_where_none_are_given() -> None:
    params = [how(Confidence(), seed=7), how(Confidence(), seed=8)]
    canvas = Canvas.of([[None]] * 2)
    assert start(MASKED, canvas, params).seed.tolist() == [7, 8]
    assert start(MASKED, canvas, params, [3, 4]).seed.tolist() == [3, 4]
    assert start(MASKED, canvas, params[0]).seed.tolist() == [7, 7]


def test_what_a_sampler_does_not_take_is_said() -> None:
    eso = Interpolating().over(MASKED.vocabulary)
    for sampler, family, options, says in (
        (LeftToRight(), CAUSAL, {"block": 2}, "LeftToRight .*leave block out"),
        (LeftToRight(), CAUSAL, {"steps": 2}, "LeftToRight.* steps"),
        (EsoLM(), eso, {"block": 2}, "EsoLM .*leave block out"),
        (EsoLM(parallel_blocks=2), eso, {"steps": 2}, "EsoLM.* steps|steps of EsoLM"),
    ):
        with pytest.raises(RemaskError, match=says):
            begin(sampler, [[None] * 4], family=family, **options)


def test_groups_are_rows_of_one_sampler_with_as_many_steps() -> None:
    params: list[SamplingParams] = [
        how(Confidence(), steps=4),
        how(Confidence(), temperature=0.5, steps=4),
        how(Confidence(), steps=2),
        how(FirstHitting()),
        how(Confidence(), steps=4, seed=9, stop=True),
    ]
    state = start(MASKED, Canvas.of([[None] * 4] * 5), params)
    found = [(sampler, None if rows is None else rows.tolist()) for sampler, rows in groups(state)]
    assert found == [(Confidence(), [0, 1, 4]), (Confidence(), [2]), (FirstHitting(), [3])]
    assert groups(state.rows(torch.tensor([0, 4]))) == [(Confidence(), None)]


def test_a_block_is_no_larger_than_the_text(model: Transformer) -> None:
    large, whole = (fill(Confidence(), model, PROMPTED, steps=4, block=block) for block in (50, None))
    assert [step.changed.sum() for step in large] == [step.changed.sum() for step in whole]
    assert torch.equal(large[-1].tokens, whole[-1].tokens)


def test_an_exact_cache_is_for_samplers_that_use_one(model: Transformer) -> None:
    family = Interpolating().over(MASKED.vocabulary)
    with_, without = EsoLM(), EsoLM(cache=False)
    assert make_cache(model, begin(Confidence(), PROMPTED)) is None
    assert make_cache(model, begin(without, PROMPTED, family=family)) is None
    cache = make_cache(model, begin(with_, PROMPTED, family=family, guidance=0.5))
    assert cache is not None and (cache.count, cache.length, cache.branches) == (5, 13, 2)
    both = [how(with_), how(without)]
    assert make_cache(model, start(family, Canvas.of([[None] * 3] * 2), both)) is None


def test_a_step_that_changes_nothing_shows_nothing(model: Transformer) -> None:
    state = begin(Ancestral(), [[None]], steps=50)
    shown = [step(model, MASKED, state) for _ in range(50)]
    assert sum(s is not None for s in shown) == 1 and bool(state.finished)
    assert int(state.calls) == 1
