"""What a foreign checkpoint format is: which tensor is which, and what its configuration says.

A new format is one new file in this folder with a subclass of `Format`: `remask.load`, `remask info` and
`--from` find it by its `name`. The table of tensor names is the whole converter, in both directions; a format
that fuses or splits tensors overrides `take` and `give`.
"""

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

import remask.checkpoints
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.source import Source, Tensors
from remask.errors import RemaskError, unknown
from remask.families import Family, families
from remask.model.networks import shapes
from remask.model.sizes import SIZES, Architecture
from remask.vocabulary import Vocabulary


@dataclass(frozen=True)
class Parsed:
    """What a format makes of a source."""

    architecture: Architecture
    family: Family
    """Bound to its vocabulary."""


class Format(ABC):
    """A published layout of weights."""

    name: ClassVar[str]
    """What `--from` and `--to` call it."""
    mark: ClassVar[str]
    """A tensor that only this layout has."""
    wrapper: ClassVar[str] = ""
    """What the names begin with, and some copies leave out."""
    writes: ClassVar[bool] = False
    """Whether `--to` can write it for other programs; then it has a `config`."""
    overrides: ClassVar[frozenset[str]] = frozenset()
    """The overrides it takes beside heads, rope_theta, norm_eps, context, family and the special ids."""

    def fits(self, tensors: Tensors) -> bool:
        """Whether these are names of this layout."""
        return self.mark in tensors or self.mark.removeprefix(self.wrapper) in tensors

    def prefixed(self, source: Source) -> Source:
        """The source with the wrapper's name before every tensor's."""
        if self.mark in source.tensors:
            return source
        return replace(source, tensors=source.tensors.renamed(lambda name: self.wrapper + name))

    @abstractmethod
    def read(self, source: Source, overrides: Overrides) -> Parsed:
        """Shape, family and vocabulary, from tensor shapes, configuration and overrides."""

    @abstractmethod
    def names(self, a: Architecture) -> dict[str, str]:
        """Where each of our tensors is in theirs. Several of ours may be in one."""

    def take(self, theirs: Tensor, ours: str, a: Architecture) -> Tensor:
        """One of our tensors from theirs."""
        return theirs

    def give(self, ours: Sequence[Tensor], theirs: str, a: Architecture) -> Tensor:
        """One of theirs from ours, those that `names` puts there, in that order."""
        (only,) = ours
        return only

    def config(self, a: Architecture, family: Family) -> dict[str, Any]:
        """Their config.json. RemaskError, with the reason, where the layout cannot hold this model."""
        raise NotImplementedError(f"{self.name} is not written")

    def layout(self, a: Architecture) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in this layout."""
        ours = {name: torch.empty(shape, device="meta") for name, shape in shapes(a).items()}
        return {
            theirs: tuple(self.give([ours[name] for name in group], theirs, a).shape)
            for theirs, group in self.groups(a).items()
        }

    def groups(self, a: Architecture) -> dict[str, list[str]]:
        """Each of their tensors, with those of ours that are in it."""
        found: dict[str, list[str]] = {}
        for ours, theirs in self.names(a).items():
            found.setdefault(theirs, []).append(ours)
        return found

    def tokenizer(self, source: Source) -> str | None:
        """Hub name of the tokenizer that the authors used, where they publish weights without one."""
        return None

    def optional(self, a: Architecture) -> set[str]:
        """Tensors that may be there and are not read: the second copy of a tied head."""
        return set()

    def padded(self, a: Architecture) -> set[str]:
        """Tensors of which only the first rows are read."""
        return set()

    def differences(self, tensors: Tensors, a: Architecture) -> list[str]:
        """What is missing, not expected, or of another shape; one sentence each."""
        wanted, found = self.layout(a), []
        for name in sorted(wanted.keys() | set(tensors)):
            if name not in tensors:
                found.append(f"tensor {name} is missing; expected {wanted[name]}")
            elif name not in wanted:
                if name not in self.optional(a):
                    found.append(f"tensor {name} {tensors.shape(name)} is not of this model")
            elif name in self.padded(a) and tensors.shape(name)[1:] == wanted[name][1:]:
                if tensors.shape(name)[:1] < wanted[name][:1]:
                    found.append(f"tensor {name} is {tensors.shape(name)}, expected at least {wanted[name]}")
            elif tensors.shape(name) != wanted[name]:
                found.append(f"tensor {name} is {tensors.shape(name)}, expected {wanted[name]}")
        return found

    def check(self, source: Source, a: Architecture) -> None:
        """RemaskError naming what does not fit, the first of it."""
        found = self.differences(source.tensors, a)
        if found:
            more = f" (and {len(found) - 1} more such)" if len(found) > 1 else ""
            raise RemaskError(f"{source.name}, read as {self.name}: {found[0]}{more}")


def formats() -> dict[str, Format]:
    """Every format by name: importing the files of this folder defines them."""
    for module in pkgutil.iter_modules(remask.checkpoints.__path__):
        importlib.import_module(f"remask.checkpoints.{module.name}")
    return {kind.name: kind() for kind in Format.__subclasses__()}


def written_formats() -> list[str]:
    """Names of the formats that can be written."""
    return [name for name, form in formats().items() if form.writes]


COMMON = frozenset(
    {"heads", "kv_heads", "rope_theta", "norm_eps", "context", "family", "mask_id", "start_id", "end_id"}
)
"""Overrides that every format takes."""


def recognised(source: Source, wanted: str | None, overrides: Overrides) -> Format:
    """The format of a source, from its tensors; `wanted` overrules, if it fits. Refuses overrides it has no use for."""
    form = _recognised(source, wanted)
    useless = [k for k, v in vars(overrides).items() if v is not None and k not in COMMON | form.overrides]
    if useless:
        raise RemaskError(f"{useless[0]} tells nothing about weights in {form.name} form")
    return form


def _recognised(source: Source, wanted: str | None) -> Format:
    known = formats()
    if wanted is not None and wanted not in known:
        raise unknown("format", wanted, known)
    fitting = [form for form in known.values() if form.fits(source.tensors)]
    if wanted is None and len(fitting) == 1:
        return fitting[0]
    if wanted is not None:
        if known[wanted] in fitting:
            return known[wanted]
        looks = f"; it looks like {fitting[0].name}" if fitting else ""
        raise RemaskError(f"{source.name} is not in {wanted} form: it has no tensor {known[wanted].mark}{looks}")
    names = ", ".join(list(source.tensors)[:4])
    raise RemaskError(
        f"{source.name} is in no form that remask knows ({', '.join(known)}): its tensors are {names}, ... "
        "Name one with --from if it is one of them"
    )


# What the formats share


def count(tensors: Tensors, pattern: str) -> int:
    """How many layers there are: `pattern` with {} for the number is a tensor of each."""
    n = 0
    while pattern.format(n) in tensors:
        n += 1
    return n


def shape(source: Source, name: str, dimensions: int = 2) -> tuple[int, ...]:
    """Shape of a tensor that has to be there."""
    if name not in source.tensors:
        raise RemaskError(f"{source.name}: tensor {name} is missing")
    found = source.tensors.shape(name)
    if len(found) != dimensions:
        raise RemaskError(f"{source.name}: tensor {name} is {found}, expected {dimensions} dimensions")
    if 0 in found:
        raise RemaskError(f"{source.name}: tensor {name} is {found}, and so empty")
    return found


def number(source: Source, hint: float | None, *keys: str, default: float) -> float:
    """A number that tensors cannot tell: from an option, config.json under one of `keys`, or the default."""
    if hint is not None:
        return hint
    for key in keys:
        value = source.config.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not abs(value) < 2**53:
                raise RemaskError(f"{source.name}: config.json says {key}: {value}")
            return value
    return default


def integer(source: Source, hint: int | None, *keys: str, default: int) -> int:
    """`number`, as a whole one."""
    return int(number(source, hint, *keys, default=default))


def optional_id(source: Source, hint: int | None, *keys: str, default: int | None = None) -> int | None:
    """`integer`, or None where nothing tells it."""
    found = integer(source, hint, *keys, default=-1 if default is None else default)
    return default if found == -1 and hint is None else found


def heads_of(
    source: Source,
    hint: int | None,
    *keys: str,
    layers: int,
    width: int,
    ffn: int,
) -> int:
    """Attention heads: given, configured, or those of the named sizes with these shapes, if they agree."""
    given = optional_id(source, hint, *keys)
    if given is None:
        fitting = {a.heads for a in SIZES.values() if (a.layers, a.width, a.ffn) == (layers, width, ffn)}
        if len(fitting) != 1:
            raise RemaskError(
                f"{source.name}: tensors do not tell the number of heads, there is no config.json that does, and no "
                f"named size has {layers} layers of width {width} and {ffn}. Give --heads"
            )
        (given,) = fitting
    if given < 1 or (width % given and "head_dim" not in source.config):
        raise RemaskError(f"{source.name}: {given} heads do not divide the width {width}")
    return given


def family_over(source: Source, name: str, vocabulary: Vocabulary, **options: Any) -> Family:
    """The family of that name over a vocabulary."""
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
