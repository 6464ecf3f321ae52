"""What is decided before the first step, and what of it may change later."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import same, weights

from remask import machine
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import SizeOverrides
from remask.training.fine_tuning import FineTuning
from remask.training.optim import Budget, Optimizer
from remask.training.plan import LIKELY, Plan, changed_options, decide, read_run, write_run
from remask.training.recipe import Recipe
from remask.training.start import Setup, set_up

Fit = Callable[..., Path]


def tiny(corpus: Path, out: Path, **more: Any) -> Recipe:
    shape = SizeOverrides(layers=1, width=16, heads=1, ffn=16)
    return Recipe(**{"data": corpus, "out": out, "architecture": shape, "length": 32, "batch": 8, **more})


@pytest.mark.skipif(machine.compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    ("share", "seconds", "compiling", "compiled"),
    [
        (20.0, None, 25.0, True),
        (20.0, 20.0, 5000.0, False),
        (0.5, 3.0, 25.0, True),
        (0.5, 0.5, 25.0, False),
        (0.01, None, None, False),
    ],
    ids=["long", "long, on a slow compiler", "slower than its arithmetic", "timed and quick enough", "short"],
)
def test_what_is_compiled(
    corpus: Path, tmp_path: Path, share: float, seconds: float | None, compiling: float | None, compiled: bool
) -> None:
    """A run that takes `share` of 100 s by its arithmetic alone, and, where it is timed, `seconds` times 100 s, on a
    machine where compiling takes so long: it pays from four times that on."""

    def run(**more: Any) -> Setup:
        recipe = tiny(corpus, tmp_path, precision="fp32", accelerator="cpu", **more)
        return set_up(recipe, recipe.family, None)

    flops = decide(run(budget=Budget(steps=1), compile="off"), no_clock, no_clock).flops
    steps = round(share * 100 * LIKELY * machine.peak(torch.device("cpu"), False) / flops)

    def clock() -> float:
        assert seconds is not None, "nothing is to be timed"
        return seconds * 100 / steps

    def compiler() -> float:
        assert compiling is not None, "no compiler is to be timed"
        return compiling

    for choice, wanted in (("auto", compiled), ("off", False), ("on", True)):
        assert decide(run(compile=choice, budget=Budget(steps=steps)), clock, compiler).compile is wanted


@pytest.mark.skipif(machine.compiler() is None, reason="no C++ compiler")
def test_rows_of_many_lengths_are_compiled_only_when_that_is_asked_for(tmp_path: Path) -> None:
    """A graph is made for each length, which takes longer than it saves."""
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(f'{{"prompt": "a", "completion": "{"b" * i}"}}\n' for i in range(1, 9)))
    for choice, wanted in (("auto", False), ("on", True)):
        options: dict[str, Any] = {"sft": FineTuning(tokenizer="bytes"), "validation_rows": 0, "compile": choice}
        recipe = tiny(pairs, tmp_path, precision="fp32", accelerator="cpu", budget=Budget(steps=100), **options)
        found = decide(set_up(recipe, recipe.family, None), lambda: 100.0, lambda: 10.0)
        assert found.compile is wanted


def no_clock() -> float:
    raise AssertionError("nothing is to be timed")


def test_a_budget_in_minutes_is_kept(corpus: Path, tmp_path: Path) -> None:
    """Two seconds a step give 90 steps in three minutes; the plan says so to every later start."""
    recipe = tiny(corpus, tmp_path, budget=Budget(minutes=3), compile="off", accelerator="cpu")
    plan = decide(set_up(recipe, recipe.family, None), lambda: 2.0)
    assert plan.steps == 90 and plan.warmup == 9
    write_run(recipe, plan)
    found = read_run(tmp_path)
    assert found is not None and found[1] == plan and not changed_options(*found, recipe)


def test_a_run_for_minutes(fit: Fit, tmp_path: Path) -> None:
    latest = fit(tmp_path, budget=Budget(minutes=0.005))
    plan = json.loads((tmp_path / "run.json").read_text())["plan"]
    assert plan["steps"] >= 1 and latest.exists()
    fit(tmp_path, budget=Budget(minutes=0.005))  # keeps the plan: complete
    assert json.loads((tmp_path / "run.json").read_text())["plan"] == plan


def test_other_options_on_the_same_run(fit: Fit, tmp_path: Path) -> None:
    """Only what differs is named, as the options are given."""
    fit(tmp_path, steps=3)
    before = weights(tmp_path)
    with pytest.raises(RemaskError) as error:
        fit(tmp_path, steps=3, batch=4, optimizer=Optimizer(lr=0.5), family=Autoregressive())
    said = str(error.value)
    assert str(tmp_path) in said and "--batch 8 there, 4 now" in said and "--optimizer.lr unset there, 0.5 now" in said
    assert "--family Masked there, Autoregressive now" in said and "another --out" in said
    assert "length" not in said and "betas" not in said
    assert same(weights(tmp_path), before)


def test_the_run_file_of_an_earlier_version(corpus: Path, tmp_path: Path) -> None:
    """It called the recipe "options", had no warm-up in its plan, options that are gone, and others by other names."""
    recipe = tiny(corpus, tmp_path, family=Uniform(t_min=0.01), budget=Budget(steps=60))
    options = json.loads(json.dumps(recipe.to_dict()))
    options["family"]["init_args"]["least"] = options["family"]["init_args"].pop("t_min")
    options["optimizer"]["branch"] = True
    del options["random_length"]
    plan = {"corpus": "x", "steps": 60, "bf16": False, "compile": False, "tokens": 256, "flops": 1.0, "flops_6n": 1.0}
    (tmp_path / "run.json").write_text(json.dumps({"options": options, "plan": plan}))
    found = read_run(tmp_path)
    assert found is not None and found[1] == Plan(**plan, warmup=6)
    assert not changed_options(*found, recipe)
    other = tiny(corpus, tmp_path, family=Uniform(t_min=0.02), budget=Budget(steps=60), random_length=0.5)
    said = ["--family.t_min 0.01 there, 0.02 now", "--random_length 0.0 there, 0.5 now"]
    assert changed_options(*found, other) == said


def test_mask_rates_are_compared_as_they_are(corpus: Path, tmp_path: Path) -> None:
    """A run that was started with what is the default by now goes on without saying so."""
    plan = {"corpus": "x", "steps": 60, "bf16": False, "compile": False, "tokens": 256, "flops": 1.0, "flops_6n": 1.0}
    for family, saved, said in [
        (Masked(objective="bound"), {"bell": 0.0}, []),
        (Masked(ceiling=1.0), {"bell": 0.0}, []),
        (Masked(), {"bell": 0.8, "ceiling": 0.4}, []),
        (Masked(), {"bell": 0.0}, ["--family.bell 0.0 there, 0.8 now"]),
    ]:
        recipe = tiny(corpus, tmp_path, family=family, budget=Budget(steps=60))
        options = json.loads(json.dumps(recipe.to_dict()))
        options["family"]["init_args"] |= saved
        (tmp_path / "run.json").write_text(json.dumps({"recipe": options, "plan": {**plan, "warmup": 6}}))
        found = read_run(tmp_path)
        assert found is not None and changed_options(*found, recipe) == said


def test_runs_from_before_muon_and_ceilings(corpus: Path, tmp_path: Path) -> None:
    """They go on as they began, where the command says so; what differs from it today is named."""
    recipe = tiny(corpus, tmp_path, family=Masked(objective="low_variance", ceiling=1.0), budget=Budget(steps=60))
    recipe = replace(recipe, optimizer=Optimizer(kind="adamw", lr=1e-3, weight_decay=0.1))
    options = json.loads(json.dumps(recipe.to_dict()))
    for name in ("ceiling", "ceiling_until", "bell", "pairs", "fixed_counts", "opening"):
        del options["family"]["init_args"][name]
    for name in ("kind", "muon_lr", "muon_momentum", "muon_decay"):
        del options["optimizer"][name]
    del options["architecture"]["convolution"]
    plan = {"corpus": "x", "steps": 60, "bf16": False, "compile": False, "tokens": 256, "flops": 1.0, "flops_6n": 1.0}
    (tmp_path / "run.json").write_text(json.dumps({"recipe": options, "plan": {**plan, "warmup": 6}}))
    found = read_run(tmp_path)
    assert found is not None
    assert changed_options(*found, recipe) == ["--architecture.convolution 0 there, unset now"]
    plain = SizeOverrides(layers=1, width=16, heads=1, ffn=16, convolution=0)
    assert not changed_options(*found, replace(recipe, architecture=plain))
    said = changed_options(*found, tiny(corpus, tmp_path, budget=Budget(steps=60)))
    assert "--family.ceiling 1.0 there, 0.4 now" in said and "--optimizer.kind adamw there, muon now" in said


@pytest.mark.parametrize("text", ['{"options": ', "[]", '{"recipe": {}, "plan": {}}'])
def test_a_damaged_run_file_is_named(fit: Fit, tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RemaskError, match=r"run\.json is damaged"):
        fit(tmp_path, steps=3)


def test_an_interpolating_run_counts_what_it_reads(corpus: Path, tmp_path: Path) -> None:
    """At equal FLOPs the sequential term, which reads twice as much for half of the rows, has 2/3 of the steps."""
    steps, flops = {}, 6 * 20640 * 8 * 64 * 30
    shape = SizeOverrides(layers=2, width=32, heads=2, ffn=64)
    for alpha_0 in (0.0, 0.5, 1.0):
        family = Interpolating(alpha_0=alpha_0)
        recipe = tiny(corpus, tmp_path, family=family, architecture=shape, length=64, budget=Budget(flops=flops))
        plan = decide(set_up(recipe, family, None), no_clock)
        steps[alpha_0] = plan.steps
        assert plan.flops_6n * plan.steps == pytest.approx(flops, rel=0.1)
    assert steps[0.5] == pytest.approx(steps[1.0] / 1.5, abs=1) and steps[0.0] == pytest.approx(steps[1.0] / 2, abs=1)


def test_timing_leaves_the_weights_alone(corpus: Path, tmp_path: Path) -> None:
    recipe = tiny(corpus, tmp_path, budget=Budget(minutes=0.01), precision="fp32", compile="off", accelerator="cpu")
    setup = set_up(recipe, recipe.family, None)
    setup.fill()
    before = [p.clone() for p in setup.denoiser.parameters()]
    assert decide(setup).steps >= 1
    assert all(torch.equal(a, b) for a, b in zip(before, setup.denoiser.parameters(), strict=True))
    assert all(p.grad is None or not p.grad.any() for p in setup.denoiser.parameters())
