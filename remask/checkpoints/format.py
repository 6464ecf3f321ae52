"""What a published layout of weights is: which tensor is which, and what its configuration says.

A new layout is one new file in this folder with a subclass of `Format`; `remask.load`, `remask info` and `--from` find
it by its `name`. `read` makes an architecture and a family of a source, and `names` maps our tensors to theirs. That
map serves both directions; a layout that fuses or splits tensors also overrides `to_ours` and `to_theirs`.
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
from remask.families import Family
from remask.model.networks import shapes
from remask.model.sizes import Architecture


@dataclass(frozen=True)
class Parsed:
    """What a source says about the model it holds."""

    architecture: Architecture
    family: Family
    """Bound to its vocabulary."""


class Format(ABC):
    """A published layout of weights."""

    name: ClassVar[str]
    """What `--from` and `--to` call it."""
    mark: ClassVar[str]
    """A tensor that only this layout has, without the prefixes of wrappers (`source.bare_name`)."""
    prefix: ClassVar[str] = ""
    """What the published names begin with."""
    unprefixed: ClassVar[frozenset[str]] = frozenset()
    """Published names that do not begin with the prefix."""
    writes: ClassVar[bool] = False
    """Whether `--to` can write it for other programs; then it has a `config`."""
    overrides: ClassVar[frozenset[str]] = frozenset()
    """Overrides that this layout accepts beside those of every layout (`COMMON`)."""

    def fits(self, source: Source) -> bool:
        """Whether a source whose tensors have their bare names is in this layout."""
        return self.mark in source.tensors

    def with_published_names(self, source: Source) -> Source:
        """The source with its bare names as this layout publishes them."""

        def rename(name: str) -> str:
            return name if name in self.unprefixed else self.prefix + name

        return replace(source, tensors=source.tensors.renamed(rename))

    @abstractmethod
    def read(self, source: Source, overrides: Overrides) -> Parsed:
        """Shape, family and vocabulary, from tensor shapes, configuration and overrides."""

    @abstractmethod
    def names(self, a: Architecture) -> dict[str, str]:
        """Our name of each tensor -> theirs. Several of ours may be parts of one of theirs."""

    def to_ours(self, theirs: Tensor, ours: str, a: Architecture) -> Tensor:
        """The tensor that we call `ours`, from the one of theirs that `names` gives for it."""
        return theirs

    def to_theirs(self, ours: Sequence[Tensor], theirs: str, a: Architecture) -> Tensor:
        """The tensor that they call `theirs`, from those of ours that `names` puts into it, in that order."""
        (only,) = ours
        return only

    def config(self, a: Architecture, family: Family) -> dict[str, Any]:
        """Their config.json. RemaskError, with the reason, where the layout cannot hold this model."""
        raise NotImplementedError(f"{self.name} is not written")

    def tokenizer(self, source: Source) -> str | None:
        """Hub name of the authors' tokenizer, where they publish weights without one."""
        return None

    def optional(self, a: Architecture) -> set[str]:
        """Tensors that may be in the file and are not read, such as the second copy of a tied head."""
        return set()

    def padded(self, a: Architecture) -> set[str]:
        """Tensors of which only the first rows are read, because the rest pads the vocabulary."""
        return set()

    def groups(self, a: Architecture) -> dict[str, list[str]]:
        """Each of their tensors -> those of ours that are in it."""
        groups: dict[str, list[str]] = {}
        for ours, theirs in self.names(a).items():
            groups.setdefault(theirs, []).append(ours)
        return groups

    def layout(self, a: Architecture) -> dict[str, tuple[int, ...]]:
        """Name and shape of every tensor in this layout."""
        ours = {name: torch.empty(shape, device="meta") for name, shape in shapes(a).items()}
        return {
            theirs: tuple(self.to_theirs([ours[name] for name in group], theirs, a).shape)
            for theirs, group in self.groups(a).items()
        }

    def differences(self, tensors: Tensors, a: Architecture) -> list[str]:
        """What is missing, not expected, or of another shape; one sentence each."""
        wanted, padded, problems = self.layout(a), self.padded(a), []
        lengths = {tensors.shape(name)[:1] for name in padded if name in tensors}
        for name in sorted(wanted.keys() | set(tensors)):
            if name not in tensors:
                problems.append(f"tensor {name} is missing; expected {wanted[name]}")
            elif name not in wanted:
                if name not in self.optional(a):
                    problems.append(f"tensor {name} {tensors.shape(name)} is not of this model")
            elif name in padded and tensors.shape(name)[1:] == wanted[name][1:]:
                if tensors.shape(name)[:1] < wanted[name][:1]:
                    problems.append(f"tensor {name} is {tensors.shape(name)}, expected at least {wanted[name]}")
                elif len(lengths) > 1 and tensors.shape(name)[:1] == max(lengths):
                    problems.append(f"tensor {name} is {tensors.shape(name)}, longer than the others of the vocabulary")
            elif tensors.shape(name) != wanted[name]:
                problems.append(f"tensor {name} is {tensors.shape(name)}, expected {wanted[name]}")
        return problems

    def check(self, source: Source, a: Architecture) -> None:
        """RemaskError with the first problem, where there is any."""
        problems = self.differences(source.tensors, a)
        if problems:
            more = f" (and {len(problems) - 1} more such)" if len(problems) > 1 else ""
            raise RemaskError(f"{source.name}, read as {self.name}: {problems[0]}{more}")


def formats() -> dict[str, Format]:
    """Every layout by name: importing the files of this folder defines them."""
    for module in pkgutil.iter_modules(remask.checkpoints.__path__):
        importlib.import_module(f"remask.checkpoints.{module.name}")
    return {kind.name: kind() for kind in Format.__subclasses__()}


def written_formats() -> list[str]:
    """Names of the layouts that can be written."""
    return [name for name, form in formats().items() if form.writes]


COMMON = frozenset({"heads", "kv_heads", "rope_theta", "norm_eps", "context", "family", "mask_id", "start_id", "end"})
"""Overrides that every layout accepts."""


def recognise(source: Source, wanted: str | None, overrides: Overrides) -> Format:
    """The layout of a source, told by its tensors; `wanted` must agree with them.

    RemaskError for a layout that is unknown or does not fit, and for an override that says nothing about this one.
    """
    known = formats()
    if wanted is not None and wanted not in known:
        raise unknown("format", wanted, known)
    fitting = [form for form in known.values() if form.fits(source)]
    chosen = next((form for form in fitting if wanted in (None, form.name)), None)
    if chosen is None and wanted is not None:
        looks = f"; it looks like {fitting[0].name}" if fitting else ""
        mark = known[wanted].prefix + known[wanted].mark
        raise RemaskError(f"{source.name} is not in {wanted} form: it has no tensor {mark}{looks}")
    if chosen is None:
        names = ", ".join(list(source.tensors)[:4])
        raise RemaskError(
            f"{source.name} is in no form that remask knows ({', '.join(known)}): its tensors are {names}, ..."
        )
    useless = [k for k, v in vars(overrides).items() if v is not None and k not in COMMON | chosen.overrides]
    if useless:
        raise RemaskError(f"{useless[0]} tells nothing about weights in {chosen.name} form")
    return chosen
