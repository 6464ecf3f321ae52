"""An autoregressive model as the judge of texts: its NLL, beside the token entropy of the texts.

A judge likes repetition, and noise has entropy, so that neither number tells alone how good texts are. Token entropy is
that of the frequencies of the ids within one text.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from remask.checkpoints.checkpoint import Checkpoint, load
from remask.data.tokens import Prepared
from remask.errors import RemaskError
from remask.likelihood import Request, score

WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The quality of some texts: means over them, with their standard errors."""

    nll: float
    """-log p per token under the judge, in nats."""
    nll_error: float
    entropy: float
    """Token entropy: that of the frequencies of the ids within one text, in nats."""
    entropy_error: float


def open_judge(name: str, path: str | Path, prepared: Prepared, device: str) -> Checkpoint:
    """The model that judges; RemaskError where it is not autoregressive, or has another tokenizer than the texts."""
    critic = load(path, device=device)
    if not prepared.tokenizer.agrees(critic.tokenizer):
        raise RemaskError(f"{name} has another tokenizer than {prepared.folder}: it cannot judge texts by their ids")
    if not critic.family.exact:
        raise RemaskError(f"{name} is no autoregressive model: a judge's likelihood must be exact and that of a text")
    return critic


def judge_texts(
    critic: Checkpoint, rows: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]] | None = None
) -> Quality:
    """The quality of at least two texts, ids of the judge's vocabulary, each given its prompt."""
    texts = [Request(row, prompt) for row, prompt in zip(rows, prompts or [()] * len(rows), strict=True)]
    scores = score(critic.model, critic.family, texts, device=critic.model.device)
    nats = torch.tensor([estimate.nats_per_token for _, estimate in scores], dtype=torch.float64)
    entropy = torch.tensor([entropy_of(torch.tensor(row)) for row in rows], dtype=torch.float64)
    of = {"nll": nats, "entropy": entropy}
    errors = {f"{name}_error": float(x.std() / math.sqrt(len(x))) for name, x in of.items()}
    return Quality(**{name: float(x.mean()) for name, x in of.items()}, **errors)


def entropy_of(row: torch.Tensor) -> float:
    """The entropy of the frequencies of the ids in one text, (L,), in nats."""
    share = row.unique(return_counts=True)[1].double() / len(row)
    return -float((share * share.log()).sum())


def fingerprint(path: str | Path) -> str:
    """A hash of a model's weights, so that measurements of other weights are not taken for theirs.

    Of a run directory or a published folder, of a file, or of the weight files of a folder. Any other name, as that of
    the Hub, stands for itself.
    """
    path = Path(path)
    ours = [file for folder in (path / "latest", path) if (file := folder / "model.safetensors").exists()][:1]
    files = ours or ([path] if path.is_file() else sorted(p for p in path.glob("*") if p.suffix in WEIGHT_FILES))
    if not files:
        return str(path)
    digests = []
    for one in files:
        with open(one, "rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests[0][:16] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
