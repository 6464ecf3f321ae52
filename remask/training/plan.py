"""What is decided before the first step: how many steps, which number format, whether to compile.

The decisions are kept in `run.json`, so that a resumed run makes none of them anew.
"""

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from remask import machine
from remask.data.batches import Batches
from remask.errors import RemaskError
from remask.families import Family, describe
from remask.model.transformer import Transformer
from remask.terminal import say
from remask.training.optim import Budget

WORTH_COMPILING = 90.0
"""Seconds that a run must be expected to take before compiling (8 to 30 s) pays."""
LIKELY = 0.3
"""The share of the machine's peak that a network of common size reaches in training."""


def process_rank(devices: int) -> int:
    """The number of this process among all, under torchrun, SLURM, Lightning's own launcher, or alone."""
    if "RANK" in os.environ:
        return int(os.environ["RANK"])
    if "LOCAL_RANK" in os.environ:
        return int(os.environ.get("NODE_RANK", "0")) * devices + int(os.environ["LOCAL_RANK"])
    return int(os.environ.get("SLURM_PROCID", "0"))


def check(options: dict[str, Any], world: int) -> None:
    """Raises for numbers that are out of range, or do not fit together."""
    least = dict.fromkeys(("length", "batch", "accumulate", "log_every", "devices", "nodes"), 1)
    least |= dict.fromkeys(("save_every", "validate_every"), 1) | {"validation_rows": 0}
    for name, value in least.items():
        if options[name] is not None and options[name] < value:
            raise RemaskError(f"{name} is {options[name]}; it must be at least {value}")
    if not 0 <= options["ema"] < 1:
        raise RemaskError(f"ema is {options['ema']}; it must be at least 0 and below 1")
    context = options["architecture"].context
    if context is not None and options["length"] > context:
        raise RemaskError(f"length {options['length']} is beyond the context {context} of the model")
    shares = world * options["accumulate"]
    if options["batch"] % shares:
        raise RemaskError(
            f"batch {options['batch']} does not divide over {world} processes x {options['accumulate']} micro-batches"
        )
    if world != options["devices"] * options["nodes"]:
        raise RemaskError(
            f"{world} processes were started, and --devices {options['devices']} x --nodes {options['nodes']} "
            "says otherwise: give them the same number"
        )


def resolve(
    out: Path,
    options: dict[str, Any],
    corpus: str,
    denoiser: Transformer,
    family: Family,
    batches: Batches,
    world: int,
    device: torch.device,
    rank: int,
    verb: set[str] | None = None,
) -> dict[str, Any]:
    """Everything decided before the first step: steps, precision, compilation. Kept in run.json.

    `corpus` is the fingerprint of the data, `verb` the names of the command's own options, for config.yaml.
    A run that is there already keeps its plan; one with other options is left alone.
    """
    path, wanted = out / "run.json", plain(options)
    if path.exists():
        try:
            found = json.loads(path.read_text())
            before, plan, seen = found["options"], found["plan"], found["plan"]["corpus"]
        except (ValueError, KeyError, TypeError) as error:
            raise RemaskError(f"{path} is damaged: {error}; remove it, or choose another --out") from None
        free = {"devices", "nodes", "accelerator", "data"}
        if seen != corpus:
            raise RemaskError(f"{out} was trained on another corpus than {options['data']} holds; choose another --out")
        changed = [k for k in wanted if k not in free and before.get(k) != wanted[k]]
        if changed:
            raise RemaskError(
                f"{out} holds a run with other options: "
                + "; ".join(f"{k} {before.get(k)} there, {wanted[k]} now" for k in changed)
                + ". Choose another --out"
            )
        return plan
    bf16 = options["precision"] == "bf16" or (options["precision"] == "auto" and machine.fast_bf16(device))
    per_step = batches.batch * batches.rows.length
    flops = family.flops(denoiser.architecture, batches.rows.length)
    peak = machine.peak(device, bf16, seconds=0.2)
    budget: Budget = options["budget"]

    def compiled(seconds: float) -> bool:
        if options["compile"] == "off" or (options["compile"] == "auto" and seconds < WORTH_COMPILING):
            return False
        if device.type == "cpu" and machine.compiler() is None:
            say("no C++ compiler found: the network is not compiled")
            return False
        return True

    def timed() -> float:
        return _seconds_a_step(denoiser.to(device), family, batches, options["accumulate"], bf16)

    def seconds() -> float:
        if world > 1:
            raise RemaskError("budget.minutes is for one process; give flops, tokens or steps to several")
        if compiled(60 * (budget.minutes or 0)):
            denoiser.compile()
        say("timing a few steps")
        return timed()

    read = family.reads * denoiser.architecture.non_embedding
    steps = budget.resolve(read, batches.batch, batches.rows.length, seconds)
    expected = 60 * budget.minutes if budget.minutes else steps * per_step * flops / (LIKELY * peak)
    if not budget.minutes and options["compile"] == "auto" and world == 1 and steps > 100:
        least, most = LIKELY * expected, 10 * expected
        if least < WORTH_COMPILING < most:  # small networks reach a tenth of what large ones do
            expected = steps * timed()
    plan = {
        "corpus": corpus,
        "steps": steps,
        "bf16": bf16,
        "compile": compiled(expected),
        "tokens": per_step,
        "flops": per_step * flops,
        "flops_6n": per_step * family.reads * denoiser.architecture.flops_6n,
    }
    if rank == 0:
        own = {k: v for k, v in wanted.items() if k in (verb or wanted)}
        (out / "config.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
        fresh = path.with_suffix(".tmp")
        fresh.write_text(json.dumps({"options": wanted, "plan": plan}, indent=2) + "\n")
        os.replace(fresh, path)
    return plan


def _seconds_a_step(model: Transformer, family: Family, batches: Batches, accumulate: int, bf16: bool) -> float:
    """The median of a few steps, without touching weights."""
    spent = []
    for index in range(6):
        start = time.perf_counter()
        share = replace(batches.share(0, 0, batches.batch // accumulate).to(model.device), progress=0.0)
        for _ in range(accumulate):
            with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
                value = family.loss(model, share, torch.Generator().manual_seed(index)).per_token()
            value.backward()
        value.item()
        spent.append(time.perf_counter() - start)
        model.zero_grad()
    return sorted(spent[2:])[1] * 1.03  # the optimiser's share


def plain(value: Any) -> Any:
    """Options as plain data that YAML holds and the command line reads back."""
    if isinstance(value, Family):
        described = describe(value)
        return {"class_path": described.pop("name"), "init_args": plain(described)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if hasattr(value, "__dataclass_fields__"):
        return {k: plain(v) for k, v in asdict(value).items()}
    return list(value) if isinstance(value, tuple) else value
