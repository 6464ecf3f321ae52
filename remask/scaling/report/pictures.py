"""Pictures of a study: IsoFLOP curves, the best size and loss against compute, repeated data, and residuals."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from remask.scaling.fit import published
from remask.scaling.fit.analysis import Summary, repeats
from remask.scaling.fit.intervals import percentiles
from remask.scaling.fit.isoflop import power

COLOURS = ("#0969da", "#1a7f37", "#bf3989", "#9a6700", "#57606a", "#cf222e")


def draw(found: dict[str, Summary], folder: Path, overlay: bool) -> list[str]:
    """Draws the pictures that the fits allow as NAME.png in the folder; their names."""
    parabolas = {name: s for name, s in found.items() if s.parabolas is not None}
    surfaces = {name: s for name, s in found.items() if s.surface is not None}
    again = any(repeats(s.points) for s in found.values())
    drawn = {"isoflop": parabolas, "optimum": parabolas, "repeated": again, "residuals": surfaces}
    if parabolas:
        side_by_side(folder / "isoflop.png", parabolas, curves, 4.2)
        optima(folder / "optimum.png", parabolas, overlay)
    if again:
        epochs(found, folder / "repeated.png")
    if surfaces:
        side_by_side(folder / "residuals.png", surfaces, residuals, 3.4)
    for name in [name for name, there in drawn.items() if not there]:
        (folder / f"{name}.png").unlink(missing_ok=True)  # of an earlier report
    return [name for name, there in drawn.items() if there]


def side_by_side(
    path: Path, found: dict[str, Summary], draw: Callable[[Any, str, Summary], None], height: float
) -> None:
    """A picture for each family, three in a row, N to the right."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    wide = min(3, len(found))
    high = math.ceil(len(found) / wide)
    figure = Figure(figsize=(4.6 * wide, height * high), layout="constrained")
    every = list(figure.subplots(high, wide, squeeze=False).flat)
    for axes, (name, s) in zip(every, found.items(), strict=False):
        draw(axes, name, s)
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_minor_formatter(NullFormatter())
    for axes in every[len(found) :]:
        axes.remove()
    figure.savefig(path, dpi=120)


def optima(path: Path, found: dict[str, Summary], overlay: bool) -> None:
    """Best size and least loss against compute."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, s), colour in zip(found.items(), COLOURS * len(found), strict=False):
        optimum(left, right, name, s, colour)
    if overlay:
        draw_published_slopes(left, right, found)
    left.set(xscale="log", yscale="log", xlabel="FLOPs", ylabel="best N")
    right.set(xscale="log", yscale="log", xlabel="FLOPs", ylabel="loss at the best N, nats a token")
    for axes in (left, right):
        named(axes)
    figure.savefig(path, dpi=120)


def residuals(axes: Any, name: str, s: Summary) -> None:
    """What the surface leaves of each run's loss."""
    own = s.fresh
    axes.axhline(0, color="#57606a", linewidth=0.8)
    if s.surface is not None:
        axes.errorbar(own.n, s.surface.residuals, yerr=own.stderr, fmt="o", markersize=3, capsize=2)
    axes.set(xscale="log", xlabel="N", ylabel="loss - surface, nats", title=name)
    named(axes)


def epochs(found: dict[str, Summary], path: Path) -> None:
    """repeated.png: loss against epochs, a picture for each size, with the laws fitted (dashed: saturating)."""
    from matplotlib.figure import Figure

    sizes = sorted({n for s in found.values() for n in s.points.n})
    wide = min(4, len(sizes))
    high = math.ceil(len(sizes) / wide)
    figure = Figure(figsize=(4.2 * wide, 3.8 * high), layout="constrained")
    for axes, n in zip(figure.subplots(high, wide, squeeze=False, sharey=True).flat, sizes, strict=False):
        for (name, s), colour in zip(found.items(), COLOURS * len(found), strict=False):
            own = s.points.take(s.points.n == n)
            axes.errorbar(
                own.epochs, own.loss, yerr=own.stderr, fmt="o", markersize=4, capsize=2, color=colour, label=name
            )
            for form, style in (("saturating", "--"), ("turning", "-")):
                for unique in sorted(set(own.unique)) if form in s.repeated else ():
                    times = np.geomspace(1, max(1.0, own.epochs.max()), 60)
                    axes.plot(times, s.repeated[form].law(n, unique, times), style, color=colour, linewidth=1)
        axes.set(xscale="log", xlabel="epochs", title=f"N = {n:.3g}")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.axes[0].set_ylabel("loss, nats a token")
    figure.savefig(path, dpi=120)


