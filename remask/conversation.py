"""The prompt of a conversation: the ids that a model reads before it writes the assistant's next turn."""

from collections.abc import Sequence
from typing import Literal

from remask.api import encode_prompt
from remask.checkpoints.checkpoint import Checkpoint
from remask.data.chat import turns

Template = Literal["chat", "vicuna"]
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


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
    if template == "vicuna":
        return encode_prompt(checkpoint, vicuna(conversation))
    ids = turns(checkpoint.tokenizer, conversation)
    if not checkpoint.family.bos and ids[0] == checkpoint.family.vocabulary.start:
        return ids[1:]  # an autoregressive row begins with it by itself
    return ids


def vicuna(conversation: Sequence[tuple[str, str]]) -> str:
    """A conversation as FastChat's vicuna_v1.1 writes it, up to the assistant's next turn."""
    text = SYSTEM
    for role, said in conversation:
        text += f" USER: {said}" if role == "user" else f" ASSISTANT: {said}</s>"
    return f"{text} ASSISTANT:".replace("</s> USER", "</s>USER")
