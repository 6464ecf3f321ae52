"""One training step."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import killing
import pytest
import torch
from runs import column
from safetensors.torch import load_file
from torch import Tensor

from remask.batch import Batch
from remask.data.batches import Batches, Rows
from remask.data.tokens import open_tokens
from remask.errors import RemaskError
from remask.families import Denoiser, Loss
from remask.families.masked import Masked
from remask.model.sizes import SizeOverrides
from remask.training.engine import import_lightning
from remask.training.optim import Budget, Optimizer
from remask.training.plan import decide
from remask.training.recipe import Recipe
from remask.training.start import set_up
from remask.training.states import list_states

Fit = Callable[..., Path]


def test_accumulated_steps_are_whole_steps(fit: Fit, tmp_path: Path) -> None:
    for accumulate in (1, 4):
        adamw = Optimizer(kind="adamw")  # Muon enlarges the rounding of small singular values
        fit(tmp_path / str(accumulate), steps=8, log_every=1, accumulate=accumulate, optimizer=adamw)
    for name in ("loss", "gradient_norm", "lr", "tokens"):
        assert column(tmp_path / "4", name) == pytest.approx(column(tmp_path / "1", name), rel=1e-4), name


class Uneven(Batches):
    """Of row i of a global batch of 8, only the last 1 + 8 (i % 8) tokens are scored."""

    def share(self, index: int, first: int = 0, count: int | None = None) -> Batch:
        batch = super().share(index, first, count)
        least = 63 - 8 * torch.arange(first, first + len(batch.tokens))[:, None]
        scored = torch.arange(64) >= least
        every = sum(1 + 8 * i for i in range(self.batch))
        return Batch(batch.tokens, scored, offset=first, global_rows=self.batch, global_tokens=every)


def uneven_steps(corpus: Path, out: Path, accumulate: int, devices: int) -> tuple[dict[str, Tensor], Any]:
    """Weights after three steps, and the gradient's norm in the last."""
    import_lightning()
    import lightning

    from remask.training.module import Module

    recipe = Recipe(
        data=corpus, out=out, architecture=SizeOverrides(layers=2, width=32, heads=2, ffn=64), budget=Budget(steps=3),
        optimizer=Optimizer(kind="adamw", lr=0.01), length=64, batch=8, accumulate=accumulate, precision="fp32",
        compile="off",
    )  # fmt: skip
    setup = set_up(recipe, recipe.family, None)
    setup.fill()
    setup = replace(setup, batches=Uneven(setup.batches.rows, 8, seed=0))
    module = Module(setup, decide(setup))
    lightning.Trainer(
        accelerator="cpu",
        devices=devices,
        strategy="ddp_fork" if devices > 1 else "auto",
        max_steps=3,
        accumulate_grad_batches=accumulate,
        default_root_dir=out,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    ).fit(module)
    return {k: v.detach().clone() for k, v in module.denoiser.state_dict().items()}, module.gradient_norm


@pytest.mark.parametrize(("accumulate", "devices"), [(8, 1), (2, 2)])
def test_shares_of_unequal_numbers_of_tokens_make_the_step_of_one(
    corpus: Path, tmp_path: Path, accumulate: int, devices: int
) -> None:
    whole, norm = uneven_steps(corpus, tmp_path, 1, 1)
    found, _ = uneven_steps(corpus, tmp_path, accumulate, devices)
    assert norm > 0
    for name, weight in whole.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-4, atol=1e-5)


def test_every_step_has_its_own_rows_in_order(fit: Fit, corpus: Path, tmp_path: Path) -> None:
    """What a step reads is a function of its number, over epochs too: 400 rows make 50 steps."""
    seen: list[Tensor] = []

    class Recording(Masked):
        def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
            seen.append(batch.tokens)
            return super().loss(denoiser, batch, rng)

    fit(tmp_path, steps=60, family=Recording())
    batches = Batches(Rows(open_tokens(corpus).train, 64), 8, 0)
    assert len(seen) == 60
    assert all(torch.equal(tokens, batches.share(i).tokens) for i, tokens in enumerate(seen))


def test_random_length_loses_no_token(fit: Fit, corpus: Path, tmp_path: Path) -> None:
    rows = Rows(open_tokens(corpus).train, 64)
    cut, whole = Batches(rows, 8, 0, random_length=1.0), Batches(rows, 8, 0)
    for index in range(5):
        batch = cut.share(index)
        assert torch.equal(batch.tokens, whole.share(index).tokens)
        assert batch.scored.all()
        assert batch.segments is not None and (batch.segments.amax(1) == 1).all()
    out = tmp_path / "run"
    fit(out, steps=60, random_length=1.0, family=Masked(ceiling=1.0))
    assert json.loads((out / "run.json").read_text())["plan"]["tokens"] == 8 * 64
    assert column(out, "loss")[-1] < column(out, "loss")[0] - 0.5


@dataclass(frozen=True, kw_only=True)
class Broken(Masked):
    """Masked, with a loss that is not finite in some steps of an unbroken run."""

    bad: tuple[int, ...] = ()
    """Those steps, from 1."""
    value: float = float("nan")
    seeds: ClassVar[list[int]] = []
    """Of the noise of the steps so far."""

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        found = super().loss(denoiser, batch, rng)
        if rng.initial_seed() not in Broken.seeds:
            Broken.seeds.append(rng.initial_seed())
        if len(Broken.seeds) in self.bad:
            return Loss(found.total * 0 + self.value, found.tokens)
        return found


@pytest.fixture(autouse=True)
def first_step() -> None:
    Broken.seeds.clear()


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_is_skipped(fit: Fit, tmp_path: Path, value: float, accumulate: int) -> None:
    family = Broken(bad=(3, 6), value=value)
    fit(tmp_path, steps=6, family=family, save_every=1, log_every=1, accumulate=accumulate)
    assert column(tmp_path, "skipped") == [0, 0, 1, 1, 1, 2]
    after, before = (torch.load(path, weights_only=True) for path in list_states(tmp_path))
    assert (before["global_step"], after["global_step"]) == (5, 6)
    assert after["remask"] == {"skipped": 2, "in_a_row": 1}
    assert killing.same(before["state_dict"], after["state_dict"])
    torch.testing.assert_close(
        before["optimizer_states"][0]["state"], after["optimizer_states"][0]["state"], rtol=0, atol=0
    )
    assert all(w.isfinite().all() for w in killing.weights(tmp_path).values())


def test_ten_bad_steps_in_a_row_end_the_run(fit: Fit, tmp_path: Path) -> None:
    family = Broken(bad=(2, *range(6, 40)))
    with pytest.raises(RemaskError, match=r"10 steps in a row .*the last of them 15; .*checkpoints/step-.*\.ckpt") as e:
        fit(tmp_path, steps=40, family=family, save_every=4)
    assert str(list_states(tmp_path)[0]) in str(e.value)
    assert all(w.isfinite().all() for w in load_file(tmp_path / "latest" / "model.safetensors").values())


def test_ten_bad_steps_before_any_checkpoint(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match="there is no checkpoint yet"):
        fit(tmp_path, steps=40, family=Broken(bad=tuple(range(1, 41))), save_every=20)
