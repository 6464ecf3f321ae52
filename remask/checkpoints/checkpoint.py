"""A model ready for use, from a run directory, a published folder, or other people's weights.

    m = remask.load("runs/x")                                  # ours
    m = remask.load("GSAI-ML/LLaDA-8B-Instruct")               # from the Hub, or a local file or folder
    m = remask.load("mdm-1028M-1600e18.safetensors", tokenizer="tokenizer.json")

Files are mapped into memory and not copied, and no code in them is run.
"""

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from remask import machine
from remask.batch import Batch
from remask.checkpoints.adapters import is_adapter, open_adapter
from remask.checkpoints.folder import LazyCheckpoint, find, open_own
from remask.checkpoints.foreign import fitting_tokenizer, named_end, open_foreign, with_ids
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.precision import Precision
from remask.checkpoints.source import Tensors, open_source
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError, first_line, unknown
from remask.families import Family
from remask.model.int8 import require_int8, to_int8
from remask.model.networks import network
from remask.model.packing import pack as pack_weights
from remask.terminal import say


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    model: Any
    """The network, a `Denoiser`; its `.architecture` says its shape."""
    family: Family
    text: Tokenizer | None
    about: dict[str, Any]
    """What config.json says beside: versions, data, budget, scores; or where it was converted from."""

    @property
    def tokenizer(self) -> Tokenizer:
        """RemaskError where the checkpoint came without one."""
        if self.text is None:
            other = self.about.get("other_tokenizer")
            why = f" ({other})" if other else ""
            raise RemaskError(f"this checkpoint came without a tokenizer{why}. Give --tokenizer tokenizer.json, or ids")
        return self.text

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, V) float32. An autoregressive model predicts, at i, token i of the row.

        An interpolating model reads the masks among the ids behind the other tokens, as it was trained to.
        """
        rows = torch.as_tensor(ids, device=self.model.device)
        batch = Batch(rows, torch.ones_like(rows, dtype=torch.bool))
        hidden = torch.zeros_like(batch.scored)
        if self.family.order == "drawn":
            hidden = rows == self.family.vocabulary.mask
        seen = self.family.inputs_for(batch, hidden, torch.ones(len(rows), device=rows.device))
        logits = self.model(seen.tokens, **seen.conditions)[:, : rows.shape[1]]
        if seen.positions is None:
            return logits
        place = seen.positions[:, : rows.shape[1], None].expand_as(logits)
        return torch.empty_like(logits).scatter(1, place, logits)


def load(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    precision: Precision = "stored",
    pack: bool = False,
    compile: bool = False,
    form: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Overrides = Overrides(),  # noqa: B008
) -> Checkpoint:
    """Opens a checkpoint for use.

    Args:
        source: A run directory, a published folder; or a file, folder or Hub name in SMDM's, LLaDA's, the DiT's or
            Llama's form.
        device: cpu, cuda, or auto: a GPU where there is one.
        dtype: Casts the weights; None leaves it to `precision`.
        precision: stored leaves the weights as they are stored; bf16 and fp32 cast them; auto takes bf16 where the
            processor is fast at it, and fp32 elsewhere, and says so where that is not what is stored. What is decided
            from the logits (draws, probabilities) is computed in float32 and float64 in any case. int8 rounds the
            matrices of the layers and the head to 8 bits and computes the rest in float32, on a CPU, and says so; the
            model can then be used, but neither saved nor trained.
        pack: Keeps a second copy of the weights in the layout in which a CPU multiplies few rows fastest
            (`remask.model.packing`); says where nothing is gained. Weights of 8 bits are laid out in any case.
        compile: Compiles the network at its first calls, once for any number of rows and positions, which takes a
            minute or more on a CPU; calls with a cache are computed as they would be without.
        form: smdm, llada, dit or llama; recognised from the tensors when not given.
        tokenizer: A tokenizer.json, where there is none beside the weights.
        overrides: What the tensors cannot show.

    Raises:
        RemaskError: For what is missing, damaged or does not fit together, naming it.
    """
    if precision not in get_args(Precision):
        raise unknown("precision", precision, get_args(Precision))
    if dtype is not None and precision != "stored":
        raise RemaskError(f"dtype is {dtype} and precision {precision}; give one of them")
    place = usable_device(device)
    if precision == "int8":
        require_int8(place)
    if pack and place.type != "cpu":
        raise RemaskError(f"weights are packed for a CPU, and the device is {place}; leave pack out")
    if compile:
        require_compiler(place, precision)
    lazy = open_checkpoint(source, form, tokenizer, overrides)
    if lazy.family.time == "required" and not lazy.architecture.time:
        kind = type(lazy.family).__name__
        raise RemaskError(f"{source} is not conditioned on time, which {kind} models have to be; name another --family")
    if lazy.family.vocabulary.end is None:
        say(f"{source}: no end-of-text token is known, so no text ends by itself. Name one with --end")
    with torch.device("meta"):
        model = network(lazy.architecture)
    dtype = dtype or number_format(precision, prevalent_dtype(lazy.tensors), machine.fast_bf16(place))
    weights = {name: lazy.tensors[name].to(place, dtype) for name in lazy.tensors}  # one cast at a time
    if lazy.architecture.tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    if lazy.architecture.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    model = model.eval().requires_grad_(False)
    if precision == "int8":
        del weights  # the floats of one layer after another are given away
        to_int8(model)
        say("the network computes with weights of 8 bits (int8), which are not those stored but close to them")
    elif pack and not pack_weights(model):
        say("packed weights gain nothing for this network in this number format, so none are packed")
    if compile:
        model.compile(dynamic=True)
        cached = "; calls with a cache, as those of this family, are not" * (lazy.family.order in ("left", "drawn"))
        say(f"the network is compiled at its first calls, which then take a minute or more on a CPU{cached}")
    return Checkpoint(model, lazy.family, lazy.tokenizer, lazy.about)


def require_compiler(place: torch.device, precision: str) -> None:
    """RemaskError where a network cannot be compiled."""
    if precision == "int8":
        raise RemaskError("products of 8-bit weights are not compiled; leave compile out, or take another precision")
    if place.type == "cpu" and machine.compiler() is None:
        raise RemaskError("compile needs a C++ compiler, and neither g++ nor clang++ was found; leave compile out")
    if place.type == "cpu" and machine.seconds_to_compile() == math.inf:
        raise RemaskError(f"compile needs a C++ compiler, and {machine.compiler()} fails; leave compile out")


def number_format(precision: str, stored: torch.dtype, fast: bool) -> torch.dtype:
    """The dtype of the weights, on a device that is `fast` at bfloat16 or not; of int8, the one before rounding."""
    if precision in ("stored", "int8"):
        return stored
    chosen = torch.bfloat16 if precision == "bf16" or (precision == "auto" and fast) else torch.float32
    if precision == "auto" and chosen != stored:
        kind = str(stored).removeprefix("torch.")
        taken = "bfloat16, in which this processor is fastest" if fast else f"float32, since {kind} is slow here"
        say(f"the network computes in {taken}; --precision stored keeps {kind}")
    return chosen


def usable_device(name: str) -> torch.device:
    """The device of that name; auto is a GPU where there is one. RemaskError where it cannot be used."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.partition(":")[0] not in ("cpu", "cuda"):
        raise RemaskError(f"device is {name!r}; it must be auto, cpu or cuda")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = first_line(error)
        raise RemaskError(f"device {name!r} cannot be used: {why}. Accepted: auto, cpu, cuda") from None


