"""How layouts read a source: shapes of tensors that must be there, and settings from options or config.json.

A setting that tensors cannot show comes from an option (`Overrides`) where it is given, else from config.json under
one of the names that programs use for it, else from a default.
"""

from typing import Any

from remask.checkpoints.source import Source
from remask.errors import RemaskError, unknown
from remask.families import Family, families
from remask.model.sizes import SIZES
from remask.vocabulary import Vocabulary


def number_of_layers(source: Source, pattern: str, key: str) -> int:
    """The number of layers that config.json says under `key`, else of those that are there.

    `pattern`, with {} for the number, is a tensor of each. Where config.json says another number than there are,
    `Format.differences` names the layers that are missing or too many.
    """
    present = 0
    while pattern.format(present) in source.tensors:
        present += 1
    configured = integer(source, None, key, default=present)
    return configured if configured >= 1 else present


def shape(source: Source, name: str, dimensions: int = 2) -> tuple[int, ...]:
    """Shape of a tensor. RemaskError where it is missing, empty, or has another number of dimensions."""
    if name not in source.tensors:
        raise RemaskError(f"{source.name}: tensor {name} is missing")
    size = source.tensors.shape(name)
    if len(size) != dimensions:
        raise RemaskError(f"{source.name}: tensor {name} is {size}, expected {dimensions} dimensions")
    if 0 in size:
        raise RemaskError(f"{source.name}: tensor {name} is {size}, and so empty")
    return size


def number(source: Source, given: float | None, *keys: str, default: float) -> float:
    """A number: the option, config.json under one of `keys`, or the default."""
    if given is not None:
        return given
    for key in keys:
        value = source.config.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not abs(value) < 2**53:
                raise RemaskError(f"{source.name}: config.json says {key}: {value}")
            return value
    return default


def integer(source: Source, given: int | None, *keys: str, default: int) -> int:
    """A whole number, as `number`."""
    return int(number(source, given, *keys, default=default))


def optional_id(source: Source, given: int | None, *keys: str, default: int | None = None) -> int | None:
    """A whole number that may be unknown, as `number`; some configurations write -1 for that."""
    value = integer(source, given, *keys, default=-1 if default is None else default)
    return default if value == -1 and given is None else value


def attention_heads(source: Source, given: int | None, *keys: str, layers: int, width: int, ffn: int) -> int:
    """Attention heads: the option, config.json, or what all named sizes with these shapes agree on."""
    heads = optional_id(source, given, *keys)
    if heads is None:
        fitting = {a.heads for a in SIZES.values() if (a.layers, a.width, a.ffn) == (layers, width, ffn)}
        if len(fitting) != 1:
            raise RemaskError(
                f"{source.name}: tensors do not tell the number of heads, there is no config.json that does, and no "
                f"named size has {layers} layers of width {width} and {ffn}. Give --heads"
            )
        (heads,) = fitting
    if heads < 1 or (width % heads and "head_dim" not in source.config):
        raise RemaskError(f"{source.name}: {heads} heads do not divide the width {width}")
    return heads


def tied_head(source: Source, head: str, key: str) -> bool:
    """Whether the head is the embedding matrix: as config.json says under `key`, else where the file has no head.

    A file without the head that config.json calls a matrix of its own is not tied: its head is missing.
    """
    configured = source.config.get(key)
    return configured if isinstance(configured, bool) else head not in source.tensors


def vocabulary_size(source: Source, rows: int) -> int:
    """Ids of the vocabulary that config.json says, else the embedding's `rows`.

    Further rows pad it and belong to no token; where there are fewer, `Format.differences` says so.
    """
    size = integer(source, None, "vocab_size", default=rows)
    return size if size >= 1 else rows


def bound_family(source: Source, name: str, vocabulary: Vocabulary, **options: Any) -> Family:
    """The family of that name over a vocabulary. RemaskError, naming the source, where they do not fit."""
    known = families()
    if name not in known:
        raise RemaskError(f"{source.name}: {unknown('family', name, known)}")
    try:
        family = known[name](**options)
    except RemaskError as error:
        raise RemaskError(f"{source.name}: {error}") from None
    if family.reads_masks and vocabulary.mask is None:
        raise RemaskError(f"{source.name} has no row for a mask, so it is no {name} model")
    try:
        return family.over(vocabulary)
    except RemaskError as error:
        raise RemaskError(f"{source.name}: {error}") from None
