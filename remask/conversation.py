"""The prompt of a conversation: the ids that a model reads before it writes the assistant's next turn."""

from collections.abc import Sequence
from typing import Literal

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.chat import SYSTEM, prompt_ids, vicuna

__all__ = ["SYSTEM", "Template", "prompt_of", "vicuna"]

Template = Literal["chat", "vicuna"]


def prompt_of(
    checkpoint: Checkpoint, conversation: Sequence[tuple[str, str]], template: Template = "chat"
) -> list[int]:
    """The ids of a conversation up to the place where the assistant answers.

    Args:
        checkpoint: the model, with its tokenizer.
        conversation: pairs of role, "user" or "assistant", and text, the last one of the user.
        template: "chat" puts the special tokens of the tokenizer around each turn. "vicuna" is FastChat's vicuna_v1.1,
            plain text by which SMDM was fine-tuned.

    Raises:
        RemaskError: the tokenizer has the special tokens of no known chat template.
    """
    return prompt_ids(
        checkpoint.tokenizer, conversation, template, checkpoint.family.bos, checkpoint.family.vocabulary.start
    )
