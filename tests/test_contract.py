"""Every family with every sampler: it fills the canvas and keeps its promises, or says why it does not fit."""

import math
from dataclasses import replace

import pytest
import torch
from tables import rng, steps_of

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families import build, describe, families
from remask.likelihood import Request, score
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer, initialise
from remask.sampling import Canvas, samplers
from remask.vocabulary import Vocabulary

VOCABULARY = Vocabulary(size=12, mask=11, end=0)
FAMILIES = sorted(families())
SAMPLERS = sorted(samplers())


@pytest.fixture(scope="module")
def denoiser() -> Transformer:
    shape = Architecture(
        layers=2, width=16, heads=2, kv_heads=2, ffn=32, head_width=8, context=32, rows=12, predicted=11
    )
    model = Transformer(shape)
    initialise(model, "normal", torch.Generator().manual_seed(0))
    return model


def test_families_and_samplers_are_found_by_their_files() -> None:
    assert {"Masked", "Autoregressive"} <= set(FAMILIES)
    assert {"Ancestral", "FirstHitting", "Confidence", "LeftToRight"} <= set(SAMPLERS)


@pytest.mark.parametrize("family_name", FAMILIES)
def test_every_family_has_a_sampler_that_fits(family_name: str) -> None:
    family = families()[family_name]().over(VOCABULARY)
    assert samplers()[family.sampler]().fits(family)


@pytest.mark.parametrize("family_name", FAMILIES)
@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_pair(family_name: str, sampler_name: str, denoiser: Transformer) -> None:
    family = families()[family_name]().over(VOCABULARY)
    sampler = samplers()[sampler_name]()
    canvas = Canvas.of([[3, 4, None, None, None, 5], [None, None, None, None, None, None], [6, None, None, None]])
    if not sampler.fits(family):
        with pytest.raises(RemaskError, match=f"{sampler_name} does not fit {family_name}.*these do"):
            steps_of(denoiser, family, canvas, sampler)
        return
    steps = steps_of(denoiser, family, canvas, sampler)
    last = steps[-1]
    given = canvas.valid & ~canvas.open
    assert torch.equal(last.tokens[given], canvas.tokens[given])
    assert not bool(last.masked.any())
    assert bool((last.tokens[canvas.valid] != VOCABULARY.mask).all())
    assert all(math.isfinite(p) and (p == 0 if sampler.greedy else p < 0) for p in last.log_prob.tolist())
    if family.order == "all" or sampler.rewrites:
        changed = torch.stack([step.changed for step in steps]).any(0)
        assert not bool((changed & ~canvas.open).any())
        assert int(last.calls.max()) <= len(steps)
        assert family.order != "all" or last.calls.tolist() == [len(steps)] * 3
        return
    written = torch.stack([step.changed for step in steps]).sum(0)
    assert torch.equal(written, canvas.open.long()), "each open position is written once, no other ever"
    assert 1 <= int(last.calls.max()) <= (24 if sampler.greedy else 6)  # each draft that is read counts


@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_plain_data_and_comes_back(name: str) -> None:
    family = families()[name]()
    assert build(describe(family)) == family
    assert "_vocabulary" not in describe(family.over(VOCABULARY))
    assert replace(family.over(VOCABULARY)).vocabulary == VOCABULARY, "dataclasses.replace keeps the vocabulary"
    with pytest.raises(RemaskError, match="knows no vocabulary yet"):
        _ = family.vocabulary


def rows() -> Batch:
    """Four rows of two given and six scored tokens."""
    tokens = torch.randint(0, 11, (4, 8), generator=rng(1))
    scored = torch.ones_like(tokens, dtype=torch.bool)
    scored[:, :2] = False
    return Batch(tokens, scored)


@pytest.mark.parametrize("name", FAMILIES)
def test_family_trains(name: str, denoiser: Transformer) -> None:
    family, batch = families()[name]().over(VOCABULARY), rows()
    loss = family.loss(denoiser, batch, rng(2))
    assert loss.tokens == 24 and math.isfinite(float(loss.total.detach())) and loss.total.requires_grad
    bound = family.bound(denoiser, batch, rng(2))
    assert bound.shape == (4,) and bound.dtype == torch.float64 and bool((bound > 0).all())


@pytest.mark.parametrize("name", FAMILIES)
def test_inputs_carry_the_weights_of_the_positions_they_ask(name: str) -> None:
    """`weight` is that of each row or of each position, and stands with its token however the family sorts them."""
    family, batch = families()[name]().over(VOCABULARY), rows()
    ask = batch.scored & (torch.rand(batch.tokens.shape, generator=rng(3)) < 0.6)
    each = torch.arange(1.0, 33.0).view(4, 8)
    noisy = family.inputs_for(batch, ask, each)
    pairs = zip(noisy.ask.nonzero()[:, 0].tolist(), noisy.target.tolist(), noisy.weight.tolist(), strict=True)
    wanted = zip(ask.nonzero()[:, 0].tolist(), batch.tokens[ask].tolist(), each[ask].tolist(), strict=True)
    assert sorted(pairs) == sorted(wanted)
    by_row = family.inputs_for(batch, ask, each[:, 0])
    assert sorted(by_row.weight.tolist()) == sorted(each[:, :1].expand_as(ask)[ask].tolist())


@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_scored_by_every_estimator_it_names(name: str, denoiser: Transformer) -> None:
    """One value, whatever shares its batch; exact ones agree with each other where several are."""
    family = families()[name]().over(VOCABULARY)
    requests = [Request((3, 4, 5, 1), (2, 7)), Request((6, 2)), Request((8, 1, 1), (9,))]
    for estimator in family.estimators:
        options = {"estimator": estimator, "draws": 12, "seed": 4}
        together = [estimate for _, estimate in score(denoiser, family, requests, **options)]
        for request, found in zip(requests, together, strict=True):
            ((_, alone),) = score(denoiser, family, [request], **options)
            assert math.isfinite(found.nats) and found.nats > 0 and found.tokens == len(request.target)
            assert found.nats == pytest.approx(alone.nats, rel=1e-5), (estimator, request)
            assert found.kind == alone.kind
    ((_, default),) = score(denoiser, family, requests[:1])
    assert (default.kind == "exact") == family.exact


def test_unknown_family_lists_the_known() -> None:
    with pytest.raises(RemaskError, match=r"unknown family 'Maskd'.*Did you mean 'Masked'\?.*Known: Autoreg"):
        build({"name": "Maskd"})
