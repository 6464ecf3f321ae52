"""What the runs of a study have in common, and the runs themselves: their steps, FLOPs, predicted losses and hours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from remask.data.tokens import Prepared
from remask.errors import RemaskError
from remask.families import Family, describe
from remask.model.sizes import Architecture
from remask.scaling.plan.ladder import nearest_size
from remask.scaling.plan.study import Convention, Run
from remask.scaling.plan.timing import Speeds
from remask.training.optim import Kind

Predict = Callable[[float, float, float], float]
"""Loss of N parameters trained for some epochs on U distinct tokens: predict(N, U, epochs)."""


@dataclass(frozen=True)
class Settings:
    """What all runs of a study have in common."""

    prepared: Prepared
    convention: Convention
    length: int
    batch: int
    rate: Callable[[Architecture, int], float]
    """Peak learning rate of AdamW, of a network and the tokens of a step."""
    optimizer: Kind = "adamw"
    convolution: int = 0
    speeds: Speeds | None = None

    def curve(self, spec: str, family: Family, c: float, sizes: Sequence[float], predict: Predict) -> list[Run]:
        """The runs of one family at one budget, from small to large."""
        found: list[Run] = []
        for size in sizes:
            shape = self.shape(size)
            steps = int(c / self.costs(family, shape)[self.convention] / (self.batch * self.length))
            if steps < 1:
                raise RemaskError(
                    f"a budget of {c:.3g} FLOPs is less than one step of {self.batch} rows of {self.length} tokens of "
                    f"a network of {shape.non_embedding:,} parameters; give a larger budget or smaller batches"
                )
            if not found or shape.non_embedding > found[-1].n:  # the ladder has a rung between
                found.append(self.run(spec, family, shape, steps, predict, c, f"{c:g}"))
        return found

    def repeats(self, spec: str, family: Family, epochs: Sequence[float], n: float, predict: Predict) -> list[Run]:
        """The runs of one network that read the corpus so many times."""
        shape, found = self.shape(n), []
        for count in sorted(epochs):
            steps = round(count * self.corpus / (self.batch * self.length))
            if steps < 1:
                raise RemaskError(f"{count:g} epochs of {self.corpus:,} tokens are less than one step")
            c = self.costs(family, shape)[self.convention] * steps * self.batch * self.length
            found.append(self.run(spec, family, shape, steps, predict, c, f"{count:g}x"))
        return found

    def shape(self, size: float) -> Architecture:
        """The network of the ladder that is nearest to `size` parameters, with the study's convolutions."""
        return replace(nearest_size(size), convolution=self.convolution)

    @property
    def corpus(self) -> int:
        """Tokens of the training split."""
        return int(self.prepared.manifest["train"]["tokens"])

    def costs(self, family: Family, shape: Architecture) -> dict[Convention, float]:
        """FLOPs of a token, by both conventions."""
        exact = family.flops(self.whole(family, shape), self.length)
        return {"6ND": 6 * shape.non_embedding * family.reads, "exact": exact}

    def whole(self, family: Family, shape: Architecture) -> Architecture:
        """The network with the vocabulary, context and time that it is trained with."""
        vocabulary = self.prepared.tokenizer.vocabulary
        sizes = {"rows": vocabulary.size, "predicted": vocabulary.predicted, "context": self.length}
        return replace(shape, **sizes, time=family.time == "required")

    def run(
        self, spec: str, family: Family, shape: Architecture, steps: int, predict: Predict, budget: float, tag: str
    ) -> Run:
        """One run, named by its family, `tag` and N."""
        full, tokens, costs = self.whole(family, shape), steps * self.batch * self.length, self.costs(family, shape)
        seconds = 0.0
        if self.speeds is not None:
            seconds = self.speeds.seconds(family.over(self.prepared.tokenizer.vocabulary), full)
        return Run(
            name=f"{spec.translate(str.maketrans(':=,', '---'))}-{tag}-{shape.non_embedding}",
            family=describe(family),
            label=spec,
            budget=budget,
            layers=shape.layers,
            width=shape.width,
            heads=shape.heads,
            ffn=shape.ffn,
            n=shape.non_embedding,
            parameters=full.parameters,
            tokens=tokens,
            steps=steps,
            epochs=tokens / self.corpus,
            batch=self.batch,
            lr=self.rate(shape, self.batch * self.length),
            optimizer=self.optimizer,
            convolution=self.convolution,
            flops_6n=costs["6ND"] * tokens,
            flops_exact=costs["exact"] * tokens,
            loss=predict(shape.non_embedding, min(tokens, self.corpus), max(1.0, tokens / self.corpus)),
            hours=None if self.speeds is None else seconds * steps / 3600,
        )
