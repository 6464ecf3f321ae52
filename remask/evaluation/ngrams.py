"""n-grams of texts: BLEU, and how much texts repeat themselves and each other by distinct-n and self-BLEU."""

import math
from collections import Counter
from collections.abc import Sequence

Words = Sequence[str]
Ngram = tuple[str, ...]


def ngrams(words: Words, n: int) -> list[Ngram]:
    """The n-grams of a text, in its order."""
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def distinct(texts: Sequence[Words], n: int) -> float:
    """Different n-grams over all n-grams of all texts together (Li et al. 2016); nan where there are none.

    It falls with the amount of text, so it compares only sets of equal size.
    """
    found = [gram for text in texts for gram in ngrams(text, n)]
    return len(set(found)) / len(found) if found else math.nan


def bleu(text: Words, reference: Words, n: int = 4) -> float:
    """BLEU-n of a text with one reference (Papineni et al. 2002), without smoothing: 0 where an n-gram never matches.

    The geometric mean of the precisions of 1 to n units alike, each n-gram counted at most as often as the reference
    has it, times exp(1 - r/c) where the c units of the text are fewer than the r of the reference. Units are what the
    sequences hold: words, or the characters of a string. This is `sentence_bleu([reference], text)` of NLTK, which
    gives numbers around 1e-78 in place of 0.
    """
    if not len(text):
        return 0.0
    total = 0.0
    for size in range(1, n + 1):
        own, known = Counter(ngrams(text, size)), Counter(ngrams(reference, size))
        matched = (own & known).total()
        if not matched:
            return 0.0
        total += math.log(matched / own.total()) / n
    return math.exp(total + min(0.0, 1 - len(reference) / len(text)))


def self_bleu(texts: Sequence[Words], n: int = 4) -> float:
    """Mean BLEU-n of each text with all others as its references (Zhu et al. 2018): high where texts are alike.

    Precisions of 1 to n words count alike, and a text shorter than the nearest reference is penalised. A text without
    any word of the others has 0; a precision of 2 or more words without a match counts as if 0.1 of one matched. This
    is BLEU of a sentence as in NLTK with its `method1`, which is usual for self-BLEU. Nan for fewer than two texts or
    without words. The time is linear in the amount of text.
    """
    if len(texts) < 2 or not any(len(text) for text in texts):
        return math.nan
    logs = [0.0] * len(texts)
    for size in range(1, n + 1):
        counts = [Counter(ngrams(text, size)) for text in texts]
        for i, matched in enumerate(matches(counts)):
            total = max(1, counts[i].total())
            none = -math.inf if size == 1 else math.log(0.1)
            logs[i] += ((math.log(matched) if matched else none) - math.log(total)) / n
    lengths = [len(text) for text in texts]
    scores = [
        math.exp(log + brevity(lengths[i], lengths[:i] + lengths[i + 1 :])) if lengths[i] else 0.0
        for i, log in enumerate(logs)
    ]
    return math.fsum(scores) / len(scores)


def matches(counts: Sequence[Counter[Ngram]]) -> list[int]:
    """For each text, its n-grams that occur in another one, each at most as often as in the one that has most of it."""
    most: dict[Ngram, tuple[int, int, int]] = {}  # the largest count, the text that has it, the largest among others
    for i, own in enumerate(counts):
        for gram, count in own.items():
            first, owner, second = most.get(gram, (0, -1, 0))
            most[gram] = (count, i, first) if count > first else (first, owner, max(second, count))
    found = []
    for i, own in enumerate(counts):
        among_others = ((gram, count, *most[gram]) for gram, count in own.items())
        found.append(sum(min(c, second if owner == i else first) for _, c, first, owner, second in among_others))
    return found


def brevity(length: int, references: Sequence[int]) -> float:
    """The logarithm of BLEU's penalty for a text that is shorter than the reference of the nearest length."""
    nearest = min(references, key=lambda size: (abs(size - length), size))
    return min(0.0, 1 - nearest / length)
