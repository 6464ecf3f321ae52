"""A masked model revises drafts, such as those of an autoregressive model: it hides a part of each, and writes it anew.

    for one in revise(remask.load("runs/masked"), [Draft("Sort: owl ant cat\\nAnswer:", " ant owl cat")]):
        print(one.text, one.changed)

An autoregressive model cannot take back what it has written; a masked one sees all of a draft at once. Which tokens are
hidden is decided by how probable each is given all others, the least probable first, or at random. With random ones it
is SDEdit's way (Meng et al. 2022), by which ACDC (Chung et al. 2024, arXiv 2410.04721) corrects images and videos that
an autoregressive model has made: noise to a middle level, then denoise. This is its analogue for text, not ACDC
itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from remask.batch import Batch
from remask.checkpoints.checkpoint import Checkpoint
from remask.errors import RemaskError
from remask.families.denoiser import cross_entropy
from remask.generation.rows import encode_prompt, seeds_of
from remask.model.attention import Padded
from remask.robustness.drafts import Draft
from remask.robustness.revision import Revision
from remask.sampling import Canvas, SamplingParams, start, stream
from remask.sampling.confidence import Confidence
from remask.seeds import mix_seeds
from remask.uniforms import uniforms

TOKENS = 4096
"""Tokens that the network reads in one call."""
CHOOSING = 2**40
"""Number of the draw that says which tokens are hidden, apart from the draws by which they are written."""
USUAL = Revision()


@dataclass(frozen=True)
class Revised:
    """A draft after its revision."""

    prompt: str
    text: str
    """Up to the first end-of-text token, where the revision has written one."""
    draft: str
    changed: int
    """Tokens that are others than in the draft."""
    tokens: int
    """Tokens of the draft."""


def revise(checkpoint: Checkpoint, drafts: Sequence[Draft], how: Revision = USUAL, done: int = 0) -> Iterator[Revised]:
    """The drafts, revised, in their order, without the first `done`, which are known from an earlier run.

    What becomes of one depends on it and the seed alone. Batches are those of a run that was not interrupted.

    RemaskError for a model that fills no masks, and a draft without tokens or longer than the context.
    """
    if checkpoint.family.order != "any":
        name = type(checkpoint.family).__name__
        raise RemaskError(f"drafts are revised by a model that fills masks in any order, and this one is {name}")
    rows = [row_of(checkpoint, draft, number) for number, draft in enumerate(drafts)]
    last = 0
    for batch in batches(rows):
        first, last = last, last + len(batch)
        if last <= done:
            continue
        prompts = [len(row.prompt) for row in batch]
        canvas = Canvas.of([[*row.prompt, *row.text, *row.end] for row in batch], checkpoint.model.device)
        editable = torch.zeros_like(canvas.valid)
        for i, row in enumerate(batch):
            editable[i, prompts[i] : prompts[i] + len(row.text)] = True
        revised = revise_tokens(checkpoint, replace(canvas, open=editable), how, [row.seed(how.seed) for row in batch])
        for i, row in enumerate(batch[max(0, done - first) :], start=max(0, done - first)):
            yield row.revised(checkpoint, revised[i, prompts[i] : prompts[i] + len(row.text)].tolist())


@dataclass(frozen=True)
class Row:
    """A draft as ids."""

    draft: Draft
    prompt: list[int]
    text: list[int]
    end: list[int]

    def seed(self, seed: int) -> int:
        """Of its noise."""
        return seeds_of(seed, [[*self.prompt, *self.text]])[0]

    def revised(self, checkpoint: Checkpoint, ids: list[int]) -> Revised:
        """What it has become."""
        changed = sum(a != b for a, b in zip(ids, self.text, strict=True))
        decode = checkpoint.tokenizer.decode_behind if self.draft.prompt else checkpoint.tokenizer.decode
        end = checkpoint.family.vocabulary.end
        kept = ids[: ids.index(end)] if end in ids else ids
        text = decode(kept) if changed else self.draft.text
        return Revised(self.draft.prompt, text, self.draft.text, changed, len(ids))


def row_of(checkpoint: Checkpoint, draft: Draft, number: int) -> Row:
    """The ids of a draft. RemaskError, with its number from 1 on, where it has none or too many."""
    prompt = encode_prompt(checkpoint, draft.prompt)
    text = checkpoint.tokenizer.encode(draft.text, behind=bool(draft.prompt))
    end = checkpoint.family.vocabulary.end
    row = Row(draft, prompt, text, [end] if draft.ended and end is not None else [])
    size, context = len(prompt) + len(text) + len(row.end), checkpoint.model.architecture.context
    if not text:
        raise RemaskError(f"draft {number + 1} is empty")
    if size > context:
        raise RemaskError(f"draft {number + 1} has {size} tokens with its prompt; the context is {context}")
    return row


def batches(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """The rows in parts of about `TOKENS` tokens."""
    batch, tokens = [], 0
    for row in rows:
        batch.append(row)
        tokens += len(row.prompt) + len(row.text)
        if tokens >= TOKENS:
            yield batch
            batch, tokens = [], 0
    if batch:
        yield batch


def revise_tokens(checkpoint: Checkpoint, canvas: Canvas, how: Revision, seeds: Sequence[int]) -> Tensor:
    """(B, L) ids of the canvas after all rounds. Only its open positions, which hold the drafts, may change."""
    tokens = canvas.tokens
    for number in range(how.rounds):
        own = [mix_seeds(seed, number) for seed in seeds]
        hidden = chosen(checkpoint, replace(canvas, tokens=tokens), how, own)
        state = start(checkpoint.family, Canvas(tokens, hidden, canvas.valid), written_by(how), own)
        for _ in stream(checkpoint.model, checkpoint.family, state):
            pass
        tokens = state.tokens
    return tokens


def written_by(how: Revision) -> SamplingParams:
    """How hidden tokens are written: the most certain first, one at a time."""
    return SamplingParams(sampler=Confidence(), temperature=how.temperature, stop=False)


def chosen(checkpoint: Checkpoint, canvas: Canvas, how: Revision, seeds: Sequence[int]) -> Tensor:
    """(B, L) bool: of the open positions of each row the share that is hidden, at least one."""
    count = (how.share * canvas.open.sum(1)).round().long().clamp(min=1)
    if how.choose == "random":
        other = torch.full((len(seeds),), CHOOSING)
        order = uniforms(torch.tensor(list(seeds)), other, canvas.open.shape[1]).to(canvas.open.device)
    else:
        order = certainty(checkpoint, canvas)
    rank = order.masked_fill(~canvas.open, torch.inf).argsort(dim=1, stable=True).argsort(1)
    return (rank < count[:, None]) & canvas.open


@torch.inference_mode()
def certainty(checkpoint: Checkpoint, canvas: Canvas) -> Tensor:
    """(B, L) float64: log p of the token at each open position given all other tokens of its row; 0 elsewhere."""
    found = torch.zeros(canvas.tokens.shape, dtype=torch.float64, device=canvas.tokens.device)
    places = canvas.open.nonzero()
    for some in places.split(max(1, TOKENS // canvas.tokens.shape[1])):
        row, column = some.T
        ask = torch.zeros(len(row), canvas.tokens.shape[1], dtype=torch.bool, device=row.device)
        ask[torch.arange(len(row), device=row.device), column] = True
        batch = Batch(canvas.tokens[row], canvas.valid[row], attention=Padded(canvas.valid[row]))
        noisy = checkpoint.family.inputs_for(batch, ask, torch.ones(len(row), device=row.device))
        found[row, column] = -cross_entropy(checkpoint.model, noisy).double()
    return found
