"""Classification by a language model: the label under which what stands last in a template is the most probable.

    classifier = Classifier(remask.load("runs/x"), ["good", "bad"], Template("{text} => {label}"))
    for ranking in classifier([classifier.encode("the plot was dull")]):
        print(classifier.labels[ranking.best[0]], ranking.settled)

With "{text} => {label}" it is the most probable label given the text; with "{label}: {text}" the label given which the
text is the most probable, so that a generative model is the classifier, its labels equally likely beforehand. A model
that `remask train` has fine-tuned on replies is asked for what stands last and its end, as it has learnt them, so that
one label may begin another. Values of an autoregressive model are exact; those of a diffusion model are bounds, from
the same noise for all labels of a text and with no more draws than it takes to know the best
(`remask.likelihood.ranking`). Classification by a diffusion model in order to be robust is the idea of ROIC-DM (Yuan et
al. 2024), whose model diffuses the label; this is that of diffusion classifiers (Li et al. 2023), on text.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from remask.checkpoints.checkpoint import Checkpoint
from remask.conversation import reply_end
from remask.errors import RemaskError
from remask.likelihood import Estimator, Ranking, Request, choose, rank
from remask.robustness.labelled import Template

Ids = Sequence[int]
"""A text as the ids of its tokens. Attacks and masks work on these."""


@dataclass(frozen=True)
class Classifier:
    """A model, labels and a template."""

    checkpoint: Checkpoint
    labels: Sequence[str]
    template: Template = field(default_factory=Template)
    estimator: Estimator | None = None
    """How -log p is found; by default in the first way that fits the family."""
    confidence: float = 0.95
    """Least probability that the draws end with the label that all draws would give."""

    def __post_init__(self) -> None:
        if len(set(self.labels)) != len(self.labels) or len(self.labels) < 2:
            raise RemaskError(
                f"labels are {', '.join(self.labels) or 'none'}; there must be two or more different ones"
            )
        if not all(label.strip() for label in self.labels):
            raise RemaskError("a label is empty")

    def encode(self, text: str) -> list[int]:
        """The ids of a text at its place in the template."""
        place = self.template.first(text) if self.template.text_first else self.template.last(text)
        behind = bool(self.template.before) if self.template.text_first else True
        ids = self.checkpoint.tokenizer.encode(place, behind=behind)
        size = max(len(self.request(ids, label).target) + len(self.request(ids, label).prompt) for label in self.labels)
        context = self.checkpoint.model.architecture.context
        if size > context:
            raise RemaskError(f"the text {text[:40]!r} with its label is {size} tokens; the context is {context}")
        return ids

    def request(self, text: Ids, label: str) -> Request:
        """What is scored for a label: what stands last in the template, with `end` behind it."""
        behind = bool(self.template.before)
        if self.template.text_first:
            last = self._encode(self.template.last(label), True)
            return Request([*last, *self.end], [*self.before, *text, *self.between])
        first = self._encode(self.template.first(label), behind)
        return Request([*text, *self.end], [*self.before, *first, *self.between])

    @cached_property
    def before(self) -> list[int]:
        """The ids before the first field."""
        return [*self.checkpoint.family.bos, *self._encode(self.template.before, False)]

    @cached_property
    def end(self) -> list[int]:
        """The ids that end a reply, which are scored too, of a model that was fine-tuned on replies."""
        return reply_end(self.checkpoint)

    @cached_property
    def between(self) -> list[int]:
        """The ids between the two fields."""
        return self._encode(self.template.between, True)

    def _encode(self, text: str, behind: bool) -> list[int]:
        return self.checkpoint.tokenizer.encode(text, behind=behind) if text else []

    def __call__(self, texts: Iterable[Ids], show: bool = False) -> Iterator[Ranking]:
        """What is known of the labels of each text, in the order of the texts."""
        model, family = self.checkpoint.model, self.checkpoint.family
        questions = ([self.request(text, label) for label in self.labels] for text in texts)
        estimator = self.estimator or choose(family)
        return rank(
            model, family, questions,
            estimator=estimator, confidence=self.confidence, device=model.device, show=show,
        )  # fmt: skip

    def predict(self, texts: Sequence[Ids]) -> list[int]:
        """The place of the best label of each text. Texts that are there several times are read once."""
        different = list(dict.fromkeys(map(tuple, texts)))
        best = {text: one.best[0] for text, one in zip(different, self(different), strict=True)}
        return [best[tuple(text)] for text in texts]

    def nats(self, texts: Sequence[Ids]) -> list[list[float]]:
        """-log p of every label of each text, as far as it was drawn."""
        return [[estimate.nats for estimate in one.estimates] for one in self(texts)]
