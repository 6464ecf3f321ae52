"""Conversations as the ids that a chat model reads: its special tokens around each turn.

Two templates cover the published diffusion models: headers (LLaDA, Llama 3) and ChatML (Qwen, Dream). The special
tokens of the tokenizer decide which one is used. The templates in a checkpoint are programs, and are not run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError


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
    template = next((t for t in TEMPLATES if None not in (tokenizer.id(t.before), tokenizer.id(t.after[0]))), None)
    if template is None:
        known = ", or ".join(f"{t.before} and {t.after[0]}" for t in TEMPLATES)
        raise RemaskError(f"this tokenizer has no chat template: it lacks {known}")

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