def prevalent_dtype(tensors: Tensors) -> torch.dtype:
    """The dtype in which most of the weights are stored; a network computes in one."""
    sizes: dict[torch.dtype, int] = {}
    for name in tensors:
        sizes[tensors.dtype(name)] = sizes.get(tensors.dtype(name), 0) + tensors.bytes(name)
    return max(sizes, key=sizes.__getitem__)


def open_checkpoint(
    source: str | Path,
    form: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Overrides = Overrides(),  # noqa: B008
) -> LazyCheckpoint:
    """A checkpoint of any form, its weights not yet read."""
    if form is None and is_adapter(source):
        return open_adapter(Path(source), lambda base: open_checkpoint(base, None, tokenizer, overrides))
    folder = find(source) if form is None else None
    if folder is None:
        return open_foreign(open_source(source), form, tokenizer, overrides)
    if given := [k for k, v in asdict(replace(overrides, end=None)).items() if v is not None]:
        raise RemaskError(f"{folder} says all about itself; {given[0]} is for other people's weights")
    lazy = open_own(folder)
    text = lazy.tokenizer
    if tokenizer is not None:
        text = fitting_tokenizer(Path(tokenizer), lazy.family.vocabulary.size, lazy.family)
    if overrides.end is None:
        return replace(lazy, tokenizer=text)
    end = named_end(overrides.end, text)
    family = with_ids(lazy.family, str(folder), end=end)
    return replace(lazy, family=family, tokenizer=text and text.over(family.vocabulary))
