"""What is decided before the first step: how many steps, which number format, whether to compile.

The decisions are kept in run.json beside the recipe, so that a run that goes on makes none of them anew.
"""

import json
from collections.abc import Callable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from remask import machine
from remask.errors import RemaskError
from remask.families.description import build, families, in_effect, renewed
from remask.files import differences, write_atomically
from remask.model.sizes import SIZES
from remask.terminal import say
from remask.training.base import Training, to_plain
from remask.training.optim import usual_warmup
from remask.training.recipe import Recipe
from remask.training.start import Setup
from remask.training.timing import seconds_per_step

COMPILING_SAVES = 0.3
"""The share of its time that a run saves once its network is compiled: 0.26 to 0.48 on a CPU, the least at 3M."""
COMPILING_TAKES = 10.0
"""Seconds that compiling takes at least, wherever it was measured; about twice that on a GPU."""
LIKELY = 0.3
"""The share of the machine's peak that a network of common size reaches in training."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a recipe is carried out."""

    corpus: str
    """Fingerprint of the data."""
    steps: int
    warmup: int
    """Warm-up steps. A run that is given a larger budget keeps those that it had."""
    bf16: bool
    compile: bool
    tokens: int
    """Tokens of a step."""
    flops: float
    """FLOPs of the matrix products of a step."""
    flops_6n: float
    """FLOPs of a step as 6 N D."""
    lr: float | None = None
    """Peak learning rate of AdamW; None in runs of before it was kept, whose training states have it."""
    flops_6n_before: float = 0.0
    """FLOPs, as 6 N D, that went into the checkpoint which the run starts from, as far as it says."""


def decide(
    setup: Setup,
    seconds: Callable[[], float] | None = None,
    compiling: Callable[[], float] = machine.seconds_to_compile,
) -> Plan:
    """The plan of a run that is not there yet. `seconds()` measures a step, and `compiling()` estimates how long the
    network takes to compile on a CPU; by default both are timed on this machine."""
    recipe, family, shape = setup.recipe, setup.family, setup.denoiser.architecture
    bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and machine.fast_bf16(setup.device))
    per_token = setup.passes * family.flops(shape, round(setup.batches.mean_length))
    measure = seconds or (lambda: time_step(setup, bf16))

    def pays(expected: float) -> bool:
        return worth_compiling(setup, expected, compiling)

    steps = count_steps(setup, measure, pays)
    if recipe.budget.minutes:
        expected = 60 * recipe.budget.minutes
    else:
        expected = steps * setup.tokens_per_step * per_token / (LIKELY * machine.peak(setup.device, bf16))
        if setup.world == 1 and steps > 100 and pays(LIKELY * expected) != pays(10 * expected):
            expected = steps * measure()  # small networks reach a tenth of the speed of large ones
    return Plan(
        corpus=setup.prepared.fingerprint,
        steps=steps,
        warmup=recipe.optimizer.warmup_steps(steps),
        bf16=bf16,
        compile=pays(expected),
        tokens=setup.tokens_per_step,
        flops=setup.tokens_per_step * per_token,
        flops_6n=setup.tokens_per_step * setup.passes * family.reads * shape.flops_6n,
        lr=setup.optimizer.peak,
        flops_6n_before=0.0 if setup.start is None else flops_spent(setup.start.about),
    )


def flops_spent(about: dict[str, Any]) -> float:
    """FLOPs, as 6 N D, of all the training of a checkpoint, by its config.json; 0 where it is silent."""
    share = about.get("step", 0) / max(1, about.get("steps", 1))
    return float(about.get("flops_6n", 0.0)) * share + float(about.get("flops_6n_before", 0.0))


def count_steps(setup: Setup, measure: Callable[[], float], pays: Callable[[float], bool]) -> int:
    """The steps that the budget comes to; a budget in minutes measures one, of the compiled network where
    `pays(seconds of the run)` says so."""
    budget, rows = setup.recipe.budget, setup.batches

    def seconds() -> float:
        if setup.world > 1:
            raise RemaskError("budget.minutes is for one process; give flops, tokens or steps to several")
        if pays(60 * (budget.minutes or 0)):
            setup.denoiser.compile()
        say("timing a few steps")
        return measure()

    read = setup.family.reads * setup.denoiser.architecture.non_embedding
    return budget.resolve(read, rows.batch, rows.mean_length, seconds, len(rows))


