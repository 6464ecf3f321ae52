"""The bound of validation rows: the same noise every time, unbiased, with an honest error."""

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from tables import CausalTable, Table, any_order, random_joint, rng

from likelihood.cases import FAMILY, TABLE, TEXT, one
from remask.batch import Batch, Noise
from remask.families import Denoiser
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import Estimate, Request, compare_left_to_right, validate
from remask.sampling.guidance import add_guidance
from remask.seeds import mix_seeds


def corpus(rows: int, seed: int) -> list[tuple[Batch, list[int]]]:
    """Rows drawn from the texts of the table, in batches of 16."""
    tokens = TABLE.texts[torch.randint(len(TABLE.texts), (rows,), generator=rng(seed))]
    return [(Batch(b, torch.ones_like(b, dtype=torch.bool)), [3] * len(b)) for b in tokens.split(16)]


def test_validation_repeats_exactly() -> None:
    batches = corpus(40, 0)
    first, again, other = (validate(TABLE, FAMILY, enumerate(batches), seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.nats != other.nats
    assert (first.kind, first.tokens, first.bytes) == ("bound", 160, 120)
    trained = Masked(objective="low_variance").over(TABLE.vocabulary)
    assert validate(TABLE, trained, enumerate(batches)) == first  # whatever the objective of training
    halves = list(enumerate(batches))
    parts = [validate(TABLE, FAMILY, half) for half in (halves[::2], halves[1::2], [])]
    assert Estimate.total(parts).nats == pytest.approx(first.nats)  # processes that share the batches
    assert math.hypot(*(part.stderr for part in parts)) == pytest.approx(first.stderr)


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_validation_is_unbiased_and_its_error_is_honest(draws: int) -> None:
    """Levels are stratified over the rows of a batch, so the true error is the smaller."""
    batches = corpus(32, 2)
    truth = math.fsum(any_order(TABLE, tuple(row)) for batch, _ in batches for row in batch.tokens.tolist())
    found = [validate(TABLE, FAMILY, enumerate(batches), draws=draws, seed=seed) for seed in range(250)]
    values = torch.tensor([e.nats for e in found], dtype=torch.float64)
    reported = torch.tensor([e.stderr for e in found], dtype=torch.float64)
    spread = float(values.std())
    assert abs(float(values.mean()) - truth) < 4 * spread / math.sqrt(len(values))
    ratio = spread / float(reported.square().mean().sqrt())
    assert 0.5 < ratio < 1.15


@dataclass(frozen=True, kw_only=True)
class Watched(Masked):
    """Masked, remembering the seeds of its noise."""

    seeds: ClassVar[list[int]] = []

    def bound(self, denoiser: Denoiser, batch: Batch, rng: Noise, levels: torch.Tensor | None = None) -> torch.Tensor:
        assert isinstance(rng, torch.Generator)
        self.seeds.append(rng.initial_seed())
        return super().bound(denoiser, batch, rng, levels)


def test_each_batch_has_noise_of_its_own_apart_from_that_of_training() -> None:
    Watched.seeds.clear()
    validate(TABLE, Watched().over(TABLE.vocabulary), enumerate(corpus(160, 4)))
    assert len(set(Watched.seeds)) == 10
    assert not set(Watched.seeds) & {mix_seeds(0, 1, step) for step in range(1000)}  # see Module.training_step


def test_validation_of_a_causal_model_is_exact() -> None:
    joint = random_joint(3, 4, seed=5)
    table = CausalTable(joint, end=3)
    family = Autoregressive().over(table.vocabulary)
    batches = corpus(20, 3)
    found = validate(table, family, enumerate(batches))
    truth = -math.fsum(math.log(float(joint[tuple(row)])) for batch, _ in batches for row in batch.tokens.tolist())
    assert (found.kind, found.stderr) == ("exact", 0.0)
    assert found.nats == pytest.approx(truth, rel=1e-6)


def test_guided_denoisers_serve_the_bound_too() -> None:
    """`Family.bound` takes any denoiser, so guidance composes with it."""
    prompt = torch.tensor([[True, True, False, False]]).expand(64, -1)
    denoiser: Denoiser = add_guidance(TABLE, FAMILY, 1.1, prompt)
    batch = Batch(torch.tensor([TEXT] * 64), ~prompt)
    draws = torch.cat([FAMILY.bound(denoiser, batch, rng(seed)) for seed in range(20)])
    truth = one(request=Request(TEXT[2:], TEXT[:2]), guidance=1.1).nats
    assert abs(float(draws.mean()) - truth) < 5 * float(draws.std()) / math.sqrt(len(draws))


def test_left_to_right_is_the_bound_where_the_joint_is_known() -> None:
    """Behind what is given, or nothing: both are -log p(target | given), by enumeration."""
    joint = random_joint(3, 4, seed=8, sharpness=1.5)
    rows = [([2, 0], [1, 1], 5), ([], [0, 2, 1, 1], 7), ([1], [0, 0, 2], 2)]
    bound, exact = compare_left_to_right(Table.of(joint), FAMILY, rows, "cpu")
    truth = -sum(math.log(joint[(*given, *ids)] / joint[tuple(given)].sum()) for given, ids, _ in rows)
    assert exact.nats == pytest.approx(truth, rel=1e-5) and abs(bound.nats - truth) < 4 * bound.stderr
    assert (exact.kind, exact.tokens, exact.bytes) == ("exact", 9, 14) == (exact.kind, bound.tokens, bound.bytes)
