"""Several short texts in one row: best fit, the longest first."""

from collections.abc import Sequence

import numpy as np


def fill_bins(lengths: Sequence[int], room: int, seed: int) -> list[list[int]]:
    """Bins of at most `room` tokens, each with the numbers of the texts in it, by their `lengths`, which are from 1 to
    `room`. The seed says which of several texts of equal length goes where."""
    shuffled = np.random.default_rng([seed, 5]).permutation(len(lengths))
    order = shuffled[np.argsort(-np.asarray(lengths, np.int64)[shuffled], kind="stable")]
    bins: list[list[int]] = []
    with_room: list[list[int]] = [[] for _ in range(room + 1)]
    """The bins that have so much room left."""
    for i in order.tolist():
        left = next((left for left in range(lengths[i], room) if with_room[left]), None)
        if left is None:
            left = room
            with_room[room].append(len(bins))
            bins.append([])
        best = with_room[left].pop()
        bins[best].append(i)
        with_room[left - lengths[i]].append(best)
    return bins
