"""Every family with every sampler: it fills the canvas and keeps its promises, or says why it does not fit."""

import math

import pytest
import torch
from tables import steps_of

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families import build, describe, families
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
    assert all(math.isfinite(p) and p < 0 for p in last.log_prob.tolist())
    if family.revises or sampler.rewrites:
        changed = torch.stack([step.changed for step in steps]).any(0)
        assert not bool((changed & ~canvas.open).any())
        assert int(last.calls.max()) <= len(steps)
        assert not family.revises or last.calls.tolist() == [len(steps)] * 3
        return
    written = torch.stack([step.changed for step in steps]).sum(0)
    assert torch.equal(written, canvas.open.long()), "each open position is written once, no other ever"
    assert 1 <= int(last.calls.max()) <= 6


@pytest.mark.parametrize("name", FAMILIES)
def test_family_is_plain_data_and_comes_back(name: str) -> None:
    family = families()[name]()
    assert build(describe(family)) == family


@pytest.mark.parametrize("name", FAMILIES)
def test_family_trains_and_scores(name: str, denoiser: Transformer) -> None:
    family = families()[name]().over(VOCABULARY)
    tokens = torch.randint(0, 11, (4, 8), generator=torch.Generator().manual_seed(1))
    scored = torch.ones_like(tokens, dtype=torch.bool)
    scored[:, :2] = False
    batch = Batch(tokens, scored)
    loss = family.loss(denoiser, batch, torch.Generator().manual_seed(2))
    assert loss.tokens == 24 and math.isfinite(float(loss.total)) and loss.total.requires_grad
    bound = family.bound(denoiser, batch, torch.Generator().manual_seed(2))
    assert bound.shape == (4,) and bound.dtype == torch.float64 and bool((bound > 0).all())


def test_unknown_family_lists_the_known() -> None:
    with pytest.raises(RemaskError, match=r"unknown family 'Maskd'.*Did you mean 'Masked'\?.*Known: Autoreg"):
        build({"name": "Maskd"})
