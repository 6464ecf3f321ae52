"""Low-rank adapters in peft's form, opened as the whole model that they make of their base.

The folder holds `adapter_config.json`, which names the base, and `adapter_model.safetensors`; ours also `base.json`,
with a fingerprint of the base's weights and the conversations that were learnt. The product is added to a weight when
that is read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from remask.checkpoints.folder import LazyCheckpoint
from remask.checkpoints.source import Tensors, open_files, read_json
from remask.checkpoints.weight_files import ADAPTER_CONFIG
from remask.errors import RemaskError

FILE, BASE = "adapter_model.safetensors", "base.json"
LEARNT = ("conversations",)
"""What of a run's `about` the adapters have of their own, in place of their base's; and what a run that goes on from a
checkpoint keeps, unless it has its own."""
PREFIX = "base_model.model."
"""What peft puts before the names of the base."""
SAMPLE = 64
"""Values of each weight that the fingerprint depends on."""


def is_adapter(source: str | Path) -> bool:
    """Whether a path is a folder of low-rank adapters that names its base."""
    config = Path(source) / ADAPTER_CONFIG
    if not config.is_file() or not (Path(source) / FILE).is_file():
        return False
    content = read_json(config)
    return content.get("peft_type") == "LORA" and {"r", "lora_alpha", "base_model_name_or_path"} <= content.keys()


def open_adapter(folder: Path, open_base: Callable[[str], LazyCheckpoint]) -> LazyCheckpoint:
    """The model that adapters make of their base. RemaskError where the base is missing, or is another one."""
    config, tensors = read_json(folder / ADAPTER_CONFIG), open_files([folder / FILE])[0]
    name = str(config["base_model_name_or_path"])
    for option in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern"):
        if config.get(option):
            raise RemaskError(f"{folder / ADAPTER_CONFIG} has {option}, which remask does not read; merge it with peft")
    try:
        base = open_base(name)
    except RemaskError as error:
        raise RemaskError(f"{folder} is an adapter of {name}: {error}. {another_base(folder)}") from None
    pairs = _pairs(tensors, base.tensors, folder, name)
    own = read_json(folder / BASE) if (folder / BASE).is_file() else {}
    known = own.get("weights")
    if known not in (None, fingerprint(base.tensors)):
        raise RemaskError(
            f"{folder} is an adapter of another base than {name} holds now: its weights differ. {another_base(folder)}"
        )
    scale = float(config["lora_alpha"]) / int(config["r"])

    def read(one: str) -> Callable[[], Tensor]:
        def weight() -> Tensor:
            low, high = (tensors[pairs[one].format(part)].float() for part in "AB")
            whole = base.tensors[one]
            return (whole.float() + scale * (high @ low)).to(whole.dtype)

        return weight if one in pairs else lambda: base.tensors[one]

    headers = {one: (base.tensors.dtype(one), base.tensors.shape(one)) for one in base.tensors}
    return replace(
        base,
        tensors=Tensors({one: read(one) for one in base.tensors}, headers),
        about={**base.about, **{key: own[key] for key in LEARNT if key in own}, "adapter": str(folder), "base": name},
    )


def another_base(folder: Path) -> str:
    """What would work where adapters do not fit the base that they name."""
    return f"Name the base that it was trained on in {folder / ADAPTER_CONFIG} (base_model_name_or_path)"


def _pairs(tensors: Tensors, base: Tensors, folder: Path, name: str) -> dict[str, str]:
    """For each weight with an adapter the name of its matrices, with a place for A or B. RemaskError where they do not
    fit the base."""
    found = {}
    for one in tensors:
        plain, is_low, _ = one.removeprefix(PREFIX).partition(".lora_A.weight")
        if not is_low:
            continue
        weight, pattern = f"{plain}.weight", one.replace(".lora_A.", ".lora_{}.")
        high = pattern.format("B")
        shape = (tensors.shape(high)[0], tensors.shape(one)[1]) if high in tensors else None
        if weight not in base or base.shape(weight) != shape:
            there = f"is {base.shape(weight)} there" if weight in base else "is not there"
            raise RemaskError(
                f"{folder} is an adapter of another base than {name}: {weight} {there}, and it is for {shape}. "
                f"{another_base(folder)}"
            )
        found[weight] = pattern
    if not found:
        raise RemaskError(f"{folder / FILE} holds no low-rank adapter that remask reads")
    return found


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes and a few values of all weights, in whichever number format they are stored."""
    found = hashlib.blake2b(digest_size=8)
    for name in sorted(weights):
        weight = weights[name]
        values = weight.detach().flatten()[:SAMPLE].to(torch.float32).cpu().numpy()
        found.update(json.dumps([name, list(weight.shape)]).encode() + np.ascontiguousarray(values).tobytes())
    return found.hexdigest()
