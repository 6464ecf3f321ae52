"""Other people's weights into our folder, and ours into theirs: `remask convert SRC DST`.

One tensor is copied at a time; pages of mapped files come and go. The destination appears whole or not at all.
"""

import json
import os
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from remask.checkpoints.base import Format, formats, written_formats
from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    LazyCheckpoint,
    config_of,
    find,
    write_rest,
    write_safetensors,
)
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.replacing import replacing
from remask.checkpoints.source import Tensors
from remask.errors import RemaskError, unknown
from remask.terminal import progress

OURS = {CONFIG, WEIGHTS, TOKENIZER, "tokenizer_config.json", "README.md"}
"""Files of a folder that `--force` may replace."""
SPARE = 2**20
"""Bytes that a folder holds beside its weights and tokenizer."""


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    form: str | None = None,
    to: str | None = None,
    tokenizer: str | Path | None = None,
    overrides: Overrides = Overrides(),  # noqa: B008
    force: bool = False,
    show: bool = False,
) -> Path:
    """Converts a checkpoint.

    Args:
        source: A run directory, a published folder; or a file, folder or Hub name in another form.
        destination: Folder to write; kept if it is there, unless `force`.
        form: Form of the source; recognised when not given.
        to: llama or llada; our own folder when not given.
        tokenizer: A tokenizer.json, where there is none beside the weights.
        overrides: What the tensors cannot tell.
        force: Replace what stands at the destination.
        show: Show progress on standard error.
    """
    folder = Path(os.path.abspath(destination))
    if to is not None and to not in written_formats():
        raise unknown("format to write", to, written_formats())
    guard = partial(permit, folder, force)
    guard()
    for place in filter(None, (Path(source), find(source))):
        if place.exists() and folder in (place.resolve(), *place.resolve().parents):
            raise RemaskError(f"{folder} holds the source itself; choose another name")
    found = open_checkpoint(source, form, tokenizer, overrides)
    layout = formats()[to] if to else None
    if layout is None:
        config = config_of(found.architecture, found.family, found.tokenizer, found.about)
        tensors = found.tensors
    else:
        config, tensors = layout.config(found.architecture, found.family), theirs(layout, found)
    total = sum(map(tensors.bytes, tensors))
    there = next(place for place in folder.parents if place.exists())
    free = shutil.disk_usage(there).free
    if free < total + SPARE:
        raise RemaskError(f"{folder} needs {total / 2**30:.2f} GiB, and there are {free / 2**30:.2f} GiB free")
    bar = progress("converting", total, "B") if show else nullcontext(lambda n: None)
    with replacing(folder, guard) as fresh, bar as tick:
        write_safetensors(fresh / "model.safetensors", tensors, tick)
        write_rest(fresh, config, found.tokenizer, card(found, str(source), to), config.get("vocab_size"))
        if layout is not None and found.tokenizer is not None:
            (fresh / "tokenizer_config.json").write_text(json.dumps(tokenizer_config(found), indent=2) + "\n")
    return folder


def permit(folder: Path, force: bool) -> None:
    """RemaskError where the destination has to be kept."""
    if folder.is_symlink():
        raise RemaskError(f"{folder} is a link; name the folder itself")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RemaskError(f"{folder} is a file; a checkpoint is a folder")
    if not force:
        raise RemaskError(f"{folder} exists and is kept; choose another name, or --force to replace it")
    others = sorted({path.name for path in folder.iterdir()} - OURS)
    if others:
        raise RemaskError(f"{folder} holds more than a checkpoint ({others[0]}), so even with --force it is kept")


def theirs(layout: Format, found: LazyCheckpoint) -> Tensors:
    """Our tensors under the names of another layout, each made when it is asked for."""
    a, groups = found.architecture, layout.groups(found.architecture)
    shapes = layout.layout(a)
    return Tensors(
        {
            name: (lambda n=name, g=group: layout.give([found.tensors[k] for k in g], n, a))
            for name, group in groups.items()
        },
        {name: (found.tensors.dtype(group[0]), shapes[name]) for name, group in groups.items()},
    )


def tokenizer_config(found: LazyCheckpoint) -> dict[str, Any]:
    """What `transformers` wants beside tokenizer.json."""
    vocabulary, text = found.family.vocabulary, found.tokenizer
    assert text is not None
    named = {"bos_token": vocabulary.start, "eos_token": vocabulary.end, "mask_token": vocabulary.mask}
    tokens = {k: text.name(i) for k, i in named.items() if i is not None and text.name(i) is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": found.architecture.context, **tokens}


def card(found: LazyCheckpoint, source: str, to: str | None) -> str:
    """The README of a converted folder."""
    a = found.architecture
    return (
        f"# {type(found.family).__name__} model, {a.parameters:,} parameters\n\n"
        f"Converted by remask from `{Path(source).name}`" + (f" to the {to} layout" if to else "") + ".\n\n"
        f"{a.layers} layers of width {a.width}, {a.heads} heads, {a.rows} ids, context {a.context}.\n"
    )