def time_step(setup: Setup, bf16: bool) -> float:
    """Seconds of a step of this run."""
    denoiser, accumulate = setup.denoiser.to(setup.device), setup.recipe.accumulate
    rows = setup.batches.share(0, 0, setup.batches.batch // accumulate).to(setup.device)
    return seconds_per_step(denoiser, setup.family, rows, setup.optimizer, bf16=bf16, accumulate=accumulate)


def worth_compiling(setup: Setup, seconds: float, compiling: Callable[[], float]) -> bool:
    """Whether to compile the network of a run that is expected to take so long."""
    on_cpu = setup.device.type == "cpu"
    if setup.compile == "off" or setup.recipe.sharded or (on_cpu and machine.compiler() is None):
        return False
    if setup.compile == "on":
        return True
    if not setup.batches.one_length or COMPILING_SAVES * seconds < COMPILING_TAKES:
        return False
    return COMPILING_SAVES * seconds > (compiling() if on_cpu else 2 * COMPILING_TAKES)


def write_run(recipe: Training, plan: Plan) -> None:
    """Writes config.yaml and run.json."""
    options = recipe.to_dict()
    write_atomically(recipe.out / "config.yaml", yaml.safe_dump(options, sort_keys=False))
    write_atomically(recipe.out / "run.json", json.dumps({"recipe": options, "plan": asdict(plan)}, indent=2) + "\n")


def read_run(out: Path) -> tuple[dict[str, Any], Plan] | None:
    """The options, as plain data, and the plan of the run that a directory holds; None where it holds none. Those of
    earlier versions are read too. RemaskError where run.json is damaged."""
    path = out / "run.json"
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text())
        options, plan = saved["recipe"] if "recipe" in saved else saved["options"], saved["plan"]
        if "family" in options:
            described = options["family"]
            described["init_args"] = renewed(described["class_path"], described["init_args"])
        options["optimizer"].setdefault("kind", "adamw")  # which was the only one
        if options.get("model") in SIZES and "architecture" in options:
            options["architecture"].setdefault("convolution", 0)  # there were none
        warmup = plan["warmup"] if "warmup" in plan else options["optimizer"]["warmup"]
        plan["warmup"] = usual_warmup(plan["steps"]) if warmup is None else warmup
        return options, Plan(**{f.name: plan[f.name] for f in fields(Plan) if f.name in plan})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RemaskError(f"{path} is damaged: {error}; remove it, or choose another --out") from None


def changed_options(saved: dict[str, Any], plan: Plan, recipe: Training) -> list[str]:
    """What differs between the options of a run and a recipe that is to go on with it, as `differences` says it.

    Where the data lies and what the run is carried out on may change. An option that the run's version of remask did
    not have counts as left at its default, and one that is gone does not count.
    """
    needed = [f.name for f in fields(recipe) if f.default is MISSING and f.default_factory is MISSING]
    plain = type(recipe)(**{name: getattr(recipe, name) for name in needed})
    defaults = plain.to_dict()
    if isinstance(recipe, Recipe):
        defaults["family"] = to_plain(type(recipe.family)())
    there, now = _align(saved, defaults), recipe.to_dict()
    if recipe.optimizer.warmup_steps(plan.steps) == plan.warmup:
        there["optimizer"]["warmup"] = now["optimizer"]["warmup"]  # the same, written in another way
    for name in {"data", "devices", "nodes", "accelerator", "strategy"} & now.keys():
        there[name] = now[name]
    if isinstance(recipe, Recipe):  # others are told no family
        there["family"], now["family"] = with_rates(there["family"]), with_rates(now["family"])
    return differences({name: there[name] for name in now}, now)


def with_rates(family: dict[str, Any]) -> dict[str, Any]:
    """The options of a family with the mask rates that it has where none are given."""
    name = family["class_path"].rpartition(".")[2]
    if name not in families():  # a user's own
        return family
    rates = in_effect(build({"name": name, **family["init_args"]}))
    return family | {"init_args": family["init_args"] | {k: rates[k] for k in ("ceiling", "bell") if k in rates}}


def _align(saved: Any, defaults: Any) -> Any:
    """Options with those that are gone left out, and those that are new at their default."""
    if not isinstance(saved, dict) or not isinstance(defaults, dict):
        return saved
    return {name: _align(saved[name], one) if name in saved else one for name, one in defaults.items()}
