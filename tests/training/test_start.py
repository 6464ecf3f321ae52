"""Where runs begin: named sizes, checkpoints, data that fits or does not."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import column, losses
from safetensors.torch import load_file

import remask
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.data.tokens import prepare
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import SizeOverrides
from remask.training.optim import Optimizer
from remask.training.states import list_states

Fit = Callable[..., Path]


def test_rows_too_long_for_the_validation_split(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, steps=2, length=500, batch=1, validation_rows=4)
    assert "the validation split is shorter than one row of 500 tokens" in capsys.readouterr().err
    assert column(tmp_path, "valid_nats_per_token") == []


def test_a_run_starts_from_a_checkpoint(fit: Fit, plain_runs: dict[str, Path], tmp_path: Path) -> None:
    """With no learning to speak of, the weights stay those of the checkpoint; also of one in another's form."""
    masked_run = plain_runs["masked"]
    shape = {"architecture": SizeOverrides(), "optimizer": Optimizer(kind="adamw", lr=1e-12)}
    fit(tmp_path / "on", steps=2, model=str(masked_run), **shape)
    before, after = (load_file(p / "latest" / "model.safetensors") for p in (masked_run, tmp_path / "on"))
    assert all(torch.allclose(before[k], after[k], atol=1e-9) for k in before)
    llama = convert(masked_run, tmp_path / "llada", to="llada")
    fit(tmp_path / "from theirs", steps=2, model=str(llama), **shape)
    assert all(
        torch.allclose(before[k], v, atol=1e-9)
        for k, v in load_file(tmp_path / "from theirs" / "latest" / "model.safetensors").items()
    )


def test_a_llama_trains_on_as_a_masked_model(fit: Fit, plain_runs: dict[str, Path], tmp_path: Path) -> None:
    """Out as a Llama, in as a masked model with a row for the mask and shifted predictions, and on with training."""
    llama = convert(plain_runs["left"], tmp_path / "llama", to="llama")
    masked = convert(llama, tmp_path / "masked", overrides=Overrides(family="Masked", shift=True))
    rates = Masked(ceiling=1.0)  # the loss of lower mask rates is lower
    fit(tmp_path / "run", steps=30, model=str(masked), family=rates, architecture=SizeOverrides(), validation_rows=4)
    m = remask.load(tmp_path / "run")
    assert m.model.architecture.shifted and m.family.vocabulary.mask == 257
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    assert len(remask.sample(m, prompt="ab", length=8, seed=0).tokens) <= 8


def test_a_run_that_goes_on_needs_its_beginning_no_more(
    fit: Fit, plain_runs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = convert(plain_runs["masked"], tmp_path / "llada", to="llada")
    options: dict[str, Any] = {"steps": 5, "model": str(start), "architecture": SizeOverrides()}
    fit(tmp_path / "run", **options)
    shutil.rmtree(start)
    capsys.readouterr()
    fit(tmp_path / "run", **options)
    assert "is complete: 5 steps" in capsys.readouterr().err
    with pytest.raises(RemaskError, match="no checkpoint at"):
        fit(tmp_path / "other", **options)


def test_a_run_without_a_state_begins_with_its_checkpoint_again(fit: Fit, masked_run: Path, tmp_path: Path) -> None:
    """And not with its own best weights, which may have been published before the first state was."""
    options: dict[str, Any] = {"steps": 6, "model": str(masked_run), "architecture": SizeOverrides()}
    fit(tmp_path / "whole", **options)
    fit(tmp_path / "killed", **options)
    for state in list_states(tmp_path / "killed"):
        state.unlink()
    shutil.rmtree(tmp_path / "killed" / "latest")
    shutil.copytree(tmp_path / "whole" / "latest", tmp_path / "killed" / "best")
    fit(tmp_path / "killed", **options)
    before, after = (load_file(tmp_path / x / "latest" / "model.safetensors") for x in ("whole", "killed"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": SizeOverrides(layers=1)}, "is a checkpoint, whose shape is what it is"),
        (
            {"length": 65, "architecture": SizeOverrides()},
            r"length is 65, beyond the context of .* of 64 tokens: give --length 64 or less",
        ),
    ],
)
def test_what_does_not_fit_a_checkpoint(fit: Fit, masked_run: Path, tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        fit(tmp_path / "run", model=str(masked_run), **options)


def test_a_checkpoint_and_data_of_another_tokenizer(fit: Fit, masked_run: Path, tmp_path: Path) -> None:
    other = prepare(
        "synthetic:symbols=8,states=4,length=64,documents=400,seed=0", tmp_path / "data", vocab_size=270
    ).folder
    with pytest.raises(RemaskError, match="prepared with another tokenizer"):
        fit(tmp_path / "run", model=str(masked_run), data=other, architecture=SizeOverrides())


def test_an_autoregressive_checkpoint_has_no_row_for_a_mask(
    fit: Fit, plain_runs: dict[str, Path], tmp_path: Path
) -> None:
    llama = convert(plain_runs["left"], tmp_path / "llama", to="llama")
    with pytest.raises(RemaskError, match="has no row for a mask: make one with `remask convert"):
        fit(tmp_path / "run", model=str(llama), architecture=SizeOverrides())


def test_a_range_of_gamma_is_checked_before_the_run_and_kept_over_it(fit: Fit, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 6, "family": Uniform(curriculum=0.5, gamma=(-3.0, -1.0))}
    fit(tmp_path / "run", **options)
    assert remask.load(tmp_path / "run").family == options["family"]
    fit(tmp_path / "run", **options)  # the same options, read from JSON
    with pytest.raises(RemaskError, match="gamma goes to 20, where fewer"):
        fit(tmp_path / "other", family=Uniform(curriculum=0.5, gamma=(-3.0, 20.0)))
    for family in (Interpolating(), Autoregressive()):
        with pytest.raises(RemaskError, match=r"tell no time; architecture\.time cannot be true"):
            fit(tmp_path / "other", family=family, architecture=SizeOverrides(time=True))
        with pytest.raises(RemaskError, match=r"is conditioned on time, which .* models do not tell"):
            fit(tmp_path / "other", family=family, model=str(tmp_path / "run"), architecture=SizeOverrides())
    assert not (tmp_path / "other" / "run.json").exists()
