"""Our published folder: `config.json`, `model.safetensors`, `tokenizer.json`, `README.md`.

Weights are safetensors only, and config.json can name only networks and families of this package, so that loading runs
no code from a file. Parameters are named as in Hugging Face's Llama, those of a DiT as in its published code. A folder
appears under its name only when it is whole. Its weights are written one tensor at a time, from whole tensors: a
sharded run gathers its state dict first.
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
from remask.checkpoints.source import DTYPES, Tensors, open_files, read_json
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError, first_line
from remask.families import Family, build, describe
from remask.model.networks import NETWORKS, shapes
from remask.model.sizes import Architecture
from remask.vocabulary import Vocabulary

FORMAT = 1
"""Version of the folder's layout."""
RENAMED = {"turn": "end_of_turn"}
"""Special ids by the names that folders of earlier versions give them, and the names of today."""
WEIGHTS, CONFIG = "model.safetensors", "config.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"


@dataclass(frozen=True)
class LazyCheckpoint:
    """A checkpoint of any form, its tensors under our names and not yet read."""

    architecture: Architecture
    family: Family
    """Bound to its vocabulary."""
    tokenizer: Tokenizer | None
    tensors: Tensors
    about: dict[str, Any]
    """What config.json says beside: versions, data, budget, scores; or where it was converted from."""


def save(
    folder: Path,
    weights: Mapping[str, Tensor],
    architecture: Architecture,
    family: Family,
    tokenizer: Tokenizer | None,
    about: dict[str, Any],
    card: str,
) -> None:
    """Writes a published folder, whole, in the place of one that is there.

    Args:
        folder: Where; its parents are made.
        weights: Every parameter by our name, whole and on any device. A tied head is not stored twice.
        architecture: Shape of the network.
        family: Bound to its vocabulary.
        tokenizer: None for a model without one.
        about: What config.json keeps beside, such as data and scores.
        card: Text of the README.
    """
    kept = {k: v for k, v in weights.items() if not (architecture.tied and k == "lm_head.weight")}
    headers = {k: (v.dtype, tuple(v.shape)) for k, v in kept.items()}
    with replacing(folder) as fresh:
        write_safetensors(fresh / WEIGHTS, Tensors({k: (lambda v=v: v) for k, v in kept.items()}, headers))
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
    """Writes what is in a folder beside the weights. The tokenizer goes without special tokens from `ids` on."""
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER, ids)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    (folder / "README.md").write_text(card)


def write_safetensors(path: Path, tensors: Tensors, tick: Any = lambda n: None) -> None:
    """Writes tensors one after another, so that no more than one of them is in memory; `tick` is told the bytes.

    The library's own writer wants all of them at once. The form: 8 bytes of header length, a JSON header, then the
    tensors, little-endian and end to end (https://huggingface.co/docs/safetensors).
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in tensors:
        size = tensors.bytes(name)
        dtype, shape = names[tensors.dtype(name)], list(tensors.shape(name))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
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
    """The published folder that a path names: itself, or that of a run directory.

    Of a run directory it is `latest/`, else `latest.old/` (left by a kill between two renames), else `best/`. None
    where there is none; RemaskError where its config.json is damaged or of another version.
    """
    root = Path(source)
    for folder in (root, root / "latest", root / "latest.old", root / "best"):
        if (folder / CONFIG).is_file() and "architecture" in (config := read_json(folder / CONFIG)):
            if config.get("format") != FORMAT:
                raise RemaskError(f"{folder / CONFIG} has format {config.get('format')}; this version reads {FORMAT}")
            return folder
    return None


def open_own(folder: Path) -> LazyCheckpoint:
    """A published folder. RemaskError for what is missing, damaged or does not fit together, naming the file."""
    config = read_json(folder / CONFIG)
    try:
        kind, _ = NETWORKS[config.get("network", "Transformer")]
        known = {f.name for f in fields(kind)}
        architecture = kind(**{k: v for k, v in config["architecture"].items() if k in known})
        vocabulary = Vocabulary(**{RENAMED.get(k, str(k)): v for k, v in config["vocabulary"].items()})
        if not isinstance(config.get("about", {}), dict):
            raise ValueError("about is no JSON object")
        family = build(config["family"]).over(vocabulary)
        wanted = shapes(architecture)
    except (RemaskError, KeyError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        raise RemaskError(f"{folder / CONFIG} is damaged: {first_line(error)}") from None
    tokenizer = None
    if config.get("tokens", vocabulary.size) is not None:
        tokenizer = Tokenizer.load(folder / TOKENIZER, vocabulary)
        if tokenizer.size != config.get("tokens", vocabulary.size):
            raise RemaskError(
                f"{folder / TOKENIZER} has {tokenizer.size} ids, and the model reads "
                f"{architecture.rows} and predicts {architecture.predicted}: they do not belong together"
            )
    tensors = open_weights(folder / WEIGHTS, wanted)
    return LazyCheckpoint(architecture, family, tokenizer, tensors, config.get("about") or {})


def open_weights(path: Path, wanted: dict[str, tuple[int, ...]]) -> Tensors:
    """The tensors of our own file. RemaskError unless their names and shapes are those `wanted`."""
    tensors, _, _ = open_files([path])
    for name in sorted(wanted.keys() | set(tensors)):
        if name not in tensors or name not in wanted:
            raise RemaskError(f"{path}: tensor {name} is {'missing' if name not in tensors else 'not of this model'}")
        if tensors.shape(name) != wanted[name]:
            raise RemaskError(f"{path}: tensor {name} is {tensors.shape(name)}, expected {wanted[name]}")
    return tensors
