"""What a vote over randomly masked texts proves about every other text that differs from it in a few tokens.

A text of n tokens is classified again and again with n - k random tokens hidden, every set of k kept tokens equally
likely, and whatever else is random (how the hidden tokens are filled in) drawn apart from the text. Let p be the
probability of the most frequent label. A text x' that differs from x in at most d tokens reads the same wherever all of
these are hidden, which has the probability C(n-d, k) / C(n, k). So under x' the label has at least the probability

    p(x') >= p(x) - D(d),        D(d) = 1 - C(n-d, k) / C(n, k),

and it is still the most frequent one where p(x) - D(d) > 1/2 (Levine and Feizi 2020, *Robustness Certificates for
Sparse Adversarial Attacks by Randomized Ablation*; Zeng et al. 2021, RanMASK; Zhang et al. 2024, *Self-Denoised
Smoothing*, fills in what is hidden). RanMASK multiplies D by a factor below 1 that is itself estimated from samples;
here it is 1, which holds for every classifier.

p(x) is not known: it is bounded from below by the votes, by Clopper and Pearson, and the certificate holds with their
confidence. The attack replaces tokens and neither adds nor removes any.
"""

import math
from fractions import Fraction

from remask.errors import RemaskError


def lower_bound(successes: int, draws: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson bound: with probability 1 - alpha or more, p is at least this.

    It is the p with P[Binomial(draws, p) >= successes] = alpha.
    """
    from scipy.special import betaincinv

    if not 0 <= successes <= draws:
        raise RemaskError(f"there are {successes} votes of {draws}")
    if not 0 < alpha < 1:
        raise RemaskError(f"alpha is {alpha}; it must lie between 0 and 1")
    return float(betaincinv(successes, draws - successes + 1, alpha)) if successes else 0.0


def touched(length: int, kept: int, changed: int) -> Fraction:
    """D(d): the probability that at least one of `changed` tokens is among the `kept` ones, of `length`."""
    if not 0 <= kept <= length or not 0 <= changed <= length:
        raise RemaskError(f"{kept} kept and {changed} changed tokens are not among {length}")
    return 1 - Fraction(math.comb(length - changed, kept), math.comb(length, kept))


def certified_radius(probability: float, length: int, kept: int) -> int | None:
    """The most tokens that can be replaced, whichever and by whatever, without another label winning the vote.

    `probability` is that of the label, or a lower bound of it. None where it is not above one half: then nothing is
    proved, not even for the text itself, and the classifier abstains.
    """
    above = Fraction(probability) - Fraction(1, 2)
    if above <= 0:
        return None
    return max(changed for changed in range(length + 1) if touched(length, kept, changed) < above)
