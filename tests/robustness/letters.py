"""A masked model over the letters a, b and c whose every text can be enumerated, and classifiers of it."""

import itertools
from typing import Any

import tokenizers
import torch
from tables import tiny
from tokenizers import decoders, models

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.tokenizer import Tokenizer
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.robustness.classification import Classifier
from remask.robustness.labelled import Template
from remask.vocabulary import Vocabulary

LETTERS = "abc"
MASK = 3


def tokenizer() -> Tokenizer:
    """Each letter is a token, and there is a mask."""
    inner = tokenizers.Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(LETTERS)}, merges=[]))
    inner.decoder = decoders.Fuse()  # type: ignore[assignment]
    return Tokenizer(inner)


def checkpoint(seed: int = 0, sharpness: float = 2.0, left: bool = False) -> Checkpoint:
    """A model with random weights, masked or autoregressive."""
    text = tokenizer()
    if left:  # its texts begin with an end-of-text token
        return Checkpoint(tiny(4, 4, seed=seed), Autoregressive().over(Vocabulary(size=4, end=MASK)), text, {})
    return Checkpoint(tiny(4, 3, seed=seed, sharpness=sharpness), Masked().over(text.vocabulary), text, {})


def classifier(template: str = "{text}{label}", seed: int = 0, left: bool = False, **more: Any) -> Classifier:
    """One between the labels b and c."""
    return Classifier(checkpoint(seed, left=left, **more), ["b", "c"], Template(template))


def texts(length: int) -> list[tuple[int, ...]]:
    """Every text of a length."""
    return list(itertools.product(range(3), repeat=length))


def log_probs(one: Checkpoint, row: list[int]) -> torch.Tensor:
    """(L, V) float64, what the network predicts at each position of a row."""
    with torch.inference_mode():
        return one.model(torch.tensor([row]))[0].double().log_softmax(-1)
