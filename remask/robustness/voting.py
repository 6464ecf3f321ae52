"""A vote over masked copies of a text, in which a masked model fills what is hidden before a classifier reads it.

    vote = certify(Smoothing(rate=0.7), classifier, denoiser, classifier.encode("the plot was dull"))
    vote.choice, vote.radius

An attacker does not know which tokens are kept, so a few replaced tokens are mostly hidden and written anew. What the
vote proves is in `remask.robustness.certificate`. The classifier never sees a mask, so it can be any model, and with
one that fills masks itself this is self-denoised smoothing (Zhang et al. 2024, arXiv 2404.12274). As there, one set of
draws chooses the label and another one, independent of it, bounds its probability.
"""

from collections import Counter
from dataclasses import dataclass, replace

import torch

from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.robustness.certificate import certified_radius, lower_bound
from remask.robustness.classification import Classifier, Ids
from remask.robustness.smoothing import Smoothing
from remask.sampling import Canvas, SamplingParams, start, stream
from remask.sampling.confidence import Confidence
from remask.seeds import mix_seeds
from remask.uniforms import uniforms

TOKENS = 4096
"""Tokens of the copies that are filled in together."""


@dataclass(frozen=True)
class Vote:
    """What the copies of one text say."""

    counts: tuple[int, ...]
    """Votes for each label; of a certificate, those by which the probability is bounded."""
    choice: int
    """The place of the label that is chosen."""
    length: int
    """Tokens of the text."""
    kept: int
    """Tokens that each copy keeps."""
    probability: float | None = None
    """With a certificate, the lower bound of the probability of the label."""
    radius: int | None = None
    """Tokens that may be replaced; None where there is no certificate, so that the classifier abstains."""


def vote(how: Smoothing, classifier: Classifier, denoiser: Checkpoint, text: Ids, seed: int = 0) -> Vote:
    """The label with the most votes, and no certificate."""
    counts = count_votes(how, classifier, denoiser, text, how.votes, mix_seeds(seed, 0))
    return Vote(counts, counts.index(max(counts)), len(text), how.kept(len(text)))


def certify(how: Smoothing, classifier: Classifier, denoiser: Checkpoint, text: Ids, seed: int = 0) -> Vote:
    """The label with the most votes, and how many tokens may be replaced without another one winning."""
    first = vote(how, classifier, denoiser, text, seed)
    counts = count_votes(how, classifier, denoiser, text, how.draws, mix_seeds(seed, 1))
    probability = lower_bound(counts[first.choice], how.draws, how.alpha)
    radius = certified_radius(probability, first.length, first.kept)
    return replace(first, counts=counts, probability=probability, radius=radius)


def count_votes(
    how: Smoothing, classifier: Classifier, denoiser: Checkpoint, text: Ids, copies: int, seed: int
) -> tuple[int, ...]:
    """The votes of some copies for each label."""
    filled = fill(how, classifier, denoiser, text, copies, seed)
    found = Counter(classifier.predict(filled))
    return tuple(found[i] for i in range(len(classifier.labels)))


def fill(
    how: Smoothing, classifier: Classifier, denoiser: Checkpoint, text: Ids, copies: int, seed: int
) -> list[tuple[int, ...]]:
    """Copies of a text with random tokens hidden and filled in. What is hidden, and the noise with which it is
    filled in, depend on the seed and the number of the copy and not on the text."""
    length = len(text)
    require_denoiser(classifier, denoiser)
    order = uniforms(torch.full((copies,), seed), torch.arange(copies), length).argsort(1)
    hidden = torch.zeros(copies, length, dtype=torch.bool).scatter(1, order[:, how.kept(length) :], True)
    left, right = context_of(classifier)
    params = SamplingParams(sampler=Confidence(), steps=how.steps, stop=False)
    filled: list[tuple[int, ...]] = []
    size = max(1, TOKENS // (len(left) + length + len(right)))
    for first in range(0, copies, size):
        rows = [[None if h else i for h, i in zip(own, text)] for own in hidden[first : first + size].tolist()]
        canvas = Canvas.of([[*left, *row, *right] for row in rows], denoiser.model.device)
        seeds = [mix_seeds(seed, copy) for copy in range(first, first + len(rows))]
        state = start(denoiser.family, canvas, params, seeds)
        for _ in stream(denoiser.model, denoiser.family, state):
            pass
        filled += map(tuple, state.tokens[:, len(left) : len(left) + length].tolist())
    return filled


def context_of(classifier: Classifier) -> tuple[list[int], list[int]]:
    """The ids around a text while it is filled in: those of the template, where no label stands before the text."""
    if classifier.template.text_first:
        return classifier.before, classifier.between
    return list(classifier.checkpoint.family.bos), []


def require_denoiser(classifier: Classifier, denoiser: Checkpoint) -> None:
    """RemaskError for a model that fills no masks, or has another tokenizer than the classifier."""
    if denoiser.family.order != "any":
        name = type(denoiser.family).__name__
        raise RemaskError(f"hidden tokens are filled in by a masked model, and this one is {name}; give --denoiser RUN")
    if not classifier.checkpoint.tokenizer.agrees(denoiser.tokenizer):
        raise RemaskError("the denoiser has another tokenizer than the classifier, which reads its tokens")
