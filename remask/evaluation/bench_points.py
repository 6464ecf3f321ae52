"""What `remask bench sample` measured, kept in bench.json: grades of texts, and the times it took to write them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from remask.evaluation.kept import read_kept
from remask.evaluation.proportions import mean_error
from remask.files import write_atomically

FILE = "bench.json"


@dataclass(frozen=True, kw_only=True)
class What:
    """What was measured: one model that answers the questions of one template in one way."""

    model: str
    task: str
    """The task as named on the command line, or "judge"."""
    template: int
    way: str

    @property
    def key(self) -> "Key":
        """By which a measurement is found again."""
        return self.model, self.task, self.template, self.way


@dataclass(frozen=True, kw_only=True)
class Grade(What):
    """How good the texts are, over all questions. Either `right` is given, or the judge's numbers are."""

    questions: int
    length: int
    """Tokens given for each text."""
    tokens: float
    """Mean tokens of a text before its end-of-text token."""
    ended: float
    """Share of the texts that an end-of-text token ended."""
    graded_at: int = 0
    """Texts that were written at once when these were; 0: not recorded."""
    right: str = ""
    """One 1 or 0 for each question: whether the answer is right."""
    nll: float | None = None
    """The judge's -log p per token, in nats: the mean over texts."""
    nll_error: float | None = None
    entropy: float | None = None
    """Token entropy of a text, in nats: the mean over texts."""
    entropy_error: float | None = None

    @property
    def marks(self) -> np.ndarray:
        """(questions,) float64, 1 where the answer is right."""
        return np.array([float(x) for x in self.right])


@dataclass(frozen=True, kw_only=True)
class Timing(What):
    """How long it took to write some texts in one round."""

    batch: int
    """Texts that are written at once."""
    round: int
    texts: int
    tokens: int
    """Tokens of all texts before their end-of-text tokens."""
    seconds: float
    first: float
    """Seconds until the first token of a text is written, from the start of its batch: the mean over texts."""
    last: float
    """The same for its last token."""
    calls: float
    """Network calls of a batch."""
    passes: float
    """Network passes over a text; with guidance each call makes two."""
    memory: int | None
    """The most bytes on the GPU that writing took, and those of the model's weights; None on a CPU."""
    series: int = -1
    """Which of `Bench.series` it belongs to; -1: of none, as in files of earlier versions."""

    @property
    def place(self) -> tuple[Any, ...]:
        """By which it is found again among the rounds."""
        return *self.key, self.batch, self.round


Key = tuple[str, str, int, str]
"""Model, task, template and way."""


@dataclass
class Bench:
    """What was measured so far."""

    path: Path
    settings: dict[str, Any]
    """Options that decide the results; measurements with other options are not mixed with these."""
    real: dict[str, Any] | None = None
    """The judge's numbers of real text, where there is a judge."""
    grades: list[Grade] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    families: dict[str, str] = field(default_factory=dict)
    """The family of each model, by its class name."""
    series: list[list[Key]] = field(default_factory=list)
    """What was timed in turns, in the same rounds."""

    @staticmethod
    def open(folder: Path, settings: dict[str, Any]) -> "Bench":
        """Reads bench.json, if it exists. RemaskError where its settings differ from these, or it is damaged."""
        path = folder / FILE
        if not path.exists():
            return Bench(path, settings)
        parsed, settings = read_kept(path, settings, parse, defaults={"compile": False})
        return Bench(path, settings, **parsed)

    def save(self) -> None:
        """Writes bench.json, whole or not at all."""
        kept = {name: value for name, value in vars(self).items() if name in ("settings", "real", "families", "series")}
        kept |= {"grades": [asdict(x) for x in self.grades], "timings": [asdict(x) for x in self.timings]}
        write_atomically(self.path, json.dumps(kept, indent=1) + "\n")


def parse(kept: dict[str, Any]) -> dict[str, Any]:
    """The measurements in the content of bench.json, as fields of a `Bench`."""
    return {
        "real": kept["real"],
        "grades": [Grade(**one) for one in kept["grades"]],
        "timings": [Timing(**one) for one in kept["timings"]],
        "families": dict(kept["families"]),
        "series": [[tuple(key) for key in keys] for keys in kept.get("series", [])],
    }


def mean_accuracy(grades: Sequence[Grade]) -> tuple[float, float]:
    """Accuracy over several templates of the same questions, and its standard error between questions.

    The answers to one question under several templates are tied, so that the error is that of the mean of each
    question; where all of these are equal, it is the binomial one.
    """
    of_question = np.mean([grade.marks for grade in grades], axis=0)
    return float(of_question.mean()), mean_error(of_question)
