"""A corpus of tasks: each document is a prompt with its answer.

`task:Sort,items=6,documents=20000,seed=0` names one of a single task and `task:Sort+Reverse,...` one of several, whose
documents take turns. The documents are of the training split of the questions; `split=valid` and `split=test` name the
others: the first is for validation, and the second is what `remask bench sample` asks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from remask.data.reading import Document
from remask.errors import RemaskError, unknown
from remask.options import parse_options
from remask.tasks.base import Example, Split, Task, task_class

PREFIX = "task:"
LARGEST = 2**31
"""Most documents, and largest seed."""


@dataclass(frozen=True, kw_only=True)
class TaskCorpus:
    """Documents of one or more tasks. Questions, and so documents, may occur more than once."""

    tasks: tuple[Task, ...]
    documents: int = 20000
    """Number of documents."""
    seed: int = 0
    """Seed of the questions: another one gives other questions of the same split."""
    split: Split = "train"
    """Questions for training, or those for validation or for testing, which no training corpus holds."""

    def __post_init__(self) -> None:
        if self.documents < 1:
            raise RemaskError(f"documents={self.documents}: a corpus of tasks has at least 1 document")

    def examples(self) -> Iterator[tuple[str, Example]]:
        """The examples, each behind the name of its task, always the same for the same options; RemaskError where a
        task has no question to ask."""
        asked = [(type(task).__name__, task.examples(self.split, self.seed)) for task in self.tasks]
        for i in range(self.documents):
            name, examples = asked[i % len(asked)]
            yield name, next(examples)

    def texts(self) -> Iterator[Document]:
        """The documents: each is a prompt with its answer."""
        yield from (Document(example.text, f"{name}#{i}") for i, (name, example) in enumerate(self.examples()))


def parse(source: str) -> TaskCorpus:
    """Reads `task:NAME[+NAME...][,KEY=VALUE,...]`. An option of tasks is given to each task that has it.

    Raises:
        RemaskError: there is no such task, none of the tasks has an option of this name, or a value is out of range.
    """
    names, _, text = source.removeprefix(PREFIX).partition(",")
    kinds = [task_class(name.strip()) for name in names.split("+")]
    own = {field.name for field in fields(TaskCorpus)} - {"tasks"}
    of_tasks = {field.name for kind in kinds for field in fields(kind)}
    given: dict[str, str] = {}
    for option in filter(None, text.split(",")):
        key = option.partition("=")[0].strip()
        if key not in own | of_tasks:
            raise unknown(f"option of {PREFIX}{names}", key, own | of_tasks)
        given[key] = option

    def options_of(keys: set[str]) -> str:
        return ",".join(option for key, option in given.items() if key in keys)

    tasks = [kind(**parse_options(kind, options_of({field.name for field in fields(kind)}))) for kind in kinds]
    return TaskCorpus(tasks=tuple(tasks), **parse_options(TaskCorpus, options_of(own), LARGEST))


def validation_of(source: str, share: float) -> str:
    """The corpus for validation that belongs to one for training: a share of its size, of questions held out for it.

    RemaskError where the corpus is itself one of questions held out.
    """
    corpus = parse(source)
    if corpus.split != "train":
        raise RemaskError(
            f"{source} holds questions that are held out, of which no part can be trained on: leave "
            f"split={corpus.split} out, or name a source for validation with --validation"
        )
    names, _, text = source.partition(",")
    kept = [option for option in text.split(",") if option.partition("=")[0].strip() not in ("", "documents", "split")]
    return ",".join([names, *kept, f"documents={max(1, round(share * corpus.documents))}", "split=valid"])
