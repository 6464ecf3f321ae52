"""The lines of a file scored by several processes: `--workers` of `remask score` and `remask rank`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from remask.checkpoints.opening import Opening
from remask.errors import RemaskError
from remask.processes import in_processes
from remask.terminal import progress


@dataclass(frozen=True)
class Workers:
    """Processes, each of which opens the checkpoint of a run."""

    number: int
    run: str
    opening: Opening

    def __post_init__(self) -> None:
        if self.number < 1:
            raise RemaskError(f"workers is {self.number}; it must be at least 1")


def found_in_processes(
    workers: Workers, items: Sequence[Any], find: Callable[..., Iterator[Any]], what: str
) -> Iterator[Any]:
    """What `find(checkpoint, items)` finds for each of some items, in their order. `find` and items can be pickled."""
    number = min(workers.number, len(items))
    found = in_processes(find_share, number, workers, items, find) if number else iter(())
    waiting: dict[int, Any] = {}
    with progress(what, len(items), "lines") as tick:
        for place in range(len(items)):
            while place not in waiting:
                other, value = next(found)
                waiting[other] = value
                tick()
            yield waiting.pop(place)


def find_share(
    worker: int, number: int, workers: Workers, items: Sequence[Any], find: Callable[..., Iterator[Any]]
) -> Iterator[tuple[int, Any]]:
    """What one process finds: for every so many-th item, with its place."""
    places = range(worker, len(items), number)
    checkpoint = workers.opening.open(workers.run, worker)
    yield from zip(places, find(checkpoint, [items[place] for place in places]), strict=True)
