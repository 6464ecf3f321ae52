"""A model ready for use, from a run directory, a published folder, or other people's weights.

    m = remask.load("runs/x")                                  # ours
    m = remask.load("GSAI-ML/LLaDA-8B-Instruct")               # from the Hub, or a local file or folder
    m = remask.load("mdm-1028M-1600e18.safetensors", tokenizer="tokenizer.json")

The files are mapped into memory, not copied, and no code of theirs is run.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.batch import Batch
from remask.checkpoints.base import Format, Overrides, Parsed, recognised
from remask.checkpoints.folder import LazyCheckpoint, find, open_own
from remask.checkpoints.hub import HUB, fetched
from remask.checkpoints.source import Source, Tensors, open_source
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.model.networks import network, shapes

NEAR = 0.95
"""Least share of a model's ids that its tokenizer may have; the rest is padding of the matrices."""


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    model: Any
    """The network, a `Denoiser`; its `.architecture` says its shape."""
    family: Family
    text: Tokenizer | None
    about: dict[str, Any]
    """What config.json says beside: versions, data, budget, scores, or where it was converted from."""

    @property
    def tokenizer(self) -> Tokenizer:
        """RemaskError where the checkpoint came without one."""
        if self.text is None:
            raise RemaskError("this checkpoint came without a tokenizer. Give --tokenizer tokenizer.json, or ids")
        return self.text

    @torch.inference_mode()
    def logits(self, ids: Tensor) -> Tensor:
        """(B, L) int64 -> (B, L, V) float32. An autoregressive model predicts, at i, token i of the row.

        An interpolating one reads the masks among the ids behind the other tokens, as it learnt to.
        """
        rows = torch.as_tensor(ids, device=self.model.device)
        batch = Batch(rows, torch.ones_like(rows, dtype=torch.bool))
        hidden = torch.zeros_like(batch.scored)
        if self.family.reads_masks and not self.family.any_order:
            hidden = rows == self.family.vocabulary.mask
        seen = self.family.inputs_for(batch, hidden, torch.ones(len(rows), device=rows.device))
        logits = self.model(seen.tokens, **seen.reading())[:, : rows.shape[1]]
        if seen.positions is None:
            return logits
        place = seen.positions[:, : rows.shape[1], None].expand_as(logits)
        return torch.empty_like(logits).scatter(1, place, logits)


def load(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    form: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Overrides = Overrides(),  # noqa: B008
) -> Checkpoint:
    """Opens a checkpoint for use.

    Args:
        source: A run directory, a published folder; or a file, folder or Hub name in SMDM's, LLaDA's, the DiT's or
            Llama's form.
        device: Where it goes.
        dtype: Casts the weights; None leaves them as stored.
        form: smdm, llada, dit or llama; recognised from the tensors when not given.
        tokenizer: A tokenizer.json, where there is none beside the weights.
        overrides: What the tensors cannot tell.

    Raises:
        RemaskError: For what is missing, damaged or does not fit together, naming it.
    """
    try:
        place = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise RemaskError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from None
    found = open_checkpoint(source, form, tokenizer, overrides)
    if found.family.timed and not found.architecture.time:
        kind = type(found.family).__name__
        raise RemaskError(f"{source} is not conditioned on time, which {kind} models have to be; name another --family")
    with torch.device("meta"):
        model = network(found.architecture)
    dtype = dtype or common(found.tensors)
    weights = {name: found.tensors[name].to(place, dtype) for name in found.tensors}  # one cast at a time
    if found.architecture.tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    model.load_state_dict(weights, assign=True)
    if found.architecture.tied:
        model.lm_head.weight = model.model.embed_tokens.weight
    model = model.eval().requires_grad_(False)
    return Checkpoint(model, found.family, found.tokenizer, found.about)


def common(tensors: Tensors) -> torch.dtype:
    """The dtype in which most of the weights are stored: a network computes in one."""
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
    folder = find(source) if form is None else None
    if folder is None:
        return open_foreign(open_source(source), form, tokenizer, overrides)
    if given := [k for k, v in asdict(overrides).items() if v is not None]:
        raise RemaskError(f"{folder} says all about itself; {given[0]} is for other people's weights")
    found = open_own(folder)
    if tokenizer is None:
        return found
    return replace(found, tokenizer=fitting(Path(tokenizer), found.family.vocabulary.size, found.family))


def open_foreign(
    source: Source, form: str | None, tokenizer: str | Path | None, overrides: Overrides
) -> LazyCheckpoint:
    """Other people's weights under our names."""
    known, source, reading, text = understood(source, form, tokenizer, overrides)
    known.check(source, reading.architecture)
    about = {"source": source.name, "form": known.name, "averaged": source.averaged}
    tensors = ours(known, source.tensors, reading.architecture)
    return LazyCheckpoint(reading.architecture, reading.family, text, tensors, about)


