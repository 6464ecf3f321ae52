"""From an autoregressive model to a masked one: what is kept, what is opened, and what it all cost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import losses
from safetensors.torch import load_file

import remask
from remask.batch import Batch
from remask.checkpoints.checkpoint import load
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.attention import CAUSAL, LookAhead
from remask.model.sizes import SizeOverrides
from remask.training.optim import Optimizer
from remask.training.recipe import Conversion
from remask.vocabulary import Vocabulary

Fit = Callable[..., Path]
FROZEN = {"optimizer": Optimizer(kind="adamw", lr=1e-12), "architecture": SizeOverrides()}


def test_a_masked_model_goes_on_from_an_autoregressive_one(fit: Fit, autoregressive_run: Path, tmp_path: Path) -> None:
    """The weights are its own, but those of the neighbours to the right, which it never used."""
    fit(tmp_path / "run", steps=2, model=str(autoregressive_run), **FROZEN)
    before, after = (load_file(p / "latest" / "model.safetensors") for p in (autoregressive_run, tmp_path / "run"))
    assert before.keys() == after.keys()
    for name, weight in after.items():
        if "conv" in name:
            torch.testing.assert_close(weight[:2], before[name][:2], atol=1e-9, rtol=0)
            assert float(weight[2:].abs().max()) < 1e-9 < float(before[name][2:].abs().max())
        else:
            torch.testing.assert_close(weight, before[name], atol=1e-9, rtol=0)


def test_with_the_shift_kept_it_predicts_what_it_predicted(fit: Fit, autoregressive_run: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", steps=1, model=str(autoregressive_run), conversion=Conversion(keep_shift=True), **FROZEN)
    ours, theirs = load(tmp_path / "run"), load(autoregressive_run)
    assert ours.model.architecture.shifted and isinstance(ours.family, Masked)
    ids = torch.tensor([theirs.tokenizer.encode("abcdefgh")])
    found = ours.model(ids, attention=CAUSAL)[:, 1:]  # logits of i + 1 from the hidden state of i, with no start before
    wanted = theirs.model(ids, attention=CAUSAL)[:, :-1]
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_a_fresh_head(fit: Fit, autoregressive_run: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", steps=1, model=str(autoregressive_run), conversion=Conversion(fresh_head=True), **FROZEN)
    before, after = (load_file(p / "latest" / "model.safetensors") for p in (autoregressive_run, tmp_path / "run"))
    changed = {name for name in after if not torch.allclose(before[name], after[name], atol=1e-9)}
    assert {name for name in changed if "conv" not in name} == {"lm_head.weight"}


def test_it_learns_writes_and_says_what_both_parts_cost(fit: Fit, autoregressive_run: Path, tmp_path: Path) -> None:
    family = Masked(opening=0.5, ceiling=1.0)
    options: dict[str, Any] = {"steps": 40, "family": family, "architecture": SizeOverrides(), "save_every": 20}
    options |= {"conversion": Conversion(keep_shift=True)}
    fit(tmp_path / "run", model=str(autoregressive_run), **options)
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    m, start = remask.load(tmp_path / "run"), remask.load(autoregressive_run)
    assert m.about["flops_6n_before"] == start.about["flops_6n"] == 2 * m.about["flops_6n"]
    card = (tmp_path / "run" / "latest" / "README.md").read_text()
    assert "trained on from" in card and f"{3 * m.about['flops_6n']:.3g} together" in card
    assert len(remask.sample(m, prompt="ab", length=8, seed=0).tokens) <= 8
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*.ckpt"))[-1]
    newest.unlink()
    fit(tmp_path / "run", model=str(autoregressive_run), **options)  # goes on, from what is its own by now
    again = remask.load(tmp_path / "run")
    assert again.about["flops_6n_before"] == start.about["flops_6n"]
    assert all(torch.equal(w, m.model.get_parameter(name)) for name, w in again.model.named_parameters())


@pytest.mark.parametrize(("progress", "ahead"), [(0.0, 0), (0.25, 10), (0.49, 20), (0.5, None), (1.0, None)])
def test_attention_opens_over_the_steps(progress: float, ahead: int | None) -> None:
    family = Masked(opening=0.5).over(Vocabulary(size=10, mask=9))
    tokens = torch.zeros(2, 20, dtype=torch.int64)
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), progress=progress)
    noisy = family.corrupt(batch, torch.Generator().manual_seed(0))
    seen = noisy.attention.mask(2, torch.arange(20))
    if ahead is None:
        assert seen is None
    else:
        wanted = LookAhead(ahead).mask(2, torch.arange(20))
        assert seen is not None and wanted is not None and torch.equal(seen, wanted)
        assert bool(seen[0, 0, 0, ahead if ahead < 20 else 19]) and (ahead >= 19 or not bool(seen[0, 0, 0, ahead + 1]))


def test_what_cannot_be_converted(fit: Fit, masked_run: Path, autoregressive_run: Path, tmp_path: Path) -> None:
    shift = {"conversion": Conversion(keep_shift=True), "architecture": SizeOverrides()}
    for options, says in (
        ({"model": str(masked_run)}, "conversion is for autoregressive checkpoints that go on as masked ones"),
        (
            {"model": str(autoregressive_run), "family": Autoregressive()},
            "is Autoregressive, to go on as Autoregressive",
        ),
        ({"model": "tiny"}, "conversion is for an autoregressive checkpoint, and tiny is a named size"),
    ):
        with pytest.raises(RemaskError, match=says):
            fit(tmp_path / "run", steps=1, **shift, **options)
    with pytest.raises(RemaskError, match="opening is 2; it must lie between 0 and 1"):
        Masked(opening=2)
    assert not (tmp_path / "run").exists()
