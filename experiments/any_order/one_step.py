"""What the order of writing is worth to a solver that looks one step ahead, as a reference without any training.

    python experiments/any_order/one_step.py

The solver writes one cell after another. It knows which digits stand in the row, the column and the box of a cell, and
draws one of the others at random; it does not see that another cell has to be filled first. In the order "most certain
first" it takes the cell with the fewest digits left. Its share of solved puzzles is 1 in that order where a puzzle can
be solved by elimination alone, and less from left to right, where a cell comes before what decides it.
`one_step.csv` beside this file has the share on the test questions of the study, by 30 tries for each question.
"""

import csv
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
from study import PROBLEMS, QUESTIONS, error, mean

from remask.tasks.base import task_of
from remask.tasks.grids import GridTask, side_of

TRIES = 30
ORDERS = ("left to right", "most certain first", "random")


@cache
def neighbours(side: int, boxes: bool) -> tuple[tuple[int, ...], ...]:
    """For each cell, those in its row, its column and its box."""
    places = [divmod(cell, side) for cell in range(side * side)]
    return tuple(
        tuple(
            other
            for other, (row, column) in enumerate(places)
            if (row, column) != (r, c)
            and (row == r or column == c or (boxes and (row // 2, column // 2) == (r // 2, c // 2)))
        )
        for r, c in places
    )


def solves(question: tuple[int, ...], boxes: bool, order: str, rng: np.random.Generator) -> bool:
    """Whether one try fills every cell without breaking a rule."""
    side, cells = side_of(question), list(question)
    around, every = neighbours(side, boxes), set(range(1, side + 1))
    empty = [cell for cell, digit in enumerate(cells) if not digit]
    while empty:
        left = {cell: sorted(every - {cells[other] for other in around[cell]}) for cell in empty}
        if order == "most certain first":
            cell = min(empty, key=lambda one: len(left[one]))
        else:
            cell = empty[0] if order == "left to right" else empty[rng.integers(len(empty))]
        if not left[cell]:
            return False
        cells[cell] = left[cell][rng.integers(len(left[cell]))]
        empty.remove(cell)
    return True


def main() -> None:
    """Writes one_step.csv, and prints it."""
    rows = []
    for name, problem in PROBLEMS.items():
        for value in problem.values:
            task = task_of(problem.asked(value))
            if not isinstance(task, GridTask):
                continue
            asked = list(
                islice(dict.fromkeys(e.question for e in islice(task.examples("test"), 4 * QUESTIONS)), QUESTIONS)
            )
            for order in ORDERS:
                rng = np.random.default_rng(0)
                shares = np.array([np.mean([solves(q, task.boxes, order, rng) for _ in range(TRIES)]) for q in asked])
                rows.append(
                    {
                        "problem": name,
                        "value": value,
                        "order": order,
                        "questions": len(asked),
                        "right": mean(shares),
                        "error": error(shares),
                    }
                )
                print(*rows[-1].values(), flush=True)
    with open(Path(__file__).with_name("one_step.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
