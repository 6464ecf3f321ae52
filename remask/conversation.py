"""The prompt of a conversation: the ids that a model reads before it writes the assistant's next turn."""

from collections.abc import Sequence
from dataclasses import dataclass

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.chat import TemplateName, ending_ids, prompt_ids, reply_ids
from remask.errors import RemaskError
from remask.likelihood.request import Request
from remask.sampling.params import USUAL_LENGTH

Conversation = Sequence[tuple[str, str]]
"""Pairs of role, "user" or "assistant", and text; a first one of the role "system" says how the assistant answers."""


def prompt_of(checkpoint: Checkpoint, conversation: Conversation, template: TemplateName | None = None) -> list[int]:
    """The ids of a conversation up to the place where the assistant answers.

    Args:
        checkpoint: the model, with its tokenizer.
        conversation: its turns, the last one of the user.
        template: "chat" puts the special tokens of the tokenizer around each turn. "vicuna" is FastChat's vicuna_v1.1,
            plain text by which SMDM was fine-tuned. "none" writes the texts one behind the other. By default the one by
            which the model was fine-tuned (`trained_template`).

    Raises:
        RemaskError: the tokenizer has the special tokens of no known chat template.
    """
    family, template = checkpoint.family, template or trained_template(checkpoint)
    return prompt_ids(checkpoint.tokenizer, conversation, template, family.bos, family.vocabulary.start)


def trained_template(checkpoint: Checkpoint) -> TemplateName:
    """The template by which most of the conversations were written on which `remask train` has fine-tuned a model;
    "chat" for other models."""
    counts: dict[TemplateName, int] = checkpoint.about.get("conversations", {}).get("templates", {})
    most: list[TemplateName] = sorted(counts, key=lambda name: -counts[name])
    return most[0] if most else "chat"


def reply_end(checkpoint: Checkpoint) -> list[int]:
    """The ids that `remask train` has taught a model to write behind a reply: the one that ends a turn, under the
    template "chat", and the end-of-text token. Empty for a model that was not fine-tuned on conversations."""
    if "conversations" not in checkpoint.about:
        return []
    end = checkpoint.tokenizer.vocabulary.end
    return ending_ids(checkpoint.tokenizer, trained_template(checkpoint), end)


def require_template(checkpoint: Checkpoint, template: TemplateName) -> None:
    """RemaskError, with what can be done, where the tokenizer has the special tokens of no known chat template."""
    try:
        prompt_of(checkpoint, [("user", "")], template)
    except RemaskError as error:
        raise RemaskError(f"{error}; --template vicuna is plain text") from None


def reply_to(checkpoint: Checkpoint, conversation: Conversation, reply: str) -> Request:
    """The request of the likelihood of a reply: prompt and reply in the template of `prompt_of`, with the ids behind it
    that end a turn and that fine-tuning has taught. RemaskError where it is beyond the context."""
    template, vocabulary = trained_template(checkpoint), checkpoint.tokenizer.vocabulary
    end = vocabulary.end if "conversations" in checkpoint.about else None
    ids = reply_ids(checkpoint.tokenizer, reply, template, end=end)
    found = Request(ids, prompt_of(checkpoint, conversation, template), len(reply.encode()), characters=len(reply))
    context = checkpoint.model.architecture.context
    if found.length > context:
        raise RemaskError(
            f"a reply of {len(ids)} tokens behind a prompt of {len(found.prompt)} is beyond the context of {context}"
        )
    return found


@dataclass(frozen=True)
class Reading:
    """What of a conversation a model reads before it answers."""

    ids: list[int]
    length: int
    """Tokens that the answer may have."""
    dropped: int
    """First turns that it does not read; the system message is always read."""


def within_context(
    checkpoint: Checkpoint, conversation: Conversation, template: TemplateName, length: int | None = None
) -> Reading:
    """A conversation without its first turns, as far as they and the answer are beyond the context of the model.

    It is cut before a turn of the user. The last one always stays, and where it leaves less room than wanted, the
    answer is shorter.

    Args:
        checkpoint: the model, with its tokenizer.
        conversation: its turns, the last one of the user.
        template: as for `prompt_of`.
        length: tokens of the answer for which room is kept; by default a quarter of the context and at most 128, and
            the answer may have up to 128.

    Raises:
        RemaskError: the last turn leaves no room for an answer, or the tokenizer has no chat template.
    """
    context = checkpoint.model.architecture.context
    wanted = min(USUAL_LENGTH, context // 4) if length is None else length
    head = list(conversation[:1]) if conversation[0][0] == "system" else []
    ids: list[int] = []
    first = 0
    for first in [i for i, (role, _) in enumerate(conversation) if role == "user"]:
        ids = prompt_of(checkpoint, [*head, *conversation[first:]], template)
        if len(ids) + wanted <= context:
            break
    room = context - len(ids)
    if room < 1:
        behind = " and the system message" if head or template == "vicuna" else ""
        raise RemaskError(
            f"a prompt of {len(ids)} tokens, the last message{behind} alone, leaves nothing of the context of "
            f"{context} tokens; make it shorter"
        )
    return Reading(ids, min(length or USUAL_LENGTH, room), first - len(head))
