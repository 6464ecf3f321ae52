"""Other people's checkpoints as they lie on a disk or on the Hub: names, shapes and tensors, read one by one.

    source = open_source("GSAI-ML/LLaDA-8B-Instruct")     # or a file, or a folder
    source.tensors["model.transformer.wte.weight"]         # mapped, not copied

Safetensors, single or sharded with an index, and PyTorch files, of which no code is run (`pickles.py`).
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from remask.checkpoints.hub import from_hub
from remask.checkpoints.pickles import cleaned, unpickled
from remask.errors import RemaskError, first_line

PICKLES = (".bin", ".ckpt", ".pth", ".pt")


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
        if len(dict(pairs)) < len(pairs):
            twice = next(new for i, (new, _) in enumerate(pairs) if new in dict(pairs[:i]))
            raise RemaskError(f"there are two tensors {twice}, told apart by a wrapper's name alone")
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
        odd = next((n for n in found if not (isinstance(n, str) and n.isprintable() and len(n) < 200)), None)
        if odd is not None:
            raise RemaskError(f"{file}: {str(odd)[:40]!r} is no name of a tensor")
        twice = sorted(where.keys() & found.keys())
        if twice:
            raise RemaskError(f"{file}: tensor {twice[0]} is in another file too")
        where |= found
    return Tensors(where, about).renamed(cleaned), config, averaged


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
