"""Conversations as rows of ids: what is given, and the replies that are learnt.

The ids of a prompt are those that sampling puts before the text that it writes, and a reply is encoded apart from its
prompt, so that no token spans both.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from remask.data.chat import TemplateName, prompt_ids, reply_ids, template_of
from remask.data.conversations import Bad, Conversation, refuse
from remask.data.reading import Omissions
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError


@dataclass(frozen=True)
class Example:
    """One row: ids, of which those of the replies are scored."""

    ids: list[int]
    replies: list[tuple[int, int]]
    """Where each reply begins and ends, its end-of-text token included."""
    bytes: int
    """UTF-8 bytes of the text of the replies."""


@dataclass(frozen=True)
class ExampleEncoder:
    """How conversations become ids."""

    tokenizer: Tokenizer
    bos: list[int]
    """The ids before every text, as `Family.bos`."""
    start: int | None
    """The id that begins a text, as `Vocabulary.start`."""
    template: TemplateName | None = None
    """None: chat for turns, none for a prompt and its completion."""
    at_once: bool = False
    """Whether all replies of a conversation are in one row, instead of each in a row of its own with what was said
    before it."""

    def template_for(self, conversation: Conversation) -> TemplateName:
        """The template of a conversation."""
        return self.template or ("chat" if conversation.is_chat else "none")

    def examples(self, conversation: Conversation) -> list[Example]:
        """The rows of a conversation.

        RemaskError where the tokenizer lacks its template, or where all replies are to be in one row and a template
        does not allow that.
        """
        said, end = conversation.turns, self.tokenizer.vocabulary.end
        places = [i for i, (role, _) in enumerate(said) if role == "assistant"]
        if not self.at_once:
            return [self._row(conversation, [i], end) for i in places]
        return [self._row(conversation, places, end)]

    def _row(self, conversation: Conversation, places: list[int], end: int | None) -> Example:
        """The row that ends with the last of some replies, all of which are scored."""
        template, said = self.template_for(conversation), conversation.turns
        ids: list[int] = []
        replies: list[tuple[int, int]] = []
        for i in places:
            prompt = prompt_ids(self.tokenizer, said[:i], template, self.bos, self.start)
            if prompt[: len(ids)] != ids:
                raise RemaskError(
                    f"{conversation.where}: under the template {template} the text before reply {len(replies) + 1} has "
                    "other ids in one row than in a prompt, so --sft.turns all needs the template chat"
                )
            behind = any(text for _, text in said[:i])
            last = end if i == places[-1] else None
            ids = [*prompt, *reply_ids(self.tokenizer, said[i][1], template, behind, last)]
            replies.append((len(prompt), len(ids)))
        return Example(ids, replies, sum(len(said[i][1].encode()) for i in places))


class Examples:
    """Rows of different lengths, in the order of the conversations that they come from."""

    def __init__(self, found: Iterable[list[Example]]) -> None:
        """`found` are the rows of each conversation."""
        ids: list[NDArray[np.int32]] = []
        scored: list[NDArray[np.bool_]] = []
        sizes, firsts = [], [0]
        for rows in found:
            for row in rows:
                marks = np.zeros(len(row.ids), bool)
                for begin, end in row.replies:
                    marks[begin:end] = True
                ids.append(np.array(row.ids, np.int32))
                scored.append(marks)
                sizes.append(row.bytes)
            firsts.append(len(ids))
        self.lengths = np.array([len(row) for row in ids], np.int64)
        """(E,) tokens of each row."""
        self.replies = np.array([marks.sum() for marks in scored], np.int64)
        """(E,) scored tokens of each row."""
        self.bytes = np.array(sizes, np.int64)
        """(E,) bytes of the text of its replies."""
        self.firsts = np.array(firsts, np.int64)
        """(C + 1,) the first row of each conversation, and E."""
        self.ids = np.concatenate([np.zeros(0, np.int32), *ids])
        """All ids, one row behind the other."""
        self.scored = np.concatenate([np.zeros(0, bool), *scored])
        """Which of them are scored."""
        self._starts = np.concatenate([[0], self.lengths.cumsum()])

    @property
    def conversations(self) -> int:
        """C, their number."""
        return len(self.firsts) - 1

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """The ids of row i, and which of them are scored."""
        where = slice(self._starts[i], self._starts[i + 1])
        return self.ids[where], self.scored[where]


def encode_all(
    conversations: Iterable[Conversation],
    encoder: ExampleEncoder,
    length: int,
    skip: Omissions | None = None,
    most: int | None = None,
) -> Iterator[tuple[Conversation, list[Example]]]:
    """Each conversation with its rows. One with a row longer than `length` is noted in `skip` and left out, or raises
    a RemaskError that names it, and the --length that would hold it; `most` is the context of a model that has one."""
    for conversation in conversations:
        try:
            yield conversation, fitting_rows(conversation, encoder, length, most)
        except Bad as problem:
            refuse(conversation.where, str(problem), skip)


def fitting_rows(
    conversation: Conversation, encoder: ExampleEncoder, length: int, most: int | None = None
) -> list[Example]:
    """The rows of a conversation. Bad where one is longer than `length`; RemaskError as of
    `ExampleEncoder.examples`."""
    if encoder.template_for(conversation) == "chat":
        try:
            template_of(encoder.tokenizer)
        except RemaskError as error:
            raise RemaskError(f"{conversation.where}: {error}; --sft.template vicuna is plain text") from None
    rows = encoder.examples(conversation)
    longest = max(len(row.ids) for row in rows)
    if longest <= length:
        return rows
    if most is not None and longest > most:
        raise Bad(f"its {longest} tokens are beyond the context of {most} of the model, so no --length holds them")
    raise Bad(f"its {longest} tokens do not fit a row of {length}: give --length {longest} or more")
