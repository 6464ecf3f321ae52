"""Chat templates as the harness wants them: a conversation becomes a text, which is made into ids later.

So special tokens stand in the text by their names, and are found again when it is encoded. Elsewhere in this package a
special token that is spelled out in a text is text.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.data.chat import TEMPLATES, TemplateName, turns, vicuna
from remask.data.tokenizer import Tokenizer

NAMES = sorted({name for t in TEMPLATES for name in (t.before, t.between[0], t.after[0], *t.opening) if name})
"""The special tokens of all templates."""


def chat_text(
    tokenizer: Tokenizer, history: Sequence[dict[str, str]], reply: bool, template: TemplateName = "chat"
) -> str:
    """A conversation as text. Without `reply` its last turn stays open, so that an answer that is begun goes on.

    RemaskError where the template is "chat", and the tokenizer has the special tokens of no known one.
    """
    said = [(turn["role"], turn["content"]) for turn in history]
    if template == "none":
        return "".join(text for _, text in said)
    if template == "vicuna":
        return vicuna(said) if reply else f"{vicuna(said[:-1])} {said[-1][1]}"
    ids = turns(tokenizer, said, reply=reply)
    text, plain = "", list[int]()
    for token in ids:
        name = tokenizer.name(token)
        if name in NAMES:
            text, plain = text + tokenizer.decode(plain) + name, []
        else:
            plain.append(token)
    text += tokenizer.decode(plain)
    if not reply:
        closing = next((name for name in (t.after[0] for t in TEMPLATES) if tokenizer.id(name) is not None), "")
        text = text.rstrip("\n").removesuffix(closing)
    return text


class WithChat:
    """A tokenizer that reads the special tokens of chat templates where they are spelled out."""

    def __init__(self, inner: Tokenizer, start: int | None) -> None:
        self.inner, self.start = inner, start
        self.known = {name: i for name in NAMES if (i := inner.id(name)) is not None}
        self.names = re.compile(f"({'|'.join(map(re.escape, self.known))})") if self.known else None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, with those of the templates' special tokens in it."""
        if self.names is None:
            return self.inner.encode(text)
        ids: list[int] = []
        for part in filter(None, self.names.split(text)):
            ids += [self.known[part]] if part in self.known else self.inner.encode(part)
        return ids[1:] if ids and ids[0] == self.start else ids

    @staticmethod
    def around(checkpoint: Checkpoint) -> Checkpoint:
        """A checkpoint whose tokenizer is one of this kind."""
        family = checkpoint.family
        begins = family.exact or bool(family.bos)  # the start of a text is put before it in any case
        text: Any = WithChat(checkpoint.tokenizer, family.vocabulary.start if begins else None)
        return replace(checkpoint, text=text)
