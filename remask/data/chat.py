"""Conversations as the ids that a chat model reads: its special tokens around each turn.

Two templates cover the published diffusion models: headers (LLaDA, Llama 3) and ChatML (Qwen, Dream). Which one
is told by the tokens that the tokenizer has. Templates in a checkpoint are programs, and are not run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError


@dataclass(frozen=True)
class Template:
    """Special tokens around a turn: `before` role `between` text `after`."""

    before: str
    between: tuple[str, str]
    """A special token, or nothing, and plain text behind it."""
    after: tuple[str, str]
    opening: tuple[str, ...] = ()
    """The first of these that the tokenizer has begins a conversation."""


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
    """(role, text) turns, trimmed as published templates do -> ids, with the assistant's header behind if `reply`.

    RemaskError when the tokenizer has the tokens of no known template.
    """
    template = next((t for t in TEMPLATES if None not in (tokenizer.id(t.before), tokenizer.id(t.after[0]))), None)
    if template is None:
        known = ", or ".join(f"{t.before} and {t.after[0]}" for t in TEMPLATES)
        raise RemaskError(f"this tokenizer has no chat template: it lacks {known}")

    def special(name: str) -> list[int]:
        found = tokenizer.id(name) if name else None
        return [] if found is None else [found]

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
