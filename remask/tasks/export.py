"""`remask questions`: questions with their answers as rows of a file, for fine-tuning and for `remask eval`."""

from pathlib import Path

from remask.files import write_atomically
from remask.tasks.corpus import PREFIX, parse
from remask.terminal import document, say


def questions(source: str, out: Path) -> None:
    """Writes the documents of a corpus of tasks as JSON Lines {"prompt": ..., "completion": ...}, each of them once.

    Args:
        source: As in `remask prepare`: task:NAME[+NAME...],documents=N,split=test, with the options of the tasks.
        out: The file to write, such as rows.jsonl.
    """
    found: dict[tuple[str, str], None] = {}
    corpus = parse(source if source.startswith(PREFIX) else PREFIX + source)
    for _, example in corpus.examples():
        found[example.prompt, example.answer] = None
    lines = [document({"prompt": prompt, "completion": answer}) for prompt, answer in found]
    write_atomically(out, "".join(f"{line}\n" for line in lines))
    again = corpus.documents - len(found)
    say(f"{len(found):,} rows in {out}" + (f"; {again:,} more were the same as others" if again else ""))
