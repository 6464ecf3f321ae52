"""What a law is fitted to: the finished runs of one family, as arrays."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FRESH = 4.0
"""Epochs up to which repeated tokens count as fresh ones (Muennighoff et al. 2023)."""


@dataclass(frozen=True)
class Points:
    """Runs of one family, one entry each."""

    n: NDArray[np.float64]
    """Parameters without embeddings."""
    d: NDArray[np.float64]
    """Tokens trained on, repeats included."""
    c: NDArray[np.float64]
    """FLOPs of training, by the convention that `convention` names."""
    loss: NDArray[np.float64]
    """Nats per token on held-out text; for diffusion families a bound."""
    stderr: NDArray[np.float64]
    """Standard error of `loss`; 0 where it is exact."""
    unique: NDArray[np.float64]
    """Distinct tokens of the corpus; inf where no token is seen twice."""
    planned: NDArray[np.float64]
    """Budget each was planned for; nan where that is not known."""
    names: tuple[str, ...] = ()
    family: str = ""
    convention: str = "6ND"
    """How FLOPs were counted: 6ND, exact, or as the table counts them."""

    def __len__(self) -> int:
        return len(self.loss)

    def take(self, index: NDArray[np.integer] | NDArray[np.bool_]) -> "Points":
        """Some of the runs, by number or mask."""
        arrays = {k: getattr(self, k)[index] for k in ("n", "d", "c", "loss", "stderr", "unique", "planned")}
        return replace(self, **arrays, names=tuple(np.array(self.names, dtype=object)[index]))

    @property
    def epochs(self) -> NDArray[np.float64]:
        """How often each token is seen; 1 where the corpus is not used up."""
        return np.maximum(1.0, self.d / self.unique)

    @property
    def seen(self) -> NDArray[np.float64]:
        """Distinct tokens that were trained on: of the corpus, as many as were reached."""
        return np.minimum(self.unique, self.d)

    @staticmethod
    def of_rows(rows: Sequence[Mapping[str, float | str]], family: str = "", convention: str = "6ND") -> "Points":
        """From dictionaries with n, d, loss and, where known, c, stderr, unique, planned, name."""

        def column(key: str, otherwise: float) -> NDArray[np.float64]:
            return np.array([float(row.get(key, otherwise)) for row in rows])

        n, d, c = column("n", math.nan), column("d", math.nan), column("c", math.nan)
        return Points(
            n=n,
            d=d,
            c=np.where(np.isnan(c), 6 * n * d, c),
            loss=column("loss", math.nan),
            stderr=column("stderr", 0.0),
            unique=column("unique", math.inf),
            planned=column("planned", math.nan),
            names=tuple(str(row.get("name", f"row {i + 1}")) for i, row in enumerate(rows)),
            family=family,
            convention=convention,
        )


def find_diverged(points: Points, spread: float = 1.0) -> NDArray[np.bool_]:
    """Runs to leave out: a loss that is not finite, or `spread` nats above that of a smaller and shorter run.

    The rule is fixed before looking: more parameters and more fresh tokens do not cost a nat. Repeated tokens may, so
    runs of more than `FRESH` epochs are left out only for a loss that is not finite.
    """
    bad = ~np.isfinite(points.loss) | (points.loss <= 0)
    for i in np.flatnonzero(~bad & (points.epochs <= FRESH)):
        less = ~bad & (points.n <= 1.01 * points.n[i]) & (points.d <= 1.01 * points.d[i])
        bad[i] = points.loss[i] > points.loss[less].min() + spread
    return bad


def fresh(points: Points) -> Points:
    """The runs that a law without epochs is fitted to: not diverged, and of no more epochs than count as fresh."""
    return points.take(~find_diverged(points) & (points.epochs <= FRESH))


def budgets(points: Points, ratio: float = 1.2) -> list[NDArray[np.integer]]:
    """Numbers of the runs of each budget, rising: as planned, or compute that differs by less than `ratio`."""
    c = points.c if np.isnan(points.planned).any() else points.planned
    groups: list[list[int]] = []
    for i in np.argsort(c).tolist():
        if groups and c[i] < ratio * c[groups[-1][0]]:
            groups[-1].append(i)
        else:
            groups.append([i])
    return [np.array(group) for group in groups]
