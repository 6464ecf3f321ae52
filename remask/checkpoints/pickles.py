"""PyTorch files, read without running the code that a pickle may ask for: weights, and configuration as inert data.

Files are opened with `weights_only`. Where one holds configuration objects as well (OmegaConf, a tokenizer, as the
Lightning checkpoints of MDLM and Duo do), these become data that does nothing. A file that asks for anything else is
refused by the name of what it asks for.
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
ANYWHERE = ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of names that DDP, torch.compile, Fabric, FSDP and activation checkpointing add, wherever they wrap."""
LEADING = ("model", "backbone", "denoiser", "state_dict", "net", "network")
"""Names that training programs give the network as a member of something else."""
OTHERS = ("teacher.", "sampler.", "noise.")
"""What names begin with that are no weights of the model."""


def bare_name(name: str) -> str | None:
    """A tensor's name without what wrappers put before its parts, in any order and number; None for no weight."""
    parts = [part for part in name.split(".") if part not in ANYWHERE]
    while len(parts) > 1 and parts[0] in LEADING:
        del parts[0]
    bare = ".".join(parts)
    return None if bare.startswith(OTHERS) or bare.endswith("rotary_emb.inv_freq") else bare


class Inert:
    """Stands for an object that a checkpoint mentions: it keeps the data the object was made of, and does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments = arguments

    def __new__(cls, *arguments: Any, **options: Any) -> "Inert":
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __hash__(self) -> int:
        return id(self)


def read_pickle(file: Path) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """Weights by their stored names, configuration, and whether the weights are a moving average (EMA).

    The weights are mapped where the file allows it. RemaskError for a file that is damaged or asks for code.
    """
    if not zipfile.is_zipfile(file):
        content = _load(file, mapped=False, inert=())
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
        content = _load(file, mapped=stored, inert=asked)
    return split_content(file, content)


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
        named = re.search(r"(?:GLOBAL|Unsupported class)\W+([\w.]+)", text)
        if "weights_only" in text.lower() and named:
            raise RemaskError(refusal(file, named[1])) from None
        why = "" if "weights_only" in text else f": {first_line(error)}"  # torch's own advice is to run the code
        raise RemaskError(f"{file} is damaged, or no file of weights{why}") from None


def split_content(file: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """What `read_pickle` gives, of the content of a file.

    The weights lie in it plainly, under "model" (Fabric), "module" (DeepSpeed), or Lightning's "state_dict". Where
    Lightning kept a moving average beside them ("ema"), the average is given in their place.
    """
    if not isinstance(content, dict):
        raise RemaskError(f"{file} holds a {type(content).__name__}, not weights by name")
    content = dict(content.items())
    keys = ("state_dict", "model_state_dict", "model", "module")
    state = next((content[key] for key in keys if isinstance(content.get(key), dict)), content)
    weights = {name: check_tensor(file, name, t) for name, t in dict(state.items()).items() if isinstance(t, Tensor)}
    if not weights:
        raise RemaskError(f"{file} holds no weights by name; its keys are {', '.join(map(repr, list(content)[:8]))}")
    config = plain(content.get("hyper_parameters"))
    config = config.get("config", config) if isinstance(config, dict) else None
    config = config if isinstance(config, dict) else {}
    ema = content.get("ema")
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list):
        return weights, config, False
    names = [n for n in weights if bare_name(n) is not None]  # an EMA lists the parameters in the order of the model
    if [getattr(t, "shape", None) for t in shadow] != [weights[n].shape for n in names]:
        raise RemaskError(
            f"{file}: its moving average of {len(shadow)} tensors does not match its {len(names)} weights"
        )
    return {n: check_tensor(file, n, t) for n, t in zip(names, shadow, strict=True)}, config, True


def check_tensor(file: Path, name: Any, tensor: Tensor) -> Tensor:
    """The tensor, detached. RemaskError unless it is an ordinary one: dense floating-point numbers on the CPU."""
    if not isinstance(name, str):
        raise RemaskError(f"{file}: {str(name)[:40]!r} is no name of a tensor")
    kind = tensor.dtype if tensor.layout is torch.strided else tensor.layout
    ordinary = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"
    if not ordinary or tensor.is_nested or tensor.is_quantized or kind not in FLOATS or tensor.is_neg():
        where = "" if ordinary else f" on {tensor.device}"
        raise RemaskError(f"{file}: tensor {name} is of {kind}{where}, expected ordinary floating-point numbers")
    return tensor.detach()


FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
DEEPEST, MOST = 24, 20_000
"""Levels, and nodes, of a configuration that are read."""


def plain(value: Any) -> Any:
    """Inert OmegaConf nodes as the dicts, lists and values they stand for; what is too deep or too much is None."""
    left = [MOST]

    def go(x: Any, depth: int) -> Any:
        left[0] -= 1
        if depth > DEEPEST or left[0] < 0:
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
