"""The pictures of this folder.

    python experiments/learning/pictures.py RUNS      # the folder that study.py wrote its runs to

levels.png: the loss by mask rate before and after, from the runs of RUNS. h200.png: the curves of h200.csv, which were
recorded on a GPU. novels-10M.png: those of novels-10M.csv and novels-10M-families.csv, recorded on two cores, and
novels-3M.png those of novels-3M.csv. These need no RUNS.
"""

import csv
import statistics
import sys
from pathlib import Path

from matplotlib.figure import Figure
from study import name_of

HERE = Path(__file__).parent
BEFORE = "masked: AdamW 3e-3"
FIRST = "autoregressive, the first quarter of the converted run"
AFTER = "masked: all (convolution, Muon, AdamW 2e-2, ceiling 0.4, bell 0.8)"


def main() -> None:
    if len(sys.argv) > 1:
        levels(Path(sys.argv[1]))
    curves()
    novels("10M", "novels-10M.csv", "novels-10M-families.csv")
    novels("3M", "novels-3M.csv")


def levels(runs: Path) -> None:
    """Nats of a masked token by the share of the tokens that is masked, the mean over the seeds that are there."""
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, marker in ((BEFORE, "o"), (AFTER, "s")):
        found = [last_row(runs / name_of(name, seed)) for seed in range(3) if (runs / name_of(name, seed)).exists()]
        columns = [column for column in found[0] if column.startswith("valid_nats_at_")]
        means = [statistics.mean(float(row[column]) for row in found) for column in columns]
        places = [float(column.rpartition("_")[2]) for column in columns]
        axes.plot(places, means, marker=marker, label=f"{name}, {len(found)} seeds")
    axes.set(xlabel="share of the tokens that is masked", ylabel="nats of a masked token", xlim=(0, 1), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(HERE / "levels.png", dpi=120)


def last_row(run: Path) -> dict[str, str]:
    """The last row of a run's metrics."""
    with open(run / "metrics.csv") as file:
        return list(csv.DictReader(file))[-1]


def rows_of(*names: str) -> dict[str, list[dict[str, str]]]:
    """The validations of the runs in some tables of this folder."""
    rows: dict[str, list[dict[str, str]]] = {}
    for name in names:
        with open(HERE / name) as file:
            for row in csv.DictReader(file):
                rows.setdefault(row["run"], []).append(row)
    return rows


def novels(size: str, *names: str) -> None:
    """Bits per byte against FLOPs of the families at a size, to their ends."""
    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    axes = figure.add_subplot()
    runs = rows_of(*names)
    for name, found in runs.items():
        before = float(runs[FIRST][-1]["flops_6n"]) if name.startswith("converted") else 0.0
        flops, bits = ([float(row[key]) for row in found] for key in ("flops_6n", "bits_per_byte"))
        axes.plot([before + flop for flop in flops], bits, marker="o", markersize=3, label=name)
    axes.set(xlabel="training FLOPs (6 N D)", ylabel="validation bits per byte", title=f"{size} on novels, two cores")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(HERE / f"novels-{size}.png", dpi=110)


def curves() -> None:
    """Bits per byte against FLOPs at 10M, and against time at 170M."""
    rows = rows_of("h200.csv")
    figure = Figure(figsize=(13, 6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, found in rows.items():
        bits = [float(row["bits_per_byte"]) for row in found]
        if name.startswith("170M"):
            right.plot([float(row["seconds"]) for row in found], bits, marker="o", markersize=4, label=name)
        elif not name.startswith(("3M", "autoregressive, ", "converted")):
            style = "--" if name.startswith("autoregressive") else ":" if name.startswith(("unif", "inter")) else "-"
            left.plot([float(row["flops_6n"]) for row in found], bits, style, marker="o", markersize=3, label=name)
    left.axhline(2.148, color="grey", linewidth=1)
    left.annotate("masked, AdamW, after 5e14", (1.5e14, 2.152), fontsize=8, color="grey")
    left.axhline(1.616, color="grey", linewidth=1, linestyle="--")
    left.annotate("autoregressive, AdamW, after 5e14", (1.5e14, 1.62), fontsize=8, color="grey")
    left.set(xlabel="training FLOPs (6 N D)", ylabel="validation bits per byte", title="10M on novels")
    right.set(
        xlim=(0, None),
        xlabel="seconds, both at once on one GPU; compiling takes the first",
        ylabel="validation bits per byte",
        title="170M on novels, from the start of the command",
    )
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2 if axes is left else 1)
    figure.savefig(HERE / "h200.png", dpi=110)


if __name__ == "__main__":
    main()
