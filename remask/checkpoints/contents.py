"""What a checkpoint of any form holds, and what is wrong with it: the table that `remask info` prints."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from remask.checkpoints.adapters import is_adapter
from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import find
from remask.checkpoints.foreign import parse_source
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.source import Tensors, open_source
from remask.data.tokenizer import Tokenizer
from remask.families import Family


def contents(
    source: str | Path,
    form: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Overrides = Overrides(),  # noqa: B008
) -> dict[str, Any]:
    """Each property of a checkpoint by its name, for people to read. No weight is read.

    Missing and misshapen tensors are listed under "problems" and raise nothing.
    """
    if form is None and is_adapter(source):
        lazy = open_checkpoint(source, form, tokenizer, overrides)
        kind = f"low-rank adapters (peft) of {lazy.about['base']}"
        return table(str(source), kind, lazy.architecture, lazy.family, lazy.tensors, lazy.tokenizer, {})
    folder = find(source) if form is None else None
    if folder is not None:
        lazy = open_checkpoint(source, form, tokenizer, overrides)
        more = history(lazy.about)
        return table(str(folder), "remask", lazy.architecture, lazy.family, lazy.tensors, lazy.tokenizer, more)
    layout, opened, parsed, text = parse_source(open_source(source), form, tokenizer, overrides)
    problems = layout.differences(opened.tensors, parsed.architecture)
    more = {
        "files": len(opened.files),
        "weights": "the moving average (EMA)" if opened.averaged else None,
        "problems": "; ".join(problems[:20]) if problems else "none: every tensor is there, with the right shape",
    }
    rows = table(str(source), layout.name, parsed.architecture, parsed.family, opened.tensors, text, more)
    if text is None and opened.other_tokenizer:
        rows["tokenizer"] = f"none that can be read: {opened.other_tokenizer}"
    return rows


def history(about: dict[str, Any]) -> dict[str, Any]:
    """How a checkpoint of our own came about."""
    validation = about.get("validation")
    steps = f"step {about.get('step')} of {about.get('steps')} on {about.get('data')}"
    return {
        "trained": steps if "steps" in about else None,
        "converted": f"from {about.get('source')} ({about.get('form')})" if "form" in about else None,
        "validation": validation_score(validation) if isinstance(validation, dict) else None,
    }


def validation_score(validation: dict[str, Any]) -> str:
    """A validation score in words."""
    value = validation.get("bits_per_byte")
    shown = f"{value:.4f}" if isinstance(value, int | float) else str(value)
    return f"{shown} bits/byte ({validation.get('kind')})"


def table(
    name: str, form: str, a: Any, family: Family, tensors: Tensors, text: Tokenizer | None, more: dict[str, Any]
) -> dict[str, Any]:
    """The properties that every checkpoint has, and those in `more` that are not None."""
    vocabulary = family.vocabulary
    ids = {k: v for k, v in asdict(vocabulary).items() if k not in ("size", "end") and v is not None}
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
        "vocabulary": ", ".join([f"{a.rows} read", f"{a.predicted} predicted", *(f"{k} {v}" for k, v in ids.items())]),
        "end of text": end_of_text(vocabulary.end, text),
        "tokenizer": f"{text.size} ids" if text else "none",
        "tensors": f"{len(tensors)}, {sum(map(tensors.bytes, tensors)) / 2**20:,.1f} MiB",
        "dtype": ", ".join(sorted({str(tensors.dtype(n)).removeprefix("torch.") for n in tensors})),
        **{k: v for k, v in more.items() if v is not None},
    }


def end_of_text(end: int | None, text: Tokenizer | None) -> str:
    """The end-of-text token by id and name, or that there is none and what to do."""
    if end is None:
        return "none is known, so no text ends by itself; name one with --end"
    name = text.name(end) if text else None
    return f"{end} ({name})" if name else str(end)
