"""Other people's weights, and tokenizers of other people, under our names and over our vocabularies."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from remask.checkpoints.folder import LazyCheckpoint
from remask.checkpoints.format import Format, Parsed, recognise
from remask.checkpoints.hub import HUB, fetch
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.source import Source, Tensors
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.model.networks import shapes
from remask.terminal import say


def open_foreign(
    source: Source, form: str | None, tokenizer: str | Path | None, overrides: Overrides
) -> LazyCheckpoint:
    """Other people's weights under our names."""
    layout, source, parsed, text = parse_source(source, form, tokenizer, overrides)
    layout.check(source, parsed.architecture)
    about = {"source": source.name, "form": layout.name, "averaged": source.averaged}
    if text is None and source.other_tokenizer:
        about["other_tokenizer"] = source.other_tokenizer
    tensors = our_tensors(layout, source.tensors, parsed.architecture)
    return LazyCheckpoint(parsed.architecture, parsed.family, text, tensors, about)


def parse_source(
    source: Source, form: str | None, tokenizer: str | Path | None, overrides: Overrides
) -> tuple[Format, Source, Parsed, Tokenizer | None]:
    """Layout, architecture, family and tokenizer of a source, whether or not all its tensors are there.

    The source comes back with its tensors under the published names.
    """
    layout = recognise(source, form, overrides)
    source = layout.with_published_names(source)
    path = tokenizer_path(source, layout, tokenizer)
    text = None if path is None else Tokenizer.load(path)
    if text is not None:
        source = replace(source, tokens=text.vocabulary.predicted)
    try:
        parsed = layout.read(source, overrides)
    except RemaskError as error:
        raise (error if source.name in str(error) else RemaskError(f"{source.name}: {error}")) from None
    a, family = parsed.architecture, parsed.family
    if overrides.kv_heads not in (None, a.kv_heads):
        raise RemaskError(f"{source.name}: with {a.heads} heads there are {a.kv_heads} for keys and values")
    fitted = None if path is None else fitting_tokenizer(path, a.rows, family)
    if path is not None and text is not None:
        family = with_ids(family, str(path), **ids_of_tokenizer(family, text))
    if overrides.end is not None:
        family = with_ids(family, source.name, end=named_end(overrides.end, text))
    return layout, source, Parsed(a, family), fitted and fitted.over(family.vocabulary)


def ids_of_tokenizer(family: Family, text: Tokenizer) -> dict[str, int]:
    """The special ids that a tokenizer tells where the model's configuration does not.

    A prompt begins as the published tokenizer begins a text; an autoregressive row begins by itself.
    """
    ids: dict[str, int] = {}
    if family.vocabulary.end is None and text.vocabulary.end is not None:
        ids["end"] = text.vocabulary.end
    if family.vocabulary.start is None and family.order != "left" and text.bos:
        ids["start"] = text.bos[0]
    return ids


def with_ids(family: Family, source: str, **ids: int) -> Family:
    """The family over its vocabulary with other special ids. RemaskError, naming the source, for ids it has not."""
    try:
        return family.over(replace(family.vocabulary, **ids))
    except RemaskError as error:
        raise RemaskError(f"{source}: {error}") from None


def named_end(spec: str, text: Tokenizer | None) -> int:
    """The id of the end-of-text token that the option names, by name or id."""
    if text is not None:
        return text.token(spec)
    if not str(spec).isdecimal():
        raise RemaskError(f"--end {spec!r} names a token, and there is no tokenizer that knows it. Give its id")
    return int(spec)


def our_tensors(form: Format, theirs: Tensors, a: Any) -> Tensors:
    """Their tensors under our names, each made when it is asked for, in the order of their files."""
    wanted = shapes(a)
    order = {name: i for i, name in enumerate(theirs)}
    names = sorted(form.names(a).items(), key=lambda pair: order[pair[1]])
    return Tensors(
        {new: (lambda new=new, old=old: form.to_ours(theirs[old], new, a)) for new, old in names},
        {new: (theirs.dtype(old), wanted[new]) for new, old in names},
    )


def tokenizer_path(source: Source, form: Format, given: str | Path | None) -> Path | None:
    """The tokenizer.json of a source: given, beside the weights, or for a Hub name the one its authors used."""
    if given is not None:
        return Path(given)
    if source.tokenizer is not None:
        return source.tokenizer
    if Path(source.name).exists() or not HUB.fullmatch(source.name):
        return None
    hub = form.tokenizer(source)
    return None if hub is None else fetch(hub, file="tokenizer.json")


def fitting_tokenizer(path: Path, rows: int, family: Family) -> Tokenizer:
    """The tokenizer over the model's vocabulary, which may be padded beyond its ids by any number of rows."""
    text = Tokenizer.load(path, family.vocabulary)
    if text.size > rows:
        raise RemaskError(f"{path} has {text.size} ids and the model {rows}: they do not belong together")
    if text.size < LEAST_SHARE * rows:
        say(f"{path} has {text.size} ids and the model {rows}; the others are taken for padding of its matrices")
    return text


LEAST_SHARE = 0.95
"""A tokenizer with fewer of the model's ids may be another model's, and is mentioned."""
