"""A long text as requests, in the manner of the harness: windows of the model's context, each token scored once."""

from remask.checkpoints.checkpoint import Checkpoint
from remask.evaluation.windows import rolling_windows
from remask.likelihood import Request


def windows(checkpoint: Checkpoint, text: str) -> list[Request]:
    """The requests of a text; none for an empty one.

    The first window is as long as the context; each of the others scores all but one of its tokens, and the last reads
    as many tokens before those that it scores as fit.
    """
    bos = checkpoint.family.bos
    room = checkpoint.model.architecture.context - len(bos)
    ids = checkpoint.tokenizer.encode(text) if text else []
    return [
        Request(
            ids[window.scored : window.end],
            [*bos, *ids[window.first : window.scored]],
            noise_key=f"{text}, from token {window.scored}",
        )
        for window in rolling_windows(len(ids), room, max(1, room - 1))
    ]
