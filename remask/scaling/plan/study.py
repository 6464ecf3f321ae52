"""A study of scaling as a record: its settings and its runs, kept in plan.json beside them."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args

from remask.errors import RemaskError
from remask.files import write_atomically
from remask.training.optim import Kind, Optimizer

Convention = Literal["6ND", "exact"]
FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run of a study."""

    name: str
    family: dict[str, Any]
    """As `describe` has it."""
    label: str
    """The family as it was asked for: what tells its runs from those of the same family with other options."""
    budget: float
    """FLOPs, by the study's convention."""
    layers: int
    width: int
    heads: int
    ffn: int
    n: int
    """Parameters without embeddings and time embedding."""
    parameters: int
    """All parameters."""
    tokens: int
    steps: int
    epochs: float
    """How often a token of the corpus is seen."""
    batch: int
    lr: float
    """Peak learning rate of AdamW."""
    flops_6n: float
    """6 N D, D counting what the network reads."""
    flops_exact: float
    """All matrix products, attention and head included."""
    loss: float
    """Predicted by the law, nats a token."""
    optimizer: Kind = "adamw"
    """Optimiser: muon or adamw."""
    convolution: int = 0
    """Positions that the short convolutions cover; 0 for none."""
    schedule: Literal["cosine", "wsd"] = "cosine"
    warmup: int | None = None
    """Warm-up steps; the usual rule where None."""
    after: str | None = None
    """The shorter run whose first steps it shares; see `sharing`."""
    hours: float | None = None
    """Predicted, on the machine the plan was made on; None where nothing was timed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study: its settings, and its runs."""

    data: str
    corpus: str
    """Fingerprint of the data."""
    convention: Convention
    length: int
    validation_rows: int
    """Rows of the validation split that every run is scored on at its end, with the same noise."""
    rule: str = ""
    """Where the learning rates come from; empty where it was not said."""
    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        names = [run.name for run in self.runs]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise RemaskError(f"the plan names two runs {twice[0]!r}")

    def save(self, folder: Path) -> None:
        """Writes plan.json atomically."""
        write_atomically(folder / FILE, json.dumps(asdict(self), indent=1) + "\n")

    @staticmethod
    def load(folder: Path) -> "Plan":
        """Reads plan.json. RemaskError where it is missing, damaged, or names two runs alike."""
        path = folder / FILE
        if not path.exists():
            raise RemaskError(f"{folder} holds no {FILE}: make one with `remask scale plan --out {folder}`")
        try:
            found = json.loads(path.read_text())
            for number, run in enumerate(found["runs"]):
                check_types(run, f"runs[{number}]", Run)
            found["runs"] = tuple(Run(**run) for run in found["runs"])
            check_types({k: v for k, v in found.items() if k != "runs"}, "the plan", Plan)
            return Plan(**found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise RemaskError(f"{path} is damaged: {error!r}") from None


PLAIN = {str: str, int: int, float: (int, float), int | None: (int, NoneType), str | None: (str, NoneType)}


def check_types(given: dict[str, Any], where: str, kind: Any) -> None:
    """Raises ValueError for a value of another type than the field's, and for a name that is a path."""
    for field in fields(kind):
        wanted, value = PLAIN.get(field.type), given.get(field.name)
        if field.name in given and wanted is not None and (not isinstance(value, wanted) or isinstance(value, bool)):
            raise ValueError(f"{where}.{field.name} is {value!r}")
    if given.get("convention", "6ND") not in get_args(Convention):
        raise ValueError(f"convention is {given['convention']!r}")
    name = given.get("name", "run")
    if name != Path(name).name:
        raise ValueError(f"{where}.name is {name!r}")


def optimizer(one: Run) -> Optimizer:
    """How a run is optimised."""
    decay = 0.1 if one.optimizer == "adamw" else 0.0
    return Optimizer(kind=one.optimizer, lr=one.lr, weight_decay=decay, schedule=one.schedule, warmup=one.warmup)
