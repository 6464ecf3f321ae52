"""Many texts, or questions with answers, from a file of JSON lines: what `remask score --file X.jsonl` and
`remask rank` call.

    {"prompt": "the cat", "text": " sat", "id": 7}
    {"prompt": "Is it so?", "answers": [" yes", " no"]}
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.json_lines import numbered_lines, object_of
from remask.errors import RemaskError
from remask.likelihood import Estimator, Ranking, Target
from remask.scoring import rank_texts, score_texts
from remask.scoring_log import ScoreLog, key_of
from remask.scoring_workers import Workers, found_in_processes


@dataclass(frozen=True)
class Line:
    """One line of a file."""

    number: int
    prompt: str
    content: Any
    """Its text, or its answers."""
    id: Any

    @property
    def key(self) -> str:
        """A hash of its content."""
        return key_of(self.prompt, self.content)


def lines_of(path: Path, field: str) -> Iterator[Line]:
    """The lines of a file; `field` is "text", or "answers" of which there are two or more.

    RemaskError names the file, the line and the field that is missing or of another type.
    """
    for number, line in numbered_lines(path):
        yield parsed(line, f"{path}, line {number}", number, field)


def parsed(line: str, where: str, number: int, field: str) -> Line:
    """One line, checked."""
    record = object_of(line, where)
    prompt, content = record.get("prompt", ""), record.get(field)
    if not isinstance(prompt, str):
        raise RemaskError(f"{where}: the field 'prompt' is not text")
    parts = content if field == "answers" and isinstance(content, list) else [content]
    if not all(isinstance(part, str) for part in parts) or (field == "answers") != isinstance(content, list):
        expected = "text" if field == "text" else "a list of texts"
        there = f"has {', '.join(map(repr, record)) or 'no fields'}" if content is None else "has something else there"
        raise RemaskError(f"{where}: the field {field!r} must be {expected}; the line {there}")
    if not all(parts) or (field == "answers" and len(parts) < 2):
        raise RemaskError(f"{where}: the field {field!r} is empty, or has fewer than two answers")
    return Line(number, prompt, content, record.get("id", number))


def score_lines(
    checkpoint: Checkpoint,
    path: Path,
    log: ScoreLog,
    *,
    estimator: Estimator,
    error: float | None = None,
    workers: Workers | None = None,
    show: bool = False,
) -> Iterator[dict[str, Any]]:
    """The records of the texts of a file, in its order; those that the log has are not scored again."""

    find = partial(score_texts, estimator=estimator, error=error)
    return logged(path, "text", log, divided(checkpoint, find, "scoring", workers, show), vars)


def rank_lines(
    checkpoint: Checkpoint,
    path: Path,
    log: ScoreLog,
    *,
    estimator: Estimator,
    confidence: float = 0.95,
    by: Sequence[str] = ("sum",),
    target: Target = "bound",
    workers: Workers | None = None,
    show: bool = False,
) -> Iterator[dict[str, Any]]:
    """The records of the questions of a file, in its order; those that the log has are not ranked again."""

    def fields(ranking: Ranking) -> dict[str, Any]:
        best = dict(zip(by, ranking.best, strict=True))
        answers = [{"nats": e.nats, "stderr": e.stderr, "kind": e.kind, "draws": e.draws} for e in ranking.estimates]
        return {"best": best, "settled": ranking.settled, "draws": ranking.draws, "answers": answers}

    find = partial(rank_texts, estimator=estimator, confidence=confidence, by=by, target=target)
    return logged(path, "answers", log, divided(checkpoint, find, "ranking", workers, show), fields)


def divided(
    checkpoint: Checkpoint, find: Callable[..., Iterator[Any]], what: str, workers: Workers | None, show: bool
) -> Callable[[Iterable[Line]], Iterator[Any]]:
    """What is found for some lines by `find(checkpoint, pairs)`: by this process, or by several."""

    def found(lines: Iterable[Line]) -> Iterator[Any]:
        pairs = ((line.prompt, line.content) for line in lines)
        if workers is None or workers.number == 1:
            return find(checkpoint, pairs, show=show)
        return found_in_processes(workers, list(pairs), find, what)

    return found


def logged(
    path: Path,
    field: str,
    log: ScoreLog,
    find: Callable[[Iterable[Line]], Iterator[Any]],
    fields: Callable[[Any], dict[str, Any]],
) -> Iterator[dict[str, Any]]:
    """The records of the lines of a file: from the log, else of what `find` finds for the others, which are logged."""
    for _ in lines_of(path, field):  # so that a bad line is named before hours of work
        pass
    asked: set[str] = set(log.done)

    def missing() -> Iterator[Line]:
        for line in lines_of(path, field):
            if line.key not in asked:
                asked.add(line.key)
                yield line

    found = find(missing())
    for line in lines_of(path, field):
        if line.key not in log.done:  # of lines of equal content the first is scored
            log.add({"key": line.key, **fields(next(found))})
        yield {"line": line.number, "id": line.id, **{k: v for k, v in log.done[line.key].items() if k != "key"}}
