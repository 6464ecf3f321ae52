"""Logits that are computed a part at a time, where not all of them are needed at once.

A rule that judges many positions and writes few looks at each prediction once, and again at those it writes. So memory
need not grow with canvas times vocabulary.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from remask.model.head import Head


class LogitsInParts:
    """(N, V) float32 logits that are never held all at once: a part is computed when it is looked at."""

    def __init__(self, head: Head, hidden: Tensor, impossible: int | None = None) -> None:
        """Of (N, D) hidden states; the id that is `impossible` has probability 0."""
        self.head, self.hidden = head, hidden
        self.impossible = impossible if impossible is not None and impossible < head.predicted else None
        self.shape = torch.Size((len(hidden), head.predicted))

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """The logits of some of the N positions."""
        logits = self.head(self.hidden[index])
        if self.impossible is not None:
            logits[:, self.impossible] = -torch.inf
        return logits

    def some(self, index: Tensor) -> "LogitsInParts":
        """The logits of some of the N positions, in parts as well."""
        return LogitsInParts(self.head, self.hidden[index], self.impossible)

    def map(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """A function of each row, (n, V) -> (n, ...), of all N rows."""
        most = rows_of_part(self.head.predicted, self.hidden.device)
        count = max(1, -(-len(self.hidden) // most))
        parts = (LogitsInParts(self.head, some, self.impossible) for some in self.hidden.tensor_split(count))
        return torch.cat([function(part[:]) for part in parts])


Logits = Tensor | LogitsInParts
"""(N, V) float32 logits, all at once or in parts."""


def map_rows(logits: Logits, function: Callable[[Tensor], Tensor]) -> Tensor:
    """A function of each row, (n, V) -> (n, ...), of all rows of logits."""
    return logits.map(function) if isinstance(logits, LogitsInParts) else function(logits)


def at_once(logits: Logits) -> Tensor:
    """All logits at once."""
    return logits if isinstance(logits, Tensor) else logits[:]


PART, PART_ON_GPU = 2**22, 2**26
"""Number of logits in a part, on a CPU and elsewhere: the best of six on one CPU (benchmarks/results/memory-parts.md);
that on a GPU was not measured."""
LEAST_ROWS = 128
"""Positions in a part at least, since each part reads the weights of the head."""


def rows_of_part(predicted: int, device: torch.device) -> int:
    """Of how many positions logits are computed at once, where not all are needed at once."""
    return max(LEAST_ROWS, (PART if device.type == "cpu" else PART_ON_GPU) // predicted)