def curves(axes: Any, name: str, s: Summary) -> None:
    """The runs of each budget with their parabola; a minimum that is not bracketed is drawn hollow."""
    for p, colour in zip(s.parabolas.parabolas if s.parabolas is not None else (), COLOURS * 9, strict=False):
        own = s.fresh.take(p.index)
        axes.errorbar(
            own.n, own.loss, yerr=own.stderr, fmt="o", markersize=4, capsize=2, color=colour, label=f"{p.c:.0e}"
        )
        sizes = np.geomspace(own.n.min(), own.n.max(), 80)
        axes.plot(sizes, p(sizes), color=colour)
        axes.plot([p.n], [p.loss], "v", color=colour, fillstyle="full" if p.bracketed else "none")
    axes.set(xscale="log", xlabel="N", ylabel="loss, nats a token", title=name)
    named(axes, title="FLOPs")


def named(axes: Any, **more: Any) -> None:
    """Grid, and a legend where something is drawn."""
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, **more)


def optimum(left: Any, right: Any, name: str, s: Summary, colour: str) -> None:
    """Minima and their power laws, with the spread of the resamples."""
    if s.parabolas is None:
        return
    kept = [p for p in s.parabolas.parabolas if p.bracketed]
    c = np.geomspace(s.points.c.min() / 2, s.points.c.max() * 10, 60)
    for axes, law, values in (
        (left, s.parabolas.size, [p.n for p in kept]),
        (right, s.parabolas.loss, [p.loss for p in kept]),
    ):
        axes.plot([p.c for p in kept], values, "o", color=colour, label=name)
        if law is not None:
            axes.plot(c, law(c), color=colour, linewidth=1)
            if len(law.draws):
                many = np.exp(law.draws[:, :1] + law.draws[:, 1:] * np.log(c))
                axes.fill_between(c, *percentiles(many), color=colour, alpha=0.12)


def draw_published_slopes(left: Any, right: Any, found: dict[str, Summary]) -> None:
    """Published laws as grey lines through the middle of the study: their slopes, not their heights.

    Heights belong to the authors' texts and tokenizers. LLaDA published scores, and no losses.
    """
    laws = [s.parabolas for s in found.values() if s.parabolas is not None and s.parabolas.loss is not None]
    if not laws or laws[0].size is None or laws[0].loss is None:
        return
    kept = [p for p in laws[0].parabolas if p.bracketed]
    middle = math.exp(np.mean([math.log(p.c) for p in kept]))
    c = np.geomspace(middle / 30, middle * 300, 20)
    for label, minima, style in (
        ("slope of SMDM, masked", published.SMDM_MASKED, "--"),
        ("slope of SMDM, AR", published.SMDM_AUTOREGRESSIVE, ":"),
    ):
        at = np.array([m.c for m in minima])
        for axes, law, key in ((left, laws[0].size, "n"), (right, laws[0].loss, "loss")):
            slope = power(at, np.array([getattr(m, key) for m in minima]), draws=0).p
            axes.plot(c, float(law(middle)) * (c / middle) ** slope, style, color="#8c959f", linewidth=1, label=label)
    for label, name, style in (
        ("slope of Chinchilla, corrected", "chinchilla-corrected", "-."),
        ("slope of Quokka, masked", "quokka", (0, (8, 3))),
    ):
        best = float(laws[0].size(middle)) * (c / middle) ** published.SURFACES[name].size_exponent
        left.plot(c, best, linestyle=style, color="#8c959f", linewidth=1, label=label)
