"""Tasks of lm-evaluation-harness from `remask eval --tasks lm_eval:NAME`: its prompts, its data and its metrics."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from remask.errors import RemaskError, first_line, unknown
from remask.evaluation.zeroshot.metrics import Result


def harness_results(
    runs: dict[str, dict[str, Any]], tasks: list[str], include_path: Path | None, limit: int | None
) -> list[Result]:
    """The results of models on tasks of the harness. `runs` are arguments of `RemaskLM` by the name of the run.

    Raises:
        RemaskError: the harness is not installed, a task is unknown, or its data cannot be reached.
    """
    try:
        from lm_eval.tasks import TaskManager

        from remask.harness.model import RemaskLM
    except ModuleNotFoundError as error:
        raise RemaskError(f"tasks of lm_eval need another package: {error}") from None
    manager = TaskManager(include_path=str(include_path) if include_path else None)
    for name in tasks:
        if name not in manager.all_tasks:
            near = [one for one in manager.all_tasks if name.partition("_")[0] in one][:20]
            raise unknown("task of lm_eval", name, near or ["(see `lm_eval ls tasks`)"])
    found: list[Result] = []
    for run, arguments in runs.items():
        model = RemaskLM(**arguments)
        for name in tasks:
            found += list(results_of(run, name, model, manager, limit))
    return found


def results_of(run: str, name: str, model: Any, manager: Any, limit: int | None) -> Iterator[Result]:
    """The metrics of one model on one task, or on the tasks of a group."""
    from lm_eval import simple_evaluate

    began = time.perf_counter()
    try:
        done: Any = simple_evaluate(model=model, tasks=[name], task_manager=manager, limit=limit)
    except (OSError, ValueError, RuntimeError) as error:  # what the readers of data sets raise
        raise RemaskError(f"lm_eval:{name} cannot be asked: {first_line(error)}") from None
    seconds = time.perf_counter() - began
    for task, values in done["results"].items():
        for key, value in values.items():
            metric, comma, which = key.partition(",")
            if comma and not metric.endswith("_stderr") and isinstance(value, int | float):
                error = values.get(f"{metric}_stderr,{which}")
                yield Result(
                    run=run,
                    task=f"lm_eval:{task}",
                    metric=metric if which == "none" else f"{metric} ({which})",
                    value=float(value),
                    error=float(error) if isinstance(error, int | float) else math.nan,
                    noise=0.0 if model.plain.family.exact else math.nan,
                    kind="exact" if model.plain.family.exact else "bound",
                    chance=None,
                    questions=int(done.get("n-samples", {}).get(task, {}).get("effective", 0)),
                    dropped=0,
                    scored=f"lm_eval with {model.scoring(task)}",
                    seconds=seconds,
                )
