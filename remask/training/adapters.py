"""Low-rank adapters (Hu et al. 2021, *LoRA*): of each chosen matrix only B and A of W + (alpha / rank) B A are trained.

The library `peft` puts them into the network, and the run publishes both the merged weights, as any other run, and the
adapters alone in `RUN/adapter`, in the form of that library.
"""

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.checkpoints.adapters import BASE, FILE, LEARNT, PREFIX, fingerprint
from remask.checkpoints.folder import write_safetensors
from remask.checkpoints.replacing import replacing
from remask.checkpoints.source import Tensors
from remask.checkpoints.weight_files import ADAPTER_CONFIG
from remask.errors import RemaskError, first_line
from remask.model.transformer import Transformer

INNER = ".base_layer"
"""What peft puts into the name of a matrix that has an adapter."""


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Low-rank adapters (LoRA), which are trained in place of the weights of a checkpoint."""

    rank: int = 0
    """Rank of the adapters; 0 trains all weights. Needs `pip install 'remask[adapters]'`."""
    alpha: float | None = None
    """Their product is added alpha / rank times; by default alpha is twice the rank."""
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """The matrices that get one."""

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise RemaskError(f"lora.rank is {self.rank}; it must be at least 0")
        if self.alpha is not None and not self.alpha > 0:
            raise RemaskError(f"lora.alpha is {self.alpha}; it must be above 0")

    @property
    def scale(self) -> float:
        """alpha / rank."""
        return 2.0 if self.alpha is None else self.alpha / self.rank


def add_adapters(denoiser: Transformer, options: LowRank, seed: int) -> None:
    """Puts adapters into a network, in place, and freezes all else. With B = 0 it computes what it did before.

    RemaskError where peft is not installed, or the network has no matrix of a name that is asked for.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise RemaskError("lora needs the library peft: pip install 'remask[adapters]'") from None
    known = {name.rpartition(".")[2] for name, part in denoiser.named_modules() if isinstance(part, torch.nn.Linear)}
    if missing := [name for name in options.targets if name not in known]:
        raise RemaskError(f"lora.targets has {missing[0]!r}; this network has {', '.join(sorted(known))}")
    alpha: float = options.scale * options.rank
    config = LoraConfig(r=options.rank, lora_alpha=alpha, target_modules=list(options.targets))  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        try:
            inject_adapter_in_model(config, denoiser)
        except ValueError as error:
            raise RemaskError(f"lora does not fit this network: {first_line(error)}") from None


def published_name(name: str) -> str | None:
    """The name of a weight in a network without adapters; None for those of an adapter."""
    return None if ".lora_" in name else name.replace(INNER, "")


def merged(weights: Mapping[str, Tensor], options: LowRank) -> dict[str, Tensor]:
    """The weights of a network with adapters, as those of one without: W + scale B A."""
    found = {}
    for name, weight in weights.items():
        plain = published_name(name)
        if plain is None:
            continue
        if INNER in name:
            part = name.replace(f"{INNER}.weight", "")
            low, high = (weights[f"{part}.lora_{one}.default.weight"].float() for one in "AB")
            weight = (weight.float() + options.scale * (high @ low)).to(weight.dtype)
        found[plain] = weight
    return found


def write_adapters(
    folder: Path, weights: Mapping[str, Tensor], options: LowRank, base: str, about: Mapping[str, Any] | None = None
) -> None:
    """Writes the adapters among the weights of a network, in peft's form, with what they were trained on.

    `about` is what a published folder says of the run; of it the conversations are kept.
    """
    own = {PREFIX + name.replace(".default", ""): one for name, one in weights.items() if ".lora_" in name}
    plain = {name: weight for one, weight in weights.items() if (name := published_name(one)) is not None}
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "r": options.rank,
        "lora_alpha": options.scale * options.rank,
        "target_modules": list(options.targets),
        "bias": "none",
        "task_type": None,
    }
    headers = {name: (one.dtype, tuple(one.shape)) for name, one in own.items()}
    with replacing(folder) as fresh:
        write_safetensors(fresh / FILE, Tensors({name: (lambda v=v: v) for name, v in own.items()}, headers))
        (fresh / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2) + "\n")
        learnt = {key: about[key] for key in LEARNT if key in about} if about else {}
        (fresh / BASE).write_text(json.dumps({"weights": fingerprint(plain), **learnt}) + "\n")