def understood(
    source: Source, form: str | None, tokenizer: str | Path | None, overrides: Overrides
) -> tuple[Format, Source, Parsed, Tokenizer | None]:
    """What a source is, before it is known whether all its tensors are there."""
    known = recognised(source, form, overrides)
    source = known.prefixed(source)
    path = tokenizer_of(source, known, tokenizer)
    plain = None if path is None else Tokenizer.load(path)
    if plain is not None:
        source = replace(source, tokens=plain.vocabulary.predicted)
    reading = known.read(source, overrides)
    a, family = reading.architecture, reading.family
    if overrides.kv_heads not in (None, a.kv_heads):
        raise RemaskError(f"{source.name}: with {a.heads} heads there are {a.kv_heads} for keys and values")
    if path is None or plain is None:
        return known, source, reading, None
    if family.vocabulary.start is None and not isinstance(family, Autoregressive):
        try:  # a prompt begins as the published tokenizer has it
            family = family.over(replace(family.vocabulary, start=plain.bos[0] if plain.bos else None))
        except RemaskError as error:
            raise RemaskError(f"{path}: {error}") from None
    return known, source, Parsed(a, family), fitting(path, a.rows, family)


def ours(form: Format, theirs: Tensors, a: Any) -> Tensors:
    """Their tensors under our names, each made when it is asked for, in the order of their files."""
    wanted = shapes(a)
    order = {name: i for i, name in enumerate(theirs)}
    names = sorted(form.names(a).items(), key=lambda pair: order[pair[1]])
    return Tensors(
        {new: (lambda new=new, old=old: form.take(theirs[old], new, a)) for new, old in names},
        {new: (theirs.dtype(old), wanted[new]) for new, old in names},
    )


def tokenizer_of(source: Source, form: Format, given: str | Path | None) -> Path | None:
    """The tokenizer.json of a source: given, beside the weights, or for a Hub name what its authors used."""
    if given is not None:
        return Path(given)
    if source.tokenizer is not None:
        return source.tokenizer
    if Path(source.name).exists() or not HUB.fullmatch(source.name):
        return None
    hub = form.tokenizer(source)
    return None if hub is None else fetched(hub, file="tokenizer.json")


def fitting(path: Path, rows: int, family: Family) -> Tokenizer:
    """The tokenizer over the model's vocabulary; RemaskError when they do not belong together."""
    text = Tokenizer.load(path, family.vocabulary)
    if not NEAR * rows <= text.size <= rows:
        raise RemaskError(f"{path} has {text.size} ids and the model {rows}: they do not belong together")
    return text


def contents(
    source: str | Path,
    form: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Overrides = Overrides(),  # noqa: B008
) -> dict[str, Any]:
    """What a checkpoint of any form holds, for people, and what is wrong with it. No weight is read."""
    folder = find(source) if form is None else None
    if folder is not None:
        found = open_checkpoint(source, form, tokenizer, overrides)
        about = found.about
        validation = about.get("validation")
        steps = f"step {about.get('step')} of {about.get('steps')} on {about.get('data')}"
        more = {
            "trained": steps if "steps" in about else None,
            "converted": f"from {about.get('source')} ({about.get('form')})" if "form" in about else None,
            "validation": measured(validation) if isinstance(validation, dict) else None,
        }
        return _about(str(folder), "remask", found.architecture, found.family, found.tensors, found.tokenizer, more)
    known, opened, reading, text = understood(open_source(source), form, tokenizer, overrides)
    wrong = known.differences(opened.tensors, reading.architecture)
    more = {
        "files": len(opened.files),
        "weights": "the moving average (EMA)" if opened.averaged else None,
        "problems": "; ".join(wrong[:20]) if wrong else "none: every tensor is there, with the right shape",
    }
    return _about(str(source), known.name, reading.architecture, reading.family, opened.tensors, text, more)


def measured(validation: dict[str, Any]) -> str:
    """A validation score in words."""
    value = validation.get("bits_per_byte")
    shown = f"{value:.4f}" if isinstance(value, int | float) else str(value)
    return f"{shown} bits/byte ({validation.get('kind')})"


def _about(
    name: str, form: str, a: Any, family: Family, tensors: Tensors, text: Tokenizer | None, more: dict[str, Any]
) -> dict[str, Any]:
    vocabulary = family.vocabulary
    ids = {k: v for k, v in asdict(vocabulary).items() if k != "size" and v is not None}
    options = [f"{k}={v}" for k, v in vars(family).items() if not k.startswith("_")]
    return {
        "source": name,
        "form": form,
        "family": " ".join([type(family).__name__, *options]),
        "network": type(a).__name__.removesuffix("Architecture") or "Transformer",
        "parameters": a.parameters,
        "non_embedding": a.non_embedding,
        "layers": a.layers,
        "width": a.width,
        "heads": f"{a.heads} ({a.kv_heads} for keys and values)",
        "ffn": a.ffn,
        "context": a.context,
        "rotary": f"base {a.rope_base:g}" + (", rounded to bfloat16" if a.rope_bf16 else ""),
        "vocabulary": f"{a.rows} read, {a.predicted} predicted; " + ", ".join(f"{k} {v}" for k, v in ids.items()),
        "tokenizer": f"{text.size} ids" if text else "none",
        "tensors": f"{len(tensors)}, {sum(map(tensors.bytes, tensors)) / 2**20:,.1f} MiB",
        "dtype": ", ".join(sorted({str(tensors.dtype(n)).removeprefix("torch.") for n in tensors})),
        **{k: v for k, v in more.items() if v is not None},
    }
