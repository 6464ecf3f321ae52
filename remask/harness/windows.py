"""A long text as requests, in the manner of the harness: windows of the model's context, each token scored once."""

from remask.checkpoints.checkpoint import Checkpoint
from remask.likelihood import Request


def windows(checkpoint: Checkpoint, text: str) -> list[Request]:
    """The requests of a text; none for an empty one.

    The first window is as long as the context; each of the others scores all but one of its tokens, and the last reads
    as many tokens before those that it scores as fit.
    """
    bos = checkpoint.family.bos
    room = checkpoint.model.architecture.context - len(bos)
    ids = checkpoint.tokenizer.encode(text) if text else []
    found, first = [], 0
    while first < len(ids):
        last = min(len(ids), first + (room if first == 0 else room - 1))
        before = ids[max(0, last - room) : first]
        found.append(Request(ids[first:last], [*bos, *before], noise_key=f"{text}, from token {first}"))
        first = last
    return found
