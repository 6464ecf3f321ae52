"""Other people's checkpoints as they lie on a disk or on the Hub: names, shapes and tensors, read one by one.

    source = open_source("GSAI-ML/LLaDA-8B-Instruct")     # or a file, or a folder
    source.tensors["model.transformer.wte.weight"]         # mapped, not copied

Safetensors (single, or sharded with an index) and PyTorch files. No code of a file is ever run: a PyTorch file
is read with weights only, and where it holds configuration objects as well (OmegaConf, a tokenizer, as Lightning
checkpoints of MDLM and Duo do), these become inert data. One that asks for anything else is refused.
"""

import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from remask.errors import RemaskError

PICKLES = (".bin", ".ckpt", ".pth", ".pt")
HUB = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?(?::(.+))?")
"""OWNER/NAME, OWNER/NAME@REVISION, OWNER/NAME:FILE."""
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")
INERT = ("omegaconf", "transformers", "tokenizers", "lightning", "pytorch_lightning", "hydra", "datasets", "typing",
         "dataloader", "numpy", "pathlib", "argparse")  # fmt: skip
"""Modules whose objects a checkpoint may mention; they are never imported for it."""
LEFT_OUT = ("rotary_emb.inv_freq", "teacher.", "sampler.", "noise.")
"""Beginnings and ends of the names of tensors that are no weights of the model."""


class Tensors(Mapping[str, Tensor]):
    """Tensors by name, each read when asked for. Only one file is open at a time."""

    def __init__(self, where: dict[str, Callable[[], Tensor]], about: dict[str, tuple[torch.dtype, tuple[int, ...]]]):
        self._where, self._about = where, about

    def __getitem__(self, name: str) -> Tensor:
        return self._where[name]()

    def __iter__(self) -> Iterator[str]:
        """In the order of the files."""
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, name: object) -> bool:
        return name in self._where

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a tensor, from the header of its file."""
        return self._about[name][1]

    def dtype(self, name: str) -> torch.dtype:
        """Of a tensor, from the header of its file."""
        return self._about[name][0]

    def bytes(self, name: str) -> int:
        """Size of a tensor."""
        dtype, shape = self._about[name]
        return dtype.itemsize * math.prod(shape)

    def renamed(self, rename: Callable[[str], str | None]) -> "Tensors":
        """The same tensors by other names; those renamed to None left out."""
        pairs = [(new, old) for old in self._where if (new := rename(old)) is not None]
        return Tensors({n: self._where[o] for n, o in pairs}, {n: self._about[o] for n, o in pairs})


@dataclass(frozen=True)
class Source:
    """A checkpoint of any form."""

    name: str
    """As the user wrote it."""
    tensors: Tensors
    files: list[Path]
    config: dict[str, Any] = field(default_factory=dict)
    """config.json beside the weights, or the configuration inside a Lightning checkpoint."""
    tokenizer: Path | None = None
    """tokenizer.json beside the weights."""
    tokens: int | None = None
    """Ids of the tokenizer, a mask not counted; found when it is opened."""
    averaged: bool = False
    """Whether these are the moving average (EMA) kept beside the raw weights."""


def open_source(spec: str | Path) -> Source:
    """A local file or folder, or a Hub name. RemaskError when missing, damaged, or with code in it."""
    path = Path(spec)
    if not path.exists():
        path = from_hub(str(spec))
    files = weight_files(path)
    tensors, config, averaged = opened(files)
    folder = path if path.is_dir() else path.parent
    beside = folder / "tokenizer.json"
    tokenizer = beside if beside.is_file() else None
    return Source(str(spec), tensors, files, settings(folder) or config, tokenizer, averaged=averaged)


def from_hub(spec: str) -> Path:
    """Downloads (or finds in the cache) OWNER/NAME, or one FILE of it with what lies beside it."""
    match = HUB.fullmatch(spec)
    if not match or spec.startswith(("/", ".")) or Path(spec).parent.is_dir():
        raise RemaskError(f"no checkpoint at {spec}: there is no such file or folder, and it is no Hub name OWNER/NAME")
    return fetched(*match.groups())


def fetched(repository: str, revision: str | None = None, file: str | None = None) -> Path:
    """The local copy of a Hub repository's weights and what lies beside them, or of one file of it."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

    spec = repository + (f":{file}" if file else "")
    beside = [*BESIDE, *([f"{Path(file).parent}/{name}" for name in BESIDE] if file else ())]
    wanted = [file] if file else ["*.safetensors", "*.safetensors.index.json"]
    try:
        folder = Path(
            huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=[*wanted, *beside])
        )
        if file is None and not any(folder.glob("*.safetensors")):
            more = [f"*{suffix}" for suffix in PICKLES]
            folder = Path(huggingface_hub.snapshot_download(repository, revision=revision, allow_patterns=more))
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise RemaskError(f"{spec}: the Hub has no such model, or it is private: {first_line(error)}") from None
    except LocalEntryNotFoundError as error:
        raise RemaskError(
            f"{spec} is neither a local file or folder nor in the Hub's cache, and the Hub cannot be reached"
        ) from error
    except Exception as error:  # whatever the connection may raise
        raise RemaskError(f"{spec} cannot be fetched from the Hub: {first_line(error)}") from error
    if file and not (folder / file).is_file():
        raise RemaskError(f"{repository} on the Hub has no file {file}")
    return folder / file if file else folder


