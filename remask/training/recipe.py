"""Everything that a training run is told.

    train(Recipe(data=Path("data/novels"), out=Path("runs/first"), model="10M", budget=Budget(minutes=30)))

`remask train` fills the same fields from its options and from a YAML file; the description below a field is the help
of its option. A run directory keeps its recipe as config.yaml, which can be run again, and in run.json.
"""

from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from remask.errors import RemaskError
from remask.families import Family, describe
from remask.families.masked import Masked
from remask.model.sizes import SizeOverrides
from remask.model.transformer import Initialisation
from remask.training.adapters import LowRank
from remask.training.adversarial import Adversarial
from remask.training.fine_tuning import FineTuning
from remask.training.optim import Budget, Optimizer

MOST_ROWS = 2**20
"""Most rows of a step."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How an autoregressive checkpoint becomes a diffusion model."""

    keep_shift: bool = False
    """Predict the token of a position from the hidden state of the one before it, as the checkpoint does, so that its
    head is used as it is (DiffuLLaMA, Dream)."""
    fresh_head: bool = False
    """Draw the output head anew."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run trains, on what, how much and how. RemaskError for a value that is out of range."""

    progress_matters: ClassVar[bool | None] = None
    """Whether the loss changes with the share of the training that is done; None: as the family says."""

    data: Path
    """Folder made by `remask prepare`; or, for fine-tuning, conversations: a .jsonl file, or a folder of them."""
    out: Path
    """Run directory. Where it holds a run of the same recipe, that run goes on."""
    family: Family = field(default_factory=Masked)
    """Masked, Uniform, Interpolating or Autoregressive, with its options."""
    model: str = "tiny"
    """Named size, such as tiny, 10M, 85M, 1028M, LLaDA-8B; or a checkpoint to start from."""
    architecture: SizeOverrides = field(default_factory=SizeOverrides)
    """Changes to the named size. The context is the row length unless given."""
    conversion: Conversion = field(default_factory=Conversion)
    """How an autoregressive checkpoint becomes a diffusion model."""
    adversarial: Adversarial = field(default_factory=Adversarial)
    """Training under perturbed embeddings, so that a model is harder to mislead."""
    budget: Budget = field(default_factory=Budget)
    """How much to train: one of flops, tokens, epochs, steps, minutes."""
    sft: FineTuning = field(default_factory=FineTuning)
    """Supervised fine-tuning, where the data are conversations."""
    lora: LowRank = field(default_factory=LowRank)
    """Low-rank adapters, which are trained in place of the weights of a checkpoint."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The optimiser, and its learning rates over the run."""
    length: int | None = 256
    """Tokens in a row; null for the context of the model."""
    batch: int = 32
    """Rows of a step, over all processes and accumulated micro-batches."""
    accumulate: int = 1
    """Micro-batches in a step."""
    random_length: float = 0.0
    """Share of the rows that are cut in two pieces at a random place, so that short texts are learnt too."""
    initialisation: Initialisation = "smdm"
    """How fresh weights are drawn: smdm or normal."""
    ema: float = 0.0
    """Decay of the moving average of the weights that is published; 0 publishes the weights themselves."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 autocast or fp32; auto takes bf16 where the processor is fast at it."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network; auto does so for runs long enough to repay it, whose rows are all of one length."""
    seed: int = 0
    """Seed of the weights, of the order of the rows, and of the noise."""
    validation_rows: int = 64
    """Rows of the validation split that are scored; 0 for none."""
    left_to_right_rows: int = 2
    """Rows of the validation split whose exact likelihood from left to right is worked out after the last step, beside
    their bound, in runs of one process, where the family predicts in any order; fewer where that would take over 3 %
    of the training."""
    validate_every: int | None = None
    """Steps between validations; by default a twentieth of the run, or more where validating would take over 5 % of
    the time of training."""
    save_every: int | None = None
    """Steps between checkpoints; by default a twentieth of the run, but at least 15 s."""
    log_every: int = 10
    """Steps between rows of metrics.csv."""
    devices: int = 1
    """Processes on each node."""
    nodes: int = 1
    """Nodes."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What several processes hold: each the whole network (ddp), or each a part of every layer, with its gradients
    and optimiser state, for networks that one device cannot hold (fsdp)."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """cpu, gpu, or whichever is there."""

    def __post_init__(self) -> None:
        for name in ("length", "batch", "accumulate", "log_every", "save_every", "validate_every", "devices", "nodes"):
            self._check_at_least(name, 1)
        for name in ("validation_rows", "left_to_right_rows", "seed"):
            self._check_at_least(name, 0)
        if self.batch > MOST_ROWS:
            raise RemaskError(f"batch is {self.batch}; it must be at most {MOST_ROWS}")
        if not 0 <= self.random_length <= 1:
            raise RemaskError(f"random_length is {self.random_length}; it must lie between 0 and 1")
        if not 0 <= self.ema < 1:
            raise RemaskError(f"ema is {self.ema}; it must be at least 0 and below 1")
        context = self.architecture.context
        if context is not None and self.length is not None and self.length > context:
            raise RemaskError(
                f"length is {self.length}, beyond the architecture.context of {context}: give --length {context} or "
                f"less, or --architecture.context {self.length}"
            )
        if self.batch % (self.processes * self.accumulate):
            raise RemaskError(
                f"batch is {self.batch}, which does not divide over {self.processes} processes x {self.accumulate} "
                "micro-batches"
            )

        if self.adversarial.radius and self.strategy == "fsdp":
            raise RemaskError("adversarial.radius is for networks that each process holds whole (--strategy ddp)")
        if self.adversarial.radius and self.budget.minutes is not None:
            raise RemaskError("budget.minutes times plain steps; give adversarial training epochs, steps or tokens")
        if self.strategy == "fsdp" and self.compile == "on":
            raise RemaskError("compile is on, and a network that is sharded (--strategy fsdp) is not compiled")

        if self.strategy == "fsdp" and self.lora.rank:
            raise RemaskError("lora.rank is for --strategy ddp; adapters are not sharded")

    def _check_at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if value is not None and value < least:
            raise RemaskError(f"{name} is {value}; it must be at least {least}")

    @property
    def processes(self) -> int:
        """Processes on all nodes together."""
        return self.devices * self.nodes

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the network."""
        return self.strategy == "fsdp" and self.processes > 1

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data, which YAML and JSON hold and the command line reads; without the run directory,
        so that it can be moved, and run again elsewhere."""
        return {f.name: to_plain(getattr(self, f.name)) for f in fields(self) if f.init and f.name != "out"}


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
