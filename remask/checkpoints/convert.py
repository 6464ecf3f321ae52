"""Other people's weights into our folder, and ours into their layouts: `remask convert SRC DST`.

Tensors are copied one at a time, so that memory holds the largest of them and not the model. The destination appears
whole or not at all.
"""

import json
import os
import shutil
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.folder import (
    CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    LazyCheckpoint,
    config_of,
    find,
    write_rest,
    write_safetensors,
)
from remask.checkpoints.format import Format, formats, written_formats
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.replacing import replacing
from remask.checkpoints.source import Tensors
from remask.errors import RemaskError, unknown
from remask.terminal import progress

REPLACEABLE = {CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, "README.md"}
"""Files of a folder that `--force` may replace."""
OVERHEAD = 2**20
"""Bytes allowed for what a folder holds beside its weights."""


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
        destination: Folder to write. One that exists is kept, unless `force`.
        form: Form of the source; recognised when not given.
        to: llama or llada; our own folder when not given.
        tokenizer: A tokenizer.json, where there is none beside the weights.
        overrides: What the tensors cannot show.
        force: Replace the checkpoint that stands at the destination.
        show: Show progress on standard error.

    Raises:
        RemaskError: For a source that cannot be opened, a model that the layout cannot hold, and a destination that
            has to be kept; nothing has changed then.
    """
    folder = Path(os.path.abspath(destination))
    if to is not None and to not in written_formats():
        raise unknown("format to write", to, written_formats())
    guard = partial(refuse_to_overwrite, folder, force)
    guard()
    for place in filter(None, (Path(source), find(source))):
        if place.exists() and folder in (place.resolve(), *place.resolve().parents):
            raise RemaskError(f"{folder} holds the source itself; choose another name")
    lazy = open_checkpoint(source, form, tokenizer, overrides)
    layout = formats()[to] if to else None
    if layout is None:
        config = config_of(lazy.architecture, lazy.family, lazy.tokenizer, lazy.about)
        tensors = lazy.tensors
    else:
        config, tensors = layout.config(lazy.architecture, lazy.family), their_tensors(layout, lazy)
    total = sum(map(tensors.bytes, tensors))
    refuse_full_disk(folder, total + OVERHEAD)
    bar = progress("converting", total, "B") if show else nullcontext(lambda n: None)
    with replacing(folder, guard) as fresh, bar as tick:
        write_safetensors(fresh / WEIGHTS, tensors, tick)
        write_rest(fresh, config, lazy.tokenizer, card(lazy, str(source), to), config.get("vocab_size"))
        if layout is not None and lazy.tokenizer is not None:
            (fresh / TOKENIZER_CONFIG).write_text(json.dumps(tokenizer_config(lazy), indent=2) + "\n")
    return folder


def refuse_full_disk(folder: Path, size: int) -> None:
    """RemaskError where the disk has no room for a folder of so many bytes."""
    there = next(place for place in folder.parents if place.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise RemaskError(f"{folder} needs {size / 2**30:.2f} GiB, and there are {free / 2**30:.2f} GiB free")


def refuse_to_overwrite(folder: Path, force: bool) -> None:
    """RemaskError where the destination has to be kept."""
    if folder.is_symlink():
        raise RemaskError(f"{folder} is a link; name the folder itself")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise RemaskError(f"{folder} is a file; a checkpoint is a folder")
    if not force:
        raise RemaskError(f"{folder} exists and is kept; choose another name, or --force to replace it")
    others = sorted({path.name for path in folder.iterdir()} - REPLACEABLE)
    if others:
        raise RemaskError(f"{folder} holds more than a checkpoint ({others[0]}), so even with --force it is kept")


def their_tensors(layout: Format, lazy: LazyCheckpoint) -> Tensors:
    """Our tensors under the names of another layout, each made when it is asked for."""
    a, groups = lazy.architecture, layout.groups(lazy.architecture)
    shapes = layout.layout(a)
    return Tensors(
        {
            name: (lambda n=name, g=group: layout.to_theirs([lazy.tensors[k] for k in g], n, a))
            for name, group in groups.items()
        },
        {name: (lazy.tensors.dtype(group[0]), shapes[name]) for name, group in groups.items()},
    )


def tokenizer_config(lazy: LazyCheckpoint) -> dict[str, Any]:
    """The tokenizer_config.json that `transformers` wants beside tokenizer.json."""
    vocabulary, text = lazy.family.vocabulary, lazy.tokenizer
    assert text is not None
    named = {"bos_token": vocabulary.start, "eos_token": vocabulary.end, "mask_token": vocabulary.mask}
    tokens = {k: text.name(i) for k, i in named.items() if i is not None and text.name(i) is not None}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": lazy.architecture.context, **tokens}


def card(lazy: LazyCheckpoint, source: str, to: str | None) -> str:
    """The README of a converted folder."""
    a = lazy.architecture
    return (
        f"# {type(lazy.family).__name__} model, {a.parameters:,} parameters\n\n"
        f"Converted by remask from `{Path(source).name}`" + (f" to the {to} layout" if to else "") + ".\n\n"
        f"{a.layers} layers of width {a.width}, {a.heads} heads, {a.rows} ids, context {a.context}.\n"
    )
