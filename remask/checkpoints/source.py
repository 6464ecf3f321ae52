"""Other people's checkpoints as they lie on a disk or on the Hub: names, shapes and tensors, read one by one.

    source = open_source("GSAI-ML/LLaDA-8B-Instruct")     # or a file, or a folder
    source.tensors["transformer.wte.weight"]              # mapped, not copied

Safetensors and PyTorch files, single or sharded with an index; no code in them is run (`pickles.py`). Which of a
folder's files hold the weights is decided in `weight_files.py`. Tensors have their bare names, without what wrappers
put before them; `Format.with_published_names` gives them those of their layout.
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
from remask.checkpoints.pickles import bare_name, read_pickle
from remask.checkpoints.weight_files import adapter, refuse_lookalike, weight_files
from remask.errors import RemaskError, first_line
from remask.lookalikes import lookalike


class Tensors(Mapping[str, Tensor]):
    """Tensors by name, each read when it is asked for."""

    def __init__(
        self, readers: dict[str, Callable[[], Tensor]], headers: dict[str, tuple[torch.dtype, tuple[int, ...]]]
    ):
        """A function that reads each tensor, and its dtype and shape, which are known without reading it."""
        self._readers, self._headers = readers, headers

    def __getitem__(self, name: str) -> Tensor:
        return self._readers[name]()

    def __iter__(self) -> Iterator[str]:
        """In the order of the files."""
        return iter(self._readers)

    def __len__(self) -> int:
        return len(self._readers)

    def __contains__(self, name: object) -> bool:
        return name in self._readers

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the header of its file."""
        return self._headers[name][1]

    def dtype(self, name: str) -> torch.dtype:
        """Dtype of a tensor, from the header of its file."""
        return self._headers[name][0]

    def bytes(self, name: str) -> int:
        """Size of a tensor."""
        dtype, shape = self._headers[name]
        return dtype.itemsize * math.prod(shape)

    def renamed(self, rename: Callable[[str], str | None]) -> "Tensors":
        """The same tensors by other names; those renamed to None are left out. RemaskError where two become one."""
        pairs = [(new, old) for old in self._readers if (new := rename(old)) is not None]
        seen: set[str] = set()
        for new, _ in pairs:
            if new in seen:
                raise RemaskError(f"there are two tensors {new}, which differ only in the name of a wrapper")
            seen.add(new)
        return Tensors({n: self._readers[o] for n, o in pairs}, {n: self._headers[o] for n, o in pairs})


@dataclass(frozen=True)
class Source:
    """A checkpoint of any layout."""

    name: str
    """As the user wrote it."""
    tensors: Tensors
    files: list[Path]
    config: dict[str, Any] = field(default_factory=dict)
    """config.json beside the weights, or the configuration inside a Lightning checkpoint."""
    tokenizer: Path | None = None
    """tokenizer.json beside the weights."""
    other_tokenizer: str | None = None
    """A sentence on a tokenizer beside the weights that is in a form that is not read; None where there is none."""
    tokens: int | None = None
    """Ids of the tokenizer, a mask not counted; known once it is opened."""
    averaged: bool = False
    """Whether these are the moving average (EMA) kept beside the raw weights."""


def open_source(spec: str | Path) -> Source:
    """A local file or folder, or a Hub name. RemaskError when it is missing, damaged, or has code in it."""
    path = Path(spec)
    if not path.exists():
        path = from_hub(str(spec))
    files = weight_files(path)
    folder = path if path.is_dir() else path.parent
    config = read_config(folder)
    quantised = config.get("quantization_config")
    if isinstance(quantised, dict):
        raise RemaskError(
            f"{spec}: config.json says that the weights are quantised ({quantised.get('quant_method', 'unknown')}), "
            "which remask does not read: take the original weights"
        )
    tensors, inner, averaged = open_files(files)
    if any(".lora_" in name for name in tensors):
        raise RemaskError(adapter(spec, folder))
    beside = folder / "tokenizer.json"
    return Source(
        name=str(spec),
        tensors=tensors.renamed(bare_name),
        files=files,
        config=config or inner,
        tokenizer=beside if beside.is_file() else None,
        other_tokenizer=None if beside.is_file() else other_tokenizer(folder),
        averaged=averaged,
    )


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, with the special ids of generation_config.json where it has none; {} where there is neither."""
    config = read_json(folder / "config.json")
    generation = read_json(folder / "generation_config.json") if config else {}
    ids = {k: generation[k] for k in ("bos_token_id", "eos_token_id") if k in generation and config.get(k) is None}
    return config | ids


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no such file. RemaskError for anything else."""
    if path.is_file() and (what := lookalike(path)):
        raise RemaskError(f"{path} is {what}")
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise RemaskError(f"{path} is damaged: {error}") from None
    if not isinstance(content, dict):
        raise RemaskError(f"{path} is damaged: it is no JSON object")
    return content


def other_tokenizer(folder: Path) -> str | None:
    """What a folder without a tokenizer.json has instead, in one sentence."""
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        if (folder / name).is_file():
            return f"{name} is {lookalike(folder / name) or 'not read: a tokenizer.json is wanted'}"
    if (folder / "vocab.json").is_file() or (folder / "vocab.txt").is_file():
        return "its vocabulary is not in one tokenizer.json, which `transformers` makes of it"
    return None


def open_files(files: list[Path]) -> tuple[Tensors, dict[str, Any], bool]:
    """The tensors of all files by their stored names; the configuration a PyTorch file held; whether they are an EMA.

    Only one safetensors file is open at a time.
    """
    readers: dict[str, Callable[[], Tensor]] = {}
    headers: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
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
        refuse_lookalike(file)
        of_file: dict[str, Callable[[], Tensor]] = {}
        if is_safetensors(file):
            for name, header in read_headers(file).items():
                of_file[name], headers[name] = reader(file, name), header
        else:
            state, config, averaged = read_pickle(file)
            for name, tensor in state.items():
                of_file[name], headers[name] = (lambda t=tensor: t), (tensor.dtype, tuple(tensor.shape))
        odd = next((n for n in of_file if not (isinstance(n, str) and n.isprintable() and len(n) < 200)), None)
        if odd is not None:
            raise RemaskError(f"{file}: {str(odd)[:40]!r} is no name of a tensor")
        twice = sorted(readers.keys() & of_file.keys())
        if twice:
            raise RemaskError(f"{file}: tensor {twice[0]} is in another file too")
        readers |= of_file
    return Tensors(readers, headers), config, averaged


DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
"""Dtypes of weights by the names that safetensors gives them."""


def is_safetensors(file: Path) -> bool:
    """Whether a file is in the form of safetensors, whatever its name ends with: a length of 8 bytes, then JSON."""
    try:
        with open(file, "rb") as handle:
            head = handle.read(9)
    except OSError:
        return file.suffix == ".safetensors"
    return head[8:] == b"{" or file.suffix == ".safetensors"


def read_headers(file: Path) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Dtype and shape of each tensor of a safetensors file, whose length is checked against its header."""
    try:
        with safe_open(file, "pt") as handle:
            slices = {name: handle.get_slice(name) for name in handle.keys()}  # noqa: SIM118
            stored = {name: (part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (OSError, SafetensorError) as error:
        raise RemaskError(f"{file} is missing or damaged: {first_line(error)}") from None
    for name, (dtype, _) in stored.items():
        if dtype not in DTYPES:
            raise RemaskError(f"{file}: tensor {name} is of {dtype}, expected one of {', '.join(DTYPES)}")
    return {name: (DTYPES[dtype], shape) for name, (dtype, shape) in stored.items()}
