"""What every training is told, whatever it learns from: where it runs, how long, and how its steps are made.

`Recipe` (pre-training and fine-tuning), `Distillation`, `Reinforcement` and `Preferences` have more options, each its
own.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from remask.errors import RemaskError
from remask.families import Family, describe
from remask.options import listed_fields
from remask.training.optim import Budget, Optimizer

MOST_ROWS = 2**20
"""Most rows of a step."""


@dataclass(frozen=True, kw_only=True)
class Training(ABC):
    """The options that all trainings share. RemaskError for a value that is out of range."""

    listed_first: ClassVar[tuple[str, ...]] = ()
    """Options that stand before the others, in the help and in config.yaml."""
    progress_matters: ClassVar[bool | None] = None
    """Whether the loss changes with the share of the training that is done; None: as the family says."""

    out: Path
    """Run directory. Where it holds a run of the same recipe, that run goes on."""
    model: str
    """Checkpoint to start from."""
    budget: Budget = field(default_factory=Budget)
    """How much to train."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimiser, and its learning rates over the run."""
    length: int | None = None
    """Tokens in a row; by default the context of the model."""
    batch: int = 32
    """Rows of a step, over all processes and accumulated micro-batches."""
    accumulate: int = 1
    """Micro-batches in a step."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is published; 0 publishes the weights themselves."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 autocast or fp32; auto takes bf16 where the processor is fast at it."""
    seed: int = 0
    """Seed of the weights, of the order of the rows, and of the noise."""
    save_every: int | None = None
    """Steps between checkpoints; by default a twentieth of the run, but at least 15 s."""
    log_every: int = 10
    """Steps between rows of metrics.csv."""
    devices: int = 1
    """Processes on each node."""
    nodes: int = 1
    """Nodes."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """cpu, gpu, or whichever is there."""

    def __post_init__(self) -> None:
        for one in fields(self):  # a path may be given as text
            if one.type == Path and isinstance(value := getattr(self, one.name), str):
                object.__setattr__(self, one.name, Path(value))
        for name in ("length", "batch", "accumulate", "log_every", "save_every", "devices", "nodes"):
            self._check_at_least(name, 1)
        self._check_at_least("seed", 0)
        if self.batch > MOST_ROWS:
            raise RemaskError(f"batch is {self.batch}; it must be at most {MOST_ROWS}")
        if not 0 <= self.ema < 1:
            raise RemaskError(f"ema is {self.ema}; it must be at least 0 and below 1")
        if self.batch % (self.processes * self.accumulate):
            raise RemaskError(
                f"batch is {self.batch}, which does not divide over {self.processes} processes x {self.accumulate} "
                "micro-batches"
            )

    def _check_at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and value < least:
            raise RemaskError(f"{name} is {value}; it must be at least {least}")

    @property
    @abstractmethod
    def source(self) -> str:
        """What is learnt from, in words: a path, or tasks."""

    @property
    def processes(self) -> int:
        """Processes on all nodes together."""
        return self.devices * self.nodes

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the network."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, which YAML and JSON hold and the command line reads; without the run directory,
        so that it can be moved, and run again elsewhere."""
        return {f.name: to_plain(getattr(self, f.name)) for f in listed_fields(self) if f.name != "out"}


@dataclass(frozen=True, kw_only=True)
class CorpusTraining(Training):
    """The options of a training that reads rows of text, and is validated on others."""

    data: Path
    """Folder made by `remask prepare`; or, for fine-tuning, conversations: a .jsonl file, or a folder of them."""
    random_length: float = 0.0
    """Share of the rows that are cut in two pieces at a random place, so that short texts are learnt too."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network; auto does so for runs long enough to repay it, whose rows are all of one length."""
    validation_rows: int = 64
    """Rows of the validation split that are scored; 0 for none."""
    left_to_right_rows: int = 2
    """Rows of the validation split whose exact likelihood from left to right is worked out after the last step, beside
    their bound, in runs of one process, where the family predicts in any order; fewer where that would take over 3 %
    of the training."""
    validate_every: int | None = None
    """Steps between validations; by default a twentieth of the run, or more where validating would take over 5 % of
    the time of training."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_at_least("validate_every", 1)
        for name in ("validation_rows", "left_to_right_rows"):
            self._check_at_least(name, 0)
        if not 0 <= self.random_length <= 1:
            raise RemaskError(f"random_length is {self.random_length}; it must lie between 0 and 1")

    @property
    def source(self) -> str:
        return str(self.data)


def to_plain(value: Any) -> Any:
    """Options as plain data: numbers, words, lists and dictionaries. A family is named by its `class_path`."""
    if isinstance(value, Family):
        described = describe(value)
        return {"class_path": described.pop("name"), "init_args": to_plain(described)}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: to_plain(one) for name, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value)}
    return list(value) if isinstance(value, tuple) else value
