"""The pairs of a step: two rows for each preference, the chosen reply and the rejected one.

Batch i is a pure function of (seed, i).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from remask.batch import Batch
from remask.data.conversations import Conversation, conversation_files
from remask.data.example_batches import ExampleBatches, Layout, lay_out
from remask.data.examples import Example, ExampleEncoder, Examples
from remask.data.preferences import encode_preferences, read_preferences
from remask.data.reading import Omissions
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.training.fine_tuning import ConversationReading, Conversations, RowKind, open_splits

PAIRS = RowKind("pair of replies", "pairs of replies", '{"prompt": "2 + 2 =", "chosen": " 4", "rejected": " 5"}')


@dataclass(frozen=True, kw_only=True)
class PairReading(ConversationReading):
    """How pairs of replies are read: as other conversations are."""


def open_pairs(
    data: Path, options: PairReading, family: Family, tokenizer: Tokenizer, length: int, context: int
) -> Conversations:
    """Reads and encodes preferences, as conversations of two rows each, of up to `length` tokens. Errors as of
    `open_conversations`."""
    if not conversation_files(data):
        raise RemaskError(f"data is {str(data)!r}, where no .jsonl file is: give one, of rows such as {PAIRS.sample}")
    encoder = ExampleEncoder(tokenizer, family.bos, family.vocabulary.start, options.template)

    def read(path: Path, skip: Omissions | None) -> Iterator[tuple[Conversation, list[Example]]]:
        return encode_preferences(read_preferences(path, skip), encoder, length, skip, context)

    return open_splits(data, options, encoder, read, PAIRS)


class PairBatches:
    """Global batches of pairs, shuffled anew in each epoch, of two rows each."""

    one_length = False

    def __init__(self, examples: Examples, pairs: int, seed: int, layout: Layout) -> None:
        """`pairs` are those of a step."""
        self.examples, self.layout, self.batch = examples, layout, 2 * pairs
        self.pairs = ExampleBatches(examples, 0, pairs, seed, layout)
        self.mean_length, self.unique_tokens = self.pairs.mean_length, self.pairs.unique_tokens

    def __len__(self) -> int:
        """Rows of an epoch."""
        return 2 * len(self.pairs)

    def share(self, index: int, offset: int = 0, count: int | None = None) -> Batch:
        """`count` rows of global batch `index`, from row `offset` on, whole pairs; by default all of them. What the
        loss is divided by, `global_tokens`, are the pairs."""
        each = self.batch // 2
        places = [self.pairs.order[place] for place in range(index * each, (index + 1) * each)]
        return pair_rows(self.examples, places, self.layout, offset, count)


def pair_rows(examples: Examples, pairs: list[int], layout: Layout, offset: int = 0, count: int | None = None) -> Batch:
    """Rows `offset` to `offset + count` of the batch of some pairs, by their numbers."""
    rows = [[row] for pair in pairs for row in (2 * pair, 2 * pair + 1)]
    count = len(rows) - offset if count is None else count
    if offset % 2 or count % 2:
        raise ValueError(f"rows {offset} to {offset + count} divide a pair")
    return replace(lay_out(examples, rows, layout, 0, None, offset, count), global_tokens=len(pairs))
