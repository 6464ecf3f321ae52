"""WikiText as plain text: its articles, with spaces and punctuation as people write them.

The rules are those of the task `wikitext` of lm-evaluation-harness, in the same order, so that figures can be compared.
Perplexities per word and per byte count the words and bytes of the article as it stands in the file.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

ARTICLE = re.compile(r"^ = [^=\n].* = $", re.M)
"""The heading of an article; those of its sections have more equals signs."""
SPACED = (" @-@ ", " @,@ ", " @.@ ")
"""What stands for a hyphen, comma or point within a word or number."""
PAIRS = (("(", ")"), ("[", "]"), ("{", "}"), ('"', '"'), ("'", "'"))
"""What stands around a text without a space."""
LAST = (
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \u00b0 ", "\u00b0"),
    (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip


def articles(text: str) -> Iterator[str]:
    """The articles of a file of WikiText, each with its heading; what stands before the first is one too."""
    starts = [0, *(found.start() for found in ARTICLE.finditer(text)), len(text)]
    parts = (text[start:end] for start, end in pairwise(starts))
    return (part for part in parts if part.strip())


def detokenize(article: str) -> str:
    """An article without the spaces that the tokenisation of WikiText put around punctuation."""
    text = article.replace("s '", "s'")
    text = re.sub(r"/' [0-9]/", r"/'[0-9]/", text)  # as published, where it hardly ever fits
    for spaced in SPACED:
        text = text.replace(spaced, spaced[2])
    for mark in ":;.!?,":
        text = text.replace(f" {mark} ", f"{mark} ")
    for start, end in PAIRS:
        a, b = re.escape(start), re.escape(end)
        text = re.sub(rf"{a}\s*([^{b}]*?)\s*{b}", lambda m, s=start, e=end: s + m[1] + e, text)
    for before, after in LAST:
        text = text.replace(before, after)
    return text
