"""Conversations as the ids that a chat model reads: its special tokens around each turn.

Two templates cover the published diffusion models: headers (LLaDA, Llama 3) and ChatML (Qwen, Dream). The special
tokens of the tokenizer decide which one is used. The templates in a checkpoint are programs, and are not run. Where a
tokenizer has none of these tokens there is FastChat's vicuna_v1.1, plain text by which SMDM was fine-tuned.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError

TemplateName = Literal["chat", "vicuna", "none"]
"""chat: the tokenizer's special tokens around each turn; vicuna: plain text; none: the texts one behind the other."""
SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@dataclass(frozen=True)
class Template:
    """The special tokens around a turn, in the order `before`, role, `between`, text, `after`."""

    before: str
    between: tuple[str, str]
    """A special token (or nothing) and the plain text that follows it. The same for `after`."""
    after: tuple[str, str]
    opening: tuple[str, ...] = ()
    """A conversation begins with the first of these that the tokenizer has."""


TEMPLATES = (
    Template(
        "<|start_header_id|>",
        ("<|end_header_id|>", "\n\n"),
        ("<|eot_id|>", ""),
        ("<|startoftext|>", "<|begin_of_text|>"),
    ),
    Template("<|im_start|>", ("", "\n"), ("<|im_end|>", "\n")),
)


def turns(tokenizer: Tokenizer, conversation: Sequence[tuple[str, str]], reply: bool = True) -> list[int]:
    """The ids of a conversation.

    Arguments:
        tokenizer: its special tokens decide which template is used.
        conversation: pairs of role and text. Blanks around a text are removed, as the published templates do.
        reply: whether the header of an answer by the assistant follows.

    Raises:
        RemaskError: the tokenizer has the special tokens of no known template.
    """
    template = template_of(tokenizer)

    def special(name: str) -> list[int]:
        token = tokenizer.id(name) if name else None
        return [] if token is None else [token]

    def header(role: str) -> list[int]:
        token, text = template.between
        if token:
            return [*special(template.before), *tokenizer.encode(role), *special(token), *tokenizer.encode(text)]
        return [*special(template.before), *tokenizer.encode(role + text)]

    ids = next((special(name) for name in template.opening if special(name)), [])
    for role, text in conversation:
        token, behind = template.after
        ids += [
            *header(role),
            *tokenizer.encode(text.strip()),
            *special(token),
            *(tokenizer.encode(behind) if behind else []),
        ]
    return ids + (header("assistant") if reply else [])


def template_of(tokenizer: Tokenizer) -> Template:
    """The template whose special tokens a tokenizer has. RemaskError where it has those of none."""
    template = next((t for t in TEMPLATES if None not in (tokenizer.id(t.before), tokenizer.id(t.after[0]))), None)
    if template is None:
        known = ", or ".join(f"{t.before} and {t.after[0]}" for t in TEMPLATES)
        raise RemaskError(f"this tokenizer has no chat template: it lacks {known}")
    return template


def prompt_ids(
    tokenizer: Tokenizer,
    conversation: Sequence[tuple[str, str]],
    template: TemplateName,
    bos: list[int],
    start: int | None,
) -> list[int]:
    """The ids that a model reads before it writes the assistant's next turn: the same in training and in sampling.

    Arguments:
        tokenizer: the model's.
        conversation: pairs of role and text, the last one of the user.
        template: see `TemplateName`.
        bos: the ids that stand before a text (`Family.bos`).
        start: the id that begins a text (`Vocabulary.start`); where it is not in `bos`, the family itself puts it
            before every row.

    Raises:
        RemaskError: template is "chat", and the tokenizer has the special tokens of no known one.
    """
    if template != "chat":
        text = vicuna(conversation) if template == "vicuna" else "".join(said for _, said in conversation)
        return [*bos, *(tokenizer.encode(text) if text else [])]
    ids = turns(tokenizer, conversation)
    return ids[1:] if not bos and ids[0] == start else ids


def reply_ids(
    tokenizer: Tokenizer,
    text: str,
    template: TemplateName,
    behind: bool = True,
    end: int | None = None,
) -> list[int]:
    """The ids of the assistant's turn, as they stand behind `prompt_ids`, with the one that ends the turn, and with
    `end`, which ends the text.

    `behind` says whether there is text before it. Under "chat" its ids are those that it has in a later prompt too.
    """
    ending = ending_ids(tokenizer, template, end)
    if template == "chat":
        return [*tokenizer.encode(text.strip()), *ending]
    ids = tokenizer.encode(f" {text.strip()}" if template == "vicuna" else text, behind=behind)
    return ids if ids[-1:] == ending else [*ids, *ending]


def ending_ids(tokenizer: Tokenizer, template: TemplateName, end: int | None) -> list[int]:
    """The ids behind the text of a reply: under "chat" the one that ends the turn, then `end`, unless it is the same
    one. RemaskError as of `prompt_ids`."""
    turn = tokenizer.id(template_of(tokenizer).after[0]) if template == "chat" else None
    return list(dict.fromkeys(token for token in (turn, end) if token is not None))


def vicuna(conversation: Sequence[tuple[str, str]]) -> str:
    """A conversation as FastChat's vicuna_v1.1 writes it, up to the assistant's next turn."""
    system = "".join(said for role, said in conversation if role == "system") or SYSTEM
    text = system
    for role, said in conversation:
        if role != "system":
            text += f" USER: {said}" if role == "user" else f" ASSISTANT: {said}</s>"
    return f"{text} ASSISTANT:".replace("</s> USER", "</s>USER")
