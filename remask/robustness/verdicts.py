"""Labelled texts, classified: plainly, after an attack, and by a vote with a certificate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.evaluation.proportions import binomial_error
from remask.robustness.attack import attack, neutral
from remask.robustness.classification import Classifier, Ids
from remask.robustness.labelled import Labelled
from remask.robustness.smoothing import Smoothing
from remask.robustness.voting import Vote, certify, vote
from remask.seeds import mix_seeds


@dataclass(frozen=True)
class Verdict:
    """What was found for one text. Labels are given by their places."""

    label: int
    """The right one."""
    best: int
    """The most probable one."""
    settled: bool
    """Whether it was told apart from the others at the chosen confidence."""
    attacked: int | None = None
    """The most probable one after the attack on the classifier."""
    replaced: int = 0
    """Tokens that the attack replaced."""
    vote: Vote | None = None
    """What masked copies of the text say."""
    attacked_vote: Vote | None = None
    """What masked copies of the attacked text say; the attack was one on the classifier alone."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is tried on every text."""

    smoothing: Smoothing | None = None
    """A vote over masked copies, with a certificate; None: there is none."""
    denoiser: Checkpoint | None = None
    """The model that fills in masked copies; by default that of the classifier."""
    attack: int = 0
    """Tokens that an attack may replace; 0: there is none."""
    tries: int = 32
    """Replacements that the attack reads for each of them."""
    candidates: Sequence[int] = ()
    """Tokens that the attack may replace by each other (`remask.robustness.attack.neutral`)."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.attack < 0 or self.tries < 1:
            raise RemaskError(f"attack is {self.attack} and tries {self.tries}; they must be at least 0 and 1")
        if self.attack and len(self.candidates) < 2:
            raise RemaskError(
                "there are not two tokens that say little about the label, by which an attack could replace each "
                "other; give more texts"
            )

    def run(self, classifier: Classifier, rows: Sequence[Labelled]) -> Iterator[Verdict]:
        """What is found for each row, in their order."""
        places = {label: i for i, label in enumerate(classifier.labels)}
        texts, labels = [classifier.encode(row.text) for row in rows], [places[row.label] for row in rows]
        for number, (text, label, ranking) in enumerate(zip(texts, labels, classifier(texts), strict=True)):
            attacked, changed = None, list(text)
            if self.attack:
                changed = attack(
                    classifier.nats, text, label,
                    budget=self.attack, tries=self.tries, candidates=self.candidates, seed=mix_seeds(self.seed, number),
                )  # fmt: skip
                (attacked,) = classifier.predict([changed])
            yield Verdict(
                label,
                ranking.best[0],
                ranking.settled,
                attacked,
                sum(a != b for a, b in zip(text, changed, strict=True)),
                self.vote(classifier, text, certified=True),
                self.vote(classifier, changed, certified=False) if self.attack else None,
            )

    def vote(self, classifier: Classifier, text: Ids, certified: bool) -> Vote | None:
        """What masked copies of a text say, with or without a certificate."""
        if self.smoothing is None:
            return None
        taken = certify if certified else vote
        return taken(self.smoothing, classifier, self.denoiser or classifier.checkpoint, text, self.seed)


def neutral_tokens(classifier: Classifier, rows: Sequence[Labelled]) -> list[int]:
    """The tokens of labelled texts that say little about the label."""
    return neutral([classifier.encode(row.text) for row in rows], [classifier.labels.index(row.label) for row in rows])


def share(right: Sequence[bool]) -> tuple[float, float]:
    """The share of what is right, and its binomial error, by which all or none of a few are not certain."""
    return sum(right) / len(right), binomial_error(sum(right), len(right))


def summary(found: Sequence[Verdict]) -> dict[str, tuple[float, float]]:
    """The shares of right answers, in words, each with its error: plainly, under attack, of the vote, and certified
    for a number of replaced tokens: right, and proved to stay so whichever tokens are replaced."""
    lines = {"right": share([one.best == one.label for one in found])}
    if found[0].attacked is not None:
        lines["right under attack"] = share([one.attacked == one.label for one in found])
    votes = [(one.label, one.vote) for one in found if one.vote is not None]
    if votes:
        lines["vote is right"] = share([vote.choice == label for label, vote in votes])
        radii = [-1 if vote.radius is None or vote.choice != label else vote.radius for label, vote in votes]
        for radius in range(max(radii) + 1):
            lines[f"certified for {radius} replaced"] = share([own >= radius for own in radii])
        lines["abstained"] = share([vote.radius is None for _, vote in votes])
    after = [(one.label, one.attacked_vote) for one in found if one.attacked_vote is not None]
    if after:
        lines["vote is right under that attack"] = share([vote.choice == label for label, vote in after])
    return lines
