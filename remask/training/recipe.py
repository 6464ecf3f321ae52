"""Everything that a training run is told.

    train(Recipe(data=Path("data/novels"), out=Path("runs/first"), model="10M", budget=Budget(minutes=30)))

`remask train` fills the same fields from its options and from a YAML file; the description below a field is the help
of its option. A run directory keeps its recipe as config.yaml, which can be run again, and in run.json. What it has in
common with distillation, reinforcement and preferences is in `remask.training.base`.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from remask.errors import RemaskError
from remask.families import Family
from remask.families.masked import Masked
from remask.model.sizes import SizeOverrides
from remask.model.transformer import Initialisation
from remask.training.adapters import LowRank
from remask.training.adversarial import Adversarial
from remask.training.base import CorpusTraining
from remask.training.fine_tuning import FineTuning
from remask.training.optim import Budget


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """How an autoregressive checkpoint becomes a diffusion model."""

    keep_shift: bool = False
    """Predict the token of a position from the hidden state of the one before it, as the checkpoint does, so that its
    head is used as it is (DiffuLLaMA, Dream)."""
    fresh_head: bool = False
    """Draw the output head anew."""


@dataclass(frozen=True, kw_only=True)
class Recipe(CorpusTraining):
    """What a run trains, on what, how much and how. RemaskError for a value that is out of range."""

    listed_first: ClassVar[tuple[str, ...]] = ("data", "out", "family", "model", "architecture")

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
    length: int | None = 256
    """Tokens in a row; null for the context of the model."""
    initialisation: Initialisation = "smdm"
    """How fresh weights are drawn: smdm or normal."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """What several processes hold: each the whole network (ddp), or each a part of every layer, with its gradients
    and optimiser state, for networks that one device cannot hold (fsdp)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        context = self.architecture.context
        if context is not None and self.length is not None and self.length > context:
            raise RemaskError(
                f"length is {self.length}, beyond the architecture.context of {context}: give --length {context} or "
                f"less, or --architecture.context {self.length}"
            )
        if self.adversarial.radius and self.strategy == "fsdp":
            raise RemaskError("adversarial.radius is for networks that each process holds whole (--strategy ddp)")
        if self.adversarial.radius and self.budget.minutes is not None:
            raise RemaskError("budget.minutes times plain steps; give adversarial training epochs, steps or tokens")
        if self.strategy == "fsdp" and self.compile == "on":
            raise RemaskError("compile is on, and a network that is sharded (--strategy fsdp) is not compiled")
        if self.strategy == "fsdp" and self.lora.rank:
            raise RemaskError("lora.rank is for --strategy ddp; adapters are not sharded")

    @property
    def sharded(self) -> bool:
        return self.strategy == "fsdp" and self.processes > 1
