"""Our published folder: `config.json`, `model.safetensors`, `tokenizer.json`, `README.md`.

Weights are safetensors only, and a config names only networks and families of this package: loading runs
no code from a file. Parameters are named as in Hugging Face's Llama (as in the published code for a DiT). A folder
appears under its name only when it is whole, and its weights are written one tensor at a time.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.checkpoints.replacing import replacing
from remask.checkpoints.source import DTYPES, Tensors, opened, settings
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family, build, describe
from remask.model.networks import NETWORKS, shapes
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

FORMAT = 1
"""Version of the folder's form."""
WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"


@dataclass(frozen=True)
class LazyCheckpoint:
    """A checkpoint of any form, its tensors under our names and not yet read."""

    architecture: Architecture
    family: Family
    """Bound to its vocabulary."""
    tokenizer: Tokenizer | None
    tensors: Tensors
    about: dict[str, Any]


def save(
    folder: Path,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    family: Family,
    tokenizer: Tokenizer | None,
    about: dict[str, Any],
    card: str,
) -> None:
    """Writes a published folder whole, over one that is there. A tied head is not stored twice."""
    kept = {k: v for k, v in weights.items() if not (architecture.tied and k == "lm_head.weight")}
    shapes = {k: (v.dtype, tuple(v.shape)) for k, v in kept.items()}
    with replacing(folder) as fresh:
        write_safetensors(fresh / WEIGHTS, Tensors({k: (lambda v=v: v) for k, v in kept.items()}, shapes))
        write_rest(fresh, config_of(architecture, family, tokenizer, about), tokenizer, card)


def config_of(a: Architecture, family: Family, tokenizer: Tokenizer | None, about: dict[str, Any]) -> dict[str, Any]:
    """config.json: everything about a checkpoint but its weights."""
    import remask

    (name,) = (name for name, (kind, _) in NETWORKS.items() if kind is type(a))
    return {
        "format": FORMAT,
        "remask": remask.__version__,
        "torch": str(torch.__version__),
        "family": describe(family),
        "vocabulary": asdict(family.vocabulary),
        "tokens": tokenizer.size if tokenizer else None,
        "network": name,
        "architecture": asdict(a),
        "about": about,
    }


def write_rest(
    folder: Path, config: dict[str, Any], tokenizer: Tokenizer | None, card: str, ids: int | None = None
) -> None:
    """What is in a folder beside the weights; the tokenizer without special tokens from `ids` on."""
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER, ids)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").write_text(card)


def write_safetensors(path: Path, tensors: Tensors, tick: Any = lambda n: None) -> None:
    """Writes tensors one after another, so that no more than one of them is in memory; `tick` counts bytes.

    The library's own writer wants all of them at once. The form: 8 bytes of header length, a JSON header, the
    tensors little-endian and end to end (https://huggingface.co/docs/safetensors).
    """
    names = {kind: name for name, kind in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in tensors:
        size = tensors.bytes(name)
        kind, shape = names[tensors.dtype(name)], list(tensors.shape(name))
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in tensors:
            tensor = tensors[name].detach().cpu().contiguous()
            if (tensor.dtype, tuple(tensor.shape)) != (tensors.dtype(name), tensors.shape(name)):
                raise RemaskError(f"tensor {name} is {tensor.dtype} {tuple(tensor.shape)} and was announced otherwise")
            file.write(tensor.flatten().view(torch.uint8).numpy().data)
            tick(tensor.numel() * tensor.element_size())
        file.flush()
        os.fsync(file.fileno())


def find(source: str | Path) -> Path | None:
    """The published folder of a run directory (`latest/`, or what a kill between two renames left) or itself.

    None where there is none; RemaskError where its config.json is damaged.
    """
    root = Path(source)
    for folder in (root, root / "latest", root / "latest.old", root / "best"):
        if (folder / CONFIG).is_file() and "architecture" in (config := settings(folder)):
            if config.get("format") != FORMAT:
                raise RemaskError(f"{folder / CONFIG} has format {config.get('format')}; this version reads {FORMAT}")
            return folder
    return None


def open_own(folder: Path) -> LazyCheckpoint:
    """A published folder. RemaskError for what is missing, damaged or does not fit together, naming the file."""
    config = settings(folder)
    try:
        kind, _ = NETWORKS[config.get("network", "Transformer")]
        known = {f.name for f in fields(kind)}
        architecture = kind(**{k: v for k, v in config["architecture"].items() if k in known})
        vocabulary = Vocabulary(**config["vocabulary"])
        if not isinstance(config.get("about", {}), dict):
            raise ValueError("about is no JSON object")
        family = build(config["family"]).over(vocabulary)
        wanted = shapes(architecture)
    except (RemaskError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise RemaskError(f"{folder / CONFIG} is damaged: {error}") from None
    tokenizer = None
    if config.get("tokens", vocabulary.size) is not None:
        tokenizer = Tokenizer.load(folder / TOKENIZER, vocabulary)
        if tokenizer.size != config.get("tokens", vocabulary.size):
            raise RemaskError(
                f"{folder / TOKENIZER} has {tokenizer.size} ids, and the model reads "
                f"{architecture.rows} and predicts {architecture.predicted}: they do not belong together"
            )
    tensors = checked(folder / WEIGHTS, wanted)
    return LazyCheckpoint(architecture, family, tokenizer, tensors, config.get("about") or {})


def checked(path: Path, wanted: dict[str, tuple[int, ...]]) -> Tensors:
    """The tensors of our own file, checked by name and shape."""
    tensors, _, _ = opened([path])
    for name in sorted(wanted.keys() | set(tensors)):
        if name not in tensors or name not in wanted:
            raise RemaskError(f"{path}: tensor {name} is {'missing' if name not in tensors else 'not of this model'}")
        if tensors.shape(name) != wanted[name]:
            raise RemaskError(f"{path}: tensor {name} is {tensors.shape(name)}, expected {wanted[name]}")
    return tensors
