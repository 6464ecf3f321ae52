"""Supervised fine-tuning: the options of a recipe whose data are conversations, and how these are opened.

    remask train --data chats.jsonl --model runs/base --family Masked --budget.epochs 3 --out runs/chat

Only replies are noised and scored; prompts are read as they are.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from remask.data.chat import TemplateName
from remask.data.conversations import Conversation, conversation_files, read_conversations
from remask.data.example_batches import ExampleBatches, ExampleRows, Layout
from remask.data.examples import Example, ExampleEncoder, Examples, encode_all
from remask.data.reading import Omissions
from remask.data.survey import digest
from remask.data.tokenizer import Tokenizer
from remask.data.tokens import MANIFEST
from remask.errors import RemaskError
from remask.families import Family
from remask.terminal import say


@dataclass(frozen=True, kw_only=True)
class ConversationReading:
    """How conversations are read. RemaskError for a value that is out of range."""

    template: TemplateName | None = None
    """What stands around the turns. chat: the special tokens of the tokenizer. vicuna: FastChat's plain text. none:
    nothing. By default chat, and none for rows of a prompt and its completion."""
    validation: Path | None = None
    """Conversations for validation, a file or a folder of JSON Lines, instead of a share of the data. At least one must
    be usable."""
    validation_share: float = 0.02
    """Share of the conversations held out for validation, by the hash of their first turn; at least one."""
    skip_bad: bool = False
    """Leave out rows that cannot be used, and count them, instead of stopping at the first."""

    def __post_init__(self) -> None:
        if not 0 <= self.validation_share < 1:
            raise RemaskError(f"sft.validation_share is {self.validation_share}; it must be at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class FineTuning(ConversationReading):
    """How a model learns from conversations. RemaskError for a value that is out of range."""

    turns: Literal["one", "all"] | None = None
    """Of a conversation with several replies, one of them with what was said before it, drawn anew in each epoch
    (LLaDA), or all of them in one row, in which a network that sees both sides reads what was said after a reply. By
    default all for families that write from left to right, and one for the others."""
    padding: Literal["end", "none"] | None = None
    """What follows a reply up to the longest row of a step. end: end-of-text tokens that are part of the reply, from
    which a model learns how long replies are (LLaDA, SMDM). none: nothing, so that the number of masks tells the length
    of the reply. By default none for families that write from left to right, and end for the others."""
    weights: Literal["tokens", "examples"] = "tokens"
    """Whether each scored token weighs the same in the loss of a step, or each row, by the mean over its tokens
    (LLaDA)."""
    pack: bool = False
    """Put several conversations into a row of --length tokens. They do not see each other, and each is padded to a
    multiple of 32 where the padding is end."""
    drop_prompt: float = 0.0
    """Chance that a row is learnt without its prompt, which is masked: for standard guidance (0.1 in SMDM)."""
    tokenizer: str | None = None
    """For a named size, which has none: bytes, a tokenizer.json, or a folder with one, such as a prepared one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.drop_prompt < 1:
            raise RemaskError(f"sft.drop_prompt is {self.drop_prompt}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class RowKind:
    """What the rows of data are called, and what one of them looks like, for messages."""

    name: str
    plural: str
    sample: str


CONVERSATIONS = RowKind("conversation", "conversations", '{"prompt": "2 + 2 =", "completion": " 4"}')
ReadRows = Callable[[Path, Omissions | None], Iterator[tuple[Conversation, list[Example]]]]
"""(a file or a folder, where to note rows that are left out) -> conversations, each with the rows that it makes."""


@dataclass(frozen=True)
class Conversations:
    """Conversations as rows of ids, in two splits."""

    tokenizer: Tokenizer
    train: Examples
    valid: Examples
    fingerprint: str
    """A hash of all rows."""
    about: dict[str, Any]
    """What they are, for the model's card."""


def is_conversations(data: Path) -> bool:
    """Whether a recipe's data are conversations, and not a prepared folder."""
    return not (data / MANIFEST).is_file() and bool(conversation_files(data))


def open_conversations(
    data: Path, options: FineTuning, family: Family, tokenizer: Tokenizer, length: int, most: int | None = None
) -> Conversations:
    """Reads and encodes the conversations of a recipe, in rows of up to `length` tokens, which could have up to `most`.
    `family` is bound to the ids of the model.

    RemaskError for a row that cannot be used, with its file and line, and where none is left to train on, or for the
    validation that is asked for.
    """
    at_once = (options.turns or ("all" if family.order == "left" else "one")) == "all"
    encoder = ExampleEncoder(tokenizer, family.bos, family.vocabulary.start, options.template, at_once)

    def read(path: Path, skip: Omissions | None) -> Iterator[tuple[Conversation, list[Example]]]:
        return encode_all(read_conversations(path, skip), encoder, length, skip, most)

    return open_splits(data, options, encoder, read, CONVERSATIONS)


def open_splits(
    data: Path, options: ConversationReading, encoder: ExampleEncoder, read: ReadRows, kind: RowKind
) -> Conversations:
    """What `read` finds, in two splits; errors as of `open_conversations`."""
    if options.validation is not None and not conversation_files(options.validation):
        raise RemaskError(no_validation(options.validation, "where no .jsonl file is", kind))
    skip = Omissions() if options.skip_bad else None
    templates: dict[str, int] = {}

    def encoded(path: Path) -> Iterator[tuple[int, list[Example]]]:
        for conversation, rows in read(path, skip):
            template = encoder.template_for(conversation)
            templates[template] = templates.get(template, 0) + 1
            yield digest(conversation.turns[0][1]), rows

    every = list(encoded(data))
    if options.validation is not None:
        held = list(encoded(options.validation))
    else:
        every, held = split(every, options.validation_share)
    for line in skip.lines() if skip else ():
        say(line)
    if not every:
        raise RemaskError(f"{data} holds no {kind.name} to train on")
    if options.validation is not None and not held:
        usable = " that can be used" if skip else ""
        raise RemaskError(no_validation(options.validation, f"and no {kind.name}{usable} is in it", kind))
    if encoder.tokenizer.vocabulary.end is None:
        say("the tokenizer has no end-of-text token: the model learns no end of a reply")
    train, valid = Examples(rows for _, rows in every), Examples(rows for _, rows in held)
    about = {
        "kind": kind.plural,
        "conversations": train.conversations,
        "examples": len(train),
        "tokens": len(train.ids),
        "scored_tokens": int(train.replies.sum()),
        "templates": templates,
        "skipped": sum(skip.counts.values()) if skip else 0,
    }
    say(f"{fine_tuned_on(about)}; {valid.conversations:,} more for validation")
    return Conversations(encoder.tokenizer, train, valid, fingerprint(train, valid), about)


def no_validation(path: Path, problem: str, kind: RowKind) -> str:
    """What is wrong with `sft.validation`, and what would work."""
    return (
        f"sft.validation is {str(path)!r}, {problem}: give a .jsonl file, or a folder of them, of rows such as "
        f"{kind.sample}, or leave it out, and --sft.validation_share of the data is held out"
    )


def fine_tuned_on(about: dict[str, Any]) -> str:
    """`Conversations.about` in words."""
    templates = " and ".join(about["templates"])
    kind = about.get("kind", CONVERSATIONS.plural)
    skipped = f"; {about['skipped']:,} rows could not be used" if about["skipped"] else ""
    return (
        f"fine-tuned on {about['conversations']:,} {kind}: {about['scored_tokens']:,} tokens of replies, of "
        f"{about['tokens']:,} in {about['examples']:,} rows (template {templates}{skipped})"
    )


def split(found: list[tuple[int, list[Example]]], share: float) -> tuple[list[Any], list[Any]]:
    """Conversations for training and for validation: the latter those with the smallest digests, so that what begins
    alike is in the same split. None is held out where all begin alike, or `share` is 0."""
    digests = sorted(one for one, _ in found)
    if not share or not digests or digests[0] == digests[-1]:
        return found, []
    last = digests[max(1, round(share * len(digests))) - 1]
    if last == digests[-1]:
        last = digests[0]
    return [one for one in found if one[0] > last], [one for one in found if one[0] <= last]


def fingerprint(*splits: Examples) -> str:
    """A hash of everything that training and validation depend on."""
    found = hashlib.blake2b(digest_size=8)
    for one in splits:
        for part in (one.ids, one.scored, one.lengths, one.firsts):
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def layout_for(options: FineTuning, family: Family, tokenizer: Tokenizer) -> Layout:
    """How examples are laid out in rows for a family. RemaskError where an option does not go with it."""
    end, left = tokenizer.vocabulary.end, family.order == "left"
    padding = options.padding or ("none" if left or end is None else "end")
    if padding == "end" and end is None:
        raise RemaskError("sft.padding is end, and the tokenizer has no end-of-text token")
    if options.drop_prompt and not family.reads_masks:
        raise RemaskError(
            "sft.drop_prompt is for models that read masks, which guidance needs, and "
            f"{type(family).__name__} models read none"
        )
    return Layout(
        end=end,
        pad_with_end=padding == "end",
        hide=not left,
        per_example=options.weights == "examples",
        mask=family.mask if family.order == "any" else None,  # the others leave the prompt out, as guidance does
        drop=options.drop_prompt,
        pack=options.pack,
    )


def batches_of(
    found: Conversations, options: FineTuning, family: Family, length: int, batch: int, seed: int
) -> ExampleBatches:
    """The batches of training."""
    return ExampleBatches(found.train, length, batch, seed, layout_for(options, family, found.tokenizer))


def validation_of(found: Conversations, options: FineTuning, family: Family) -> ExampleRows | None:
    """The rows of validation; None where there are none."""
    if not len(found.valid):
        say("no conversation is held out: this run is not validated")
        return None
    return ExampleRows(found.valid, layout_for(options, family, found.tokenizer))