def weight_files(path: Path) -> list[Path]:
    """The files that hold the weights of a source, by preference: an index, safetensors, PyTorch files."""
    if path.is_file():
        return indexed(path) if path.name.endswith(".index.json") else [path]
    for pattern in ("*.safetensors.index.json", "*.bin.index.json"):
        indices = sorted(path.glob(pattern))
        if indices:
            return indexed(indices[0])
    if (path / "model.safetensors").is_file():
        return [path / "model.safetensors"]
    for suffix in (".safetensors", *PICKLES):
        found = sorted(path.glob(f"*{suffix}"))
        if len(found) == 1:
            return found
        if found:
            names = ", ".join(f.name for f in found[:6]) + (", ..." if len(found) > 6 else "")
            raise RemaskError(f"{path} holds several weight files and no index; name one of {names}")
    raise RemaskError(
        f"no checkpoint in {path}: found neither latest/config.json nor a .safetensors, .bin, .ckpt, .pth or .pt file"
    )


def indexed(index: Path) -> list[Path]:
    """The shards that an index names, all of them there, in its own folder."""
    try:
        names = list(dict.fromkeys(json.loads(index.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RemaskError(f"{index} is damaged: {error}") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise RemaskError(f"{index} names a shard outside its folder: {name!r}")
        if not (index.parent / name).is_file():
            raise RemaskError(f"{index} names {name}, which is missing")
    return [index.parent / name for name in names]


def settings(folder: Path) -> dict[str, Any]:
    """config.json, if there is one."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RemaskError(f"{path} is damaged: {error}") from None
    if not isinstance(found, dict):
        raise RemaskError(f"{path} is damaged: it is no JSON object")
    return found


def opened(files: list[Path]) -> tuple[Tensors, dict[str, Any], bool]:
    """The tensors of all files under clean names; the configuration a PyTorch file held; whether they are an EMA."""
    where: dict[str, Callable[[], Tensor]] = {}
    about: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    config: dict[str, Any] = {}
    averaged = False
    open_file: dict[Path, Any] = {}

    def reader(file: Path, name: str) -> Callable[[], Tensor]:
        def read() -> Tensor:
            if file not in open_file:
                open_file.clear()
                open_file[file] = safe_open(file, "pt")
            return open_file[file].get_tensor(name)

        return read

    for file in files:
        found: dict[str, Callable[[], Tensor]] = {}
        if file.suffix == ".safetensors":
            for name, header in headers(file).items():
                found[name], about[name] = reader(file, name), header
        else:
            state, config, averaged = unpickled(file)
            for name, tensor in state.items():
                found[name], about[name] = (lambda t=tensor: t), (tensor.dtype, tuple(tensor.shape))
        twice = sorted(where.keys() & found.keys())
        if twice:
            raise RemaskError(f"{file}: tensor {twice[0]} is in another file too")
        where |= found
    return Tensors(where, about).renamed(cleaned), config, averaged


def cleaned(name: str) -> str | None:
    """A tensor's name without what compiling or wrapping put before it; None for what is no weight."""
    for prefix in ("_orig_mod.", "module.", "_forward_module."):
        name = name.removeprefix(prefix)
    name = name.replace("._orig_mod.", ".")
    return None if name.startswith(LEFT_OUT[1:]) or name.endswith(LEFT_OUT[0]) else name


DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Dtypes of weights as safetensors writes them."""


def headers(file: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of each tensor of a safetensors file, whose length is checked against its header."""
    try:
        with safe_open(file, "pt") as handle:
            found = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
            kinds = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in found.items()}
    except (OSError, SafetensorError) as error:
        raise RemaskError(f"{file} is missing or damaged: {first_line(error)}") from None
    for name, (kind, _) in kinds.items():
        if kind not in DTYPES:
            raise RemaskError(f"{file}: tensor {name} is of {kind}, expected one of {', '.join(DTYPES)}")
    return {name: (DTYPES[kind], shape) for name, (kind, shape) in kinds.items()}


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
        except Exception as error:  # of many kinds, for what is damaged
            raise RemaskError(f"{file} is damaged or cut off: {first_line(error)}") from None
        foreign = [name for name in asked if name.split(".")[0] not in INERT]
        if foreign:
            raise RemaskError(refusal(file, foreign[0]))
        found = _load(file, mapped=True, inert=asked)
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
        named = re.search(r"(?:Unsupported (?:global|class)[^`]*|GLOBAL )`?([\w.]+)`?", text)
        if "weights_only" in text.lower() and named:
            raise RemaskError(refusal(file, named[1])) from None
        raise RemaskError(f"{file} is damaged, or no PyTorch file: {first_line(error)}") from None


def states(file: Path, found: Any) -> tuple[dict[str, Tensor], dict[str, Any], bool]:
    """The weights inside what a PyTorch file holds: plain, under "model" (Fabric), or Lightning's "state_dict"."""
    if not isinstance(found, dict):
        raise RemaskError(f"{file} holds a {type(found).__name__}, not weights by name")
    state = found
    for key in ("state_dict", "model", "module"):
        if isinstance(found.get(key), dict):
            state = found[key]
            break
    weights = {name: t for name, t in state.items() if isinstance(name, str) and isinstance(t, Tensor)}
    if not weights:
        raise RemaskError(f"{file} holds no weights by name; its keys are {', '.join(map(str, list(found)[:8]))}")
    config = plain(found.get("hyper_parameters", {}))
    config = config.get("config", config) if isinstance(config, dict) else {}
    ema = found.get("ema")
    shadow = ema.get("shadow_params") if isinstance(ema, dict) else None
    if not isinstance(shadow, list):
        return weights, config if isinstance(config, dict) else {}, False
    names = [n for n in weights if cleaned(n) is not None]  # an EMA lists the parameters in the order of the model
    if [tuple(t.shape) for t in shadow] != [tuple(weights[n].shape) for n in names]:
        raise RemaskError(
            f"{file}: its moving average of {len(shadow)} tensors does not match its {len(names)} weights"
        )
    return dict(zip(names, shadow, strict=True)), config if isinstance(config, dict) else {}, True


def plain(value: Any) -> Any:
    """Inert OmegaConf nodes as the dicts, lists and values they stood for."""
    if isinstance(value, Inert):
        state = getattr(value, "state", None)
        state = state if isinstance(state, dict) else {}
        return plain(state.get("_content", state.get("_val")))
    if isinstance(value, dict):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value if isinstance(value, str | int | float | bool) else None


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
