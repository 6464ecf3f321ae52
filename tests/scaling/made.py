"""Runs that follow a law, tables of them, and small studies, made up for the tests."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from remask.data.tokens import open_tokens
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.scaling.fit.law import Surface
from remask.scaling.fit.points import Points
from remask.scaling.fit.published import CHINCHILLA_CORRECTED, QUOKKA
from remask.scaling.plan.settings import Settings
from remask.scaling.plan.sharing import chain_runs
from remask.scaling.plan.study import Plan, Run
from remask.scaling.planning import predict

TRUTH = CHINCHILLA_CORRECTED


def runs(law: Surface = TRUTH, noise: float = 0.0, seed: int = 0, relative: bool = False, wide: float = 8.0) -> Points:
    """Seven budgets of seven sizes around the best one."""
    rng, rows = np.random.default_rng(seed), []
    for c in np.geomspace(1e18, 1e21, 7):
        for ratio in np.geomspace(1 / wide, wide, 7):
            n = law.best(c)[0] * ratio
            loss = float(law(n, c / 6 / n))
            rows.append({"n": n, "d": c / 6 / n, "loss": loss + noise * rng.normal() * (loss if relative else 1.0)})
    return Points.of_rows(rows)


def write(path: Path, rows: list[dict]) -> Path:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def table(law: Surface = TRUTH, family: str = "x") -> list[dict]:
    points = runs(law, wide=4.0)
    return [
        {"name": f"{family}{i}", "family": family, "N": n, "D": d, "loss": loss}
        for i, (n, d, loss) in enumerate(zip(points.n, points.d, points.loss, strict=True))
    ]


SMALL = {"budgets": [3e13, 1e14], "length": 32, "batch": 4, "time": False}


LOSS = predict(QUOKKA, Masked())


def small_study(folder: Path, corpus: Path, budget: float = 3e8, sizes: Sequence[float] = (2.5e4, 6e4)) -> Plan:
    """A plan of a few runs of a few steps: of two families, by default at two sizes."""
    prepared, runs = open_tokens(corpus), []
    for spec, family in (("Masked:objective=low_variance", Masked(objective="low_variance")), ("AR", Autoregressive())):
        settings = Settings(prepared, "6ND", 32, 4, lambda shape, tokens: 1e-3)
        runs += settings.curve(spec, family, budget, sizes, predict(QUOKKA, family))
    return save_plan(folder, corpus, runs)


def save_plan(folder: Path, corpus: Path, runs: list[Run]) -> Plan:
    """The plan of some runs, in its folder."""
    settings: dict[str, Any] = {"convention": "6ND", "length": 32, "validation_rows": 256}
    settings["corpus"] = open_tokens(corpus).manifest["fingerprint"]
    made = Plan(data=str(corpus), runs=tuple(runs), **settings)
    made.save(folder)
    return made


def shared_study(folder: Path, corpus: Path) -> list[Run]:
    """A plan of one network at two budgets."""
    prepared, runs = open_tokens(corpus), []
    settings = Settings(prepared, "6ND", 32, 4, lambda shape, tokens: 1e-3)
    for budget in (3e8, 6e8):
        runs += chain_runs(runs, settings.curve("Masked:ceiling=1", Masked(ceiling=1.0), budget, [2.5e4], LOSS))
    return list(save_plan(folder, corpus, runs).runs)
