"""Left to right with a key-value cache: the sampler of the autoregressive baseline."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from remask.batch import Batch
from remask.families.autoregressive import Autoregressive
from remask.families.base import Family
from remask.model.cache import KeyValueCache
from remask.sampling.base import Sampler, Step, Writing


@dataclass(frozen=True, kw_only=True)
class LeftToRight(Sampler):
    """One token after another. Given tokens behind an open position are kept, but not looked at before.

    Rows of different lengths share a batch without padding in front: a row whose prompt is longer reads
    its own tokens while the others write.
    """

    def fits(self, family: Family) -> bool:
        return isinstance(family, Autoregressive)

    @property
    def deterministic(self) -> bool:
        return True

    def fill(self, writing: Writing) -> Iterator[Step]:
        family, denoiser = writing.family, writing.denoiser
        architecture = getattr(denoiser, "architecture", None)
        count, length = writing.tokens.shape
        cache = KeyValueCache(architecture.layers, count, length) if architecture is not None else None
        rows = torch.arange(len(writing.tokens), device=writing.tokens.device)
        read = 0
        while bool((todo := writing.todo).any()):
            column = int(todo.any(0).nonzero()[0, 0])  # the leftmost open position of all rows
            going = todo[rows].any(1)
            if not bool(going.all()):
                rows = rows[going]
                if cache is not None:
                    cache = cache.rows(going.nonzero()[:, 0])
            text = writing.tokens[rows, : column + 1]
            ask = torch.zeros_like(text, dtype=torch.bool)
            ask[:, -1] = todo[rows, column]
            seen = family.inputs_for(Batch(text, ask), ask, torch.ones(len(rows), device=text.device))
            fresh = slice(read if cache is not None else 0, None)
            index = torch.arange(column + 1, device=text.device)[fresh].expand(len(rows), -1)
            logits = denoiser(
                seen.tokens[:, fresh], index=index, ask=ask[:, fresh], attention=seen.attention, cache=cache
            )
            read = column + 1
            writing.evaluations[rows] += 1
            chosen = torch.zeros_like(todo)
            chosen[rows, column] = todo[rows, column]
            yield writing.write(self.pen, chosen, writing.without_mask(logits))
