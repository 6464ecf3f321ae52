"""PyTorch files without the code that they may ask for: weights, and configuration as inert data.

Read with weights only. Where a file holds configuration objects as well (OmegaConf, a tokenizer, as the Lightning
checkpoints of MDLM and Duo do), these become data that does nothing. A file that asks for anything else is refused.
"""

import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.errors import RemaskError, first_line

INERT = ("omegaconf", "transformers", "tokenizers", "lightning", "pytorch_lightning", "hydra", "datasets", "typing",
         "dataloader", "numpy", "pathlib", "argparse")  # fmt: skip
"""Modules whose objects a checkpoint may mention; they are never imported for it."""
OTHERS = ("teacher.", "sampler.", "noise.")
"""What names begin with that are no weights of the model."""


def cleaned(name: str) -> str | None:
    """A tensor's name without what compiling or wrapping put before it; None for what is no weight."""
    for prefix in ("_orig_mod.", "module.", "_forward_module."):
        name = name.removeprefix(prefix)
    name = name.replace("._orig_mod.", ".")
    return None if name.startswith(OTHERS) or name.endswith("rotary_emb.inv_freq") else name


class Inert:
    """Stands for an object that a checkpoint mentions: keeps the data it was to be made of, and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments = arguments

    def __new__(cls, *arguments: Any, **options: Any) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __hash__(self) -> int:
        return id(self)


def unpickled(file: Path) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Weights, configuration and whether the weights are the EMA of a PyTorch file, mapped where its form allows."""
    if not zipfile.is_zipfile(file):
        found = _load(file, mapped=False, inert=())
    else:
        try:
            asked = torch.serialization.get_unsafe_globals_in_checkpoint(file)
            with zipfile.ZipFile(file) as archive:  # a mapped record is read as it lies
                stored = all(part.compress_type == zipfile.ZIP_STORED for part in archive.infolist())
        except Exception as error:  # of many kinds, for what is damaged
            raise RemaskError(f"{file} is damaged or cut off: {first_line(error)}") from None
        foreign = [name for name in asked if name.split(".")[0] not in INERT]
        if foreign:
            raise RemaskError(refusal(file, foreign[0]))
        found = _load(file, mapped=stored, inert=asked)
    return states(file, found)


def refusal(file: Path, what: str) -> str:
    """Why a file with code in it is not opened, and what to do."""
    return (
        f"{file} asks to run {what} when it is opened, so it is not opened. Ask for a .safetensors copy; or, only if "
        "you trust whoever made it, load it yourself with torch.load and save its weights with safetensors"
    )


def _load(file: Path, mapped: bool, inert: tuple[str, ...] | list[str]) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([(Inert, name) for name in inert]):  # type: ignore[list-item]
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # the unpickler raises what it likes on damaged data
        text = str(error)
        named = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:global|class)\W+([\w.]+)", text)
        if "weights_only" in text.lower() and named:
            raise RemaskError(refusal(file, named[1] or named[2])) from None
        why = "" if "weights_only" in text else f": {first_line(error)}"  # torch's own advice is to run the code
        raise RemaskError(f"{file} is damaged, or no file of weights{why}") from None


def states(file: Path, found: Any) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """The weights inside what a PyTorch file holds: plain, under "model" (Fabric), or Lightning's "state_dict"."""
    if not isinstance(found, dict):
        raise RemaskError(f"{file} holds a {type(found).__name__}, not weights by name")
    found = dict(found.items())
    state = next((found[key] for key in ("state_dict", "model", "module") if isinstance(found.get(key), dict)), found)
    weights = {name: checked(file, name, t) for name, t in dict(state.items()).items() if isinstance(t, Tensor)}
    if not weights:
        raise RemaskError(f"{file} holds no weights by name; its keys are {', '.join(map(repr, list(found)[:8]))}")
    config = plain(found.get("hyper_parameters"))
    config = config.get("config", config) if isinstance(config, dict) else None
    config = config if isinstance(config, dict) else {}
    ema = found.get("ema")
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list):
        return weights, config, False
    names = [n for n in weights if cleaned(n) is not None]  # an EMA lists the parameters in the order of the model
    if [getattr(t, "shape", None) for t in shadow] != [weights[n].shape for n in names]:
        raise RemaskError(
            f"{file}: its moving average of {len(shadow)} tensors does not match its {len(names)} weights"
        )
    return {n: checked(file, n, t) for n, t in zip(names, shadow, strict=True)}, config, True


def checked(file: Path, name: Any, tensor: Tensor) -> Tensor:
    """A tensor that is an ordinary one: dense, of floating-point numbers, on the CPU."""
    kind = tensor.dtype if tensor.layout is torch.strided else tensor.layout
    plainly = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    if not plainly or tensor.is_nested or tensor.is_quantized or kind not in FLOATS or tensor.is_neg():
        where = "" if plainly else f" on {tensor.device}"
        raise RemaskError(f"{file}: tensor {name} is of {kind}{where}, expected ordinary floating-point numbers")
    return tensor.detach()


FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
DEEP, MANY = 24, 20_000
"""Levels and nodes of a configuration that are read."""


def plain(value: Any) -> Any:
    """Inert OmegaConf nodes as the dicts, lists and values they stood for; what is too deep or too much is left out."""
    left = [MANY]

    def go(x: Any, depth: int) -> Any:
        left[0] -= 1
        if depth > DEEP or left[0] < 0:
            return None
        if isinstance(x, Inert):
            state = getattr(x, "state", None)
            state = state if isinstance(state, dict) else {}
            return go(state.get("_content", state.get("_val")), depth + 1)
        if isinstance(x, dict):
            return {str(go(k, depth + 1)): go(v, depth + 1) for k, v in x.items()}
        if isinstance(x, list | tuple):
            return [go(v, depth + 1) for v in x]
        return x if isinstance(x, str | int | float | bool) else None

    return go(value, 0)
