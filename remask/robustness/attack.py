"""An attack on a classifier: a few tokens of a text are replaced so that another label becomes the most probable.

    changed = attack(classifier.nats, text, label, budget=3, tries=32, candidates=ids, seed=0)

Greedy: at each of at most `budget` turns, `tries` random replacements of one token that has not been replaced yet are
read, and the one stays after which the right label is ahead the least, or behind the most. With one try, tokens are
replaced at random and nothing is asked of the classifier. A black-box attack in the manner of TextFooler (Jin et al.
2020), without its synonyms: what leaves the meaning is given by `candidates`, of which `neutral` makes a list.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np

from remask.errors import RemaskError
from remask.robustness.classification import Ids

Scorer = Callable[[Sequence[Ids]], list[list[float]]]
"""Texts -> for each of them a cost of every label, such as -log p; the label of the least cost is the answer."""


def attack(
    scorer: Scorer, text: Ids, label: int, *, budget: int, tries: int, candidates: Collection[int], seed: int
) -> list[int]:
    """A text that differs from `text` in at most `budget` tokens, where candidates stand in place of candidates.

    It ends as soon as another label than `label` is the best. RemaskError without candidates.
    """
    if budget < 1 or tries < 1 or len(set(candidates)) < 2:
        raise RemaskError(f"an attack needs a budget, tries and two candidates: {budget}, {tries}, {len(candidates)}")
    rng = np.random.default_rng(seed)
    pool, now = np.array(sorted(set(candidates))), list(text)
    places = [i for i, token in enumerate(text) if token in set(candidates)]
    for _ in range(min(budget, len(places))):
        variants = []
        for _ in range(tries):
            place = places[int(rng.integers(len(places)))]
            others = pool[pool != now[place]]
            variants.append((place, [*now[:place], int(others[rng.integers(len(others))]), *now[place + 1 :]]))
        margins = [0.0] if tries == 1 else [margin(costs, label) for costs in scorer([one for _, one in variants])]
        best = int(np.argmin(margins))
        place, now = variants[best]
        places.remove(place)
        if margins[best] < 0:
            break
    return now


def margin(costs: Sequence[float], label: int) -> float:
    """By how much the right label is ahead of the best other one; negative where it is behind."""
    return min(cost for i, cost in enumerate(costs) if i != label) - costs[label]


def neutral(texts: Sequence[Ids], labels: Sequence[int], least: int = 5, most: float = 1.25) -> list[int]:
    """Tokens that say little about the label: those in at least `least` texts, and in those of no label more than
    `most` times as often as chance would have it. To replace one by another leaves the label as it was."""
    of_label = Counter(labels)
    seen: dict[int, Counter[int]] = {}
    for text, label in zip(texts, labels, strict=True):
        for token in set(text):
            seen.setdefault(token, Counter())[label] += 1

    def usual(counts: Counter[int]) -> bool:
        total = sum(counts.values())
        return total >= least and all(n <= most * total * of_label[i] / len(labels) for i, n in counts.items())

    return sorted(token for token, counts in seen.items() if usual(counts))
