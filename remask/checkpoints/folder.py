"""Our published folder: `config.json`, `model.safetensors`, `tokenizer.json`, `README.md`.

    checkpoint = load("runs/x")          # a run directory, or a published folder

Weights are safetensors only, and a config names only families of this package: loading runs no code
from a file. The file is mapped into memory, not copied.
"""

import json
import os
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Batch, Family, build, describe
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer

FORMAT = 1
"""Version of the folder's form."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    model: Transformer
    family: Family
    tokenizer: Tokenizer
    about: dict[str, Any]
    """What config.json says beside: versions, data, budget, scores."""

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, V) float32. An autoregressive model predicts, at i, token i of the row."""
        rows = torch.as_tensor(ids, device=self.model.device)
        batch = Batch(rows, torch.ones_like(rows, dtype=torch.bool))
        seen = self.family.present(batch, torch.zeros_like(batch.scored), torch.ones(len(rows), device=rows.device))
        return self.model(seen.tokens, **seen.reading())


def save(
    folder: Path,
    weights: dict[str, Tensor],
    architecture: Architecture,
    family: Family,
    tokenizer: Tokenizer,
    about: dict[str, Any],
    card: str,
) -> None:
    """Writes a published folder whole: it appears under its name only when complete.

    A tied head is not stored twice.
    """
    import remask

    stale, fresh = folder.with_name(folder.name + ".old"), folder.with_name(folder.name + ".tmp")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    if architecture.tied:
        weights = {k: v for k, v in weights.items() if k != "lm_head.weight"}
    try:
        save_file({k: v.detach().contiguous().cpu() for k, v in weights.items()}, fresh / "model.safetensors")
        tokenizer.save(fresh / "tokenizer.json")
        config = {
            "format": FORMAT,
            "remask": remask.__version__,
            "torch": str(torch.__version__),
            "family": describe(family),
            "vocabulary": asdict(family.vocabulary),
            "architecture": asdict(architecture),
            "about": about,
        }
        (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        (fresh / "README.md").write_text(card)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise RemaskError(f"cannot write {folder}: {error}") from error
    if folder.exists():
        shutil.rmtree(stale, ignore_errors=True)
        os.replace(folder, stale)
    os.replace(fresh, folder)
    shutil.rmtree(stale, ignore_errors=True)


def find(source: str | Path) -> Path:
    """The published folder of a run directory (`latest/`, or what a kill between two renames left) or itself."""
    root = Path(source)
    if not root.exists():
        raise RemaskError(f"no checkpoint at {root}: there is no such file or folder")
    for folder in (root, root / "latest", root / "latest.old", root / "best"):
        if (folder / "config.json").is_file():
            return folder
    raise RemaskError(f"no checkpoint in {root}: found neither config.json nor latest/config.json")


def load(source: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Checkpoint:
    """Opens a run directory or a published folder for use.

    `dtype` casts the weights; None leaves them as stored. Raises RemaskError for what is missing,
    damaged or does not fit together, naming the file.
    """
    folder = find(source)
    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise RemaskError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    config = _config(folder / "config.json")
    try:
        known = {f.name for f in fields(Architecture)}
        architecture = Architecture(**{k: v for k, v in config["architecture"].items() if k in known})
        family = build(config["family"])
        with torch.device("meta"):
            model = Transformer(architecture)
    except (RemaskError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise RemaskError(f"{folder / 'config.json'} is damaged: {error}") from None
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    vocabulary = tokenizer.vocabulary
    if (vocabulary.size, vocabulary.predicted) != (architecture.rows, architecture.predicted):
        raise RemaskError(
            f"{folder / 'tokenizer.json'} has {vocabulary.size} ids, and the model reads "
            f"{architecture.rows} and predicts {architecture.predicted}: they do not belong together"
        )
    model.load_state_dict(_weights(folder / "model.safetensors", model), assign=True)
    if architecture.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    model = model.to(device=place, dtype=dtype).eval().requires_grad_(False)
    return Checkpoint(model, family.over(vocabulary), tokenizer, config.get("about") or {})


def contents(source: str | Path) -> dict[str, Any]:
    """What a published folder holds, for people. The weights are mapped, not read."""
    folder = find(source)
    config = _config(folder / "config.json")
    checkpoint = load(folder)
    shape = checkpoint.model.architecture
    about = config.get("about", {})
    validation = about.get("validation", {})
    kinds = {str(w.dtype).removeprefix("torch.") for w in checkpoint.model.parameters()}
    return {
        "folder": str(folder),
        "family": " ".join(f"{k}={v}" if k != "name" else v for k, v in config["family"].items()),
        "parameters": shape.parameters,
        "non_embedding": shape.non_embedding,
        "layers": shape.layers,
        "width": shape.width,
        "heads": f"{shape.heads} ({shape.kv_heads} for keys and values)",
        "ffn": shape.ffn,
        "context": shape.context,
        "vocabulary": f"{shape.rows} read, {shape.predicted} predicted",
        "dtype": ", ".join(sorted(kinds)),
        "trained": f"step {about.get('step')} of {about.get('steps')} on {about.get('data')}",
        "validation": f"{validation['bits_per_byte']:.4f} bits/byte ({validation['kind']})" if validation else None,
        "written_by": f"remask {config.get('remask')}, torch {config.get('torch')}",
    }


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text())
        form = config["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RemaskError(f"{path} is damaged: {error}") from None
    if form != FORMAT:
        raise RemaskError(f"{path} has format {form}; this version reads {FORMAT}")
    return config


def _weights(path: Path, model: Transformer) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped, checked against the model by name and shape."""
    try:
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise RemaskError(f"{path} is missing or damaged: {error}") from None
    wanted = model.state_dict()
    if model.architecture.tied and "lm_head.weight" not in found:
        found["lm_head.weight"] = found.get("model.embed_tokens.weight", torch.empty(0))
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted:
            raise RemaskError(f"{path}: tensor {name} is {'missing' if name not in found else 'not of this model'}")
        if found[name].dtype not in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            raise RemaskError(f"{path}: tensor {name} is of {found[name].dtype}, expected a floating-point one")
        if found[name].shape != wanted[name].shape:
            raise RemaskError(
                f"{path}: tensor {name} is {tuple(found[name].shape)}, expected {tuple(wanted[name].shape)}"
            )
    return found
