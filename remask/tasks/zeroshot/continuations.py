"""One continuation, whose probability is wanted: a last word after its text, or an end after several beginnings."""

from typing import ClassVar

from remask.errors import RemaskError
from remask.tasks.zeroshot.base import Benchmark, Question
from remask.tasks.zeroshot.rows import Row


class LastWord(Benchmark):
    """LAMBADA: the last word of a passage (Paperno et al. 2016). Words are what single spaces separate."""

    metrics: ClassVar[tuple[str, ...]] = ("acc", "perplexity")
    greedy: ClassVar[bool] = True

    def question(self, row: Row) -> Question:
        if row.form(("text",), ("context", "continuation")):
            text = f"{row.text('context')} {row.text('continuation')}"
        else:
            text = row.text("text")
        before, _, word = text.rpartition(" ")
        if not word.strip():
            raise RemaskError(f"{row.where}: there is no last word: the text is empty or ends with a space")
        return Question(((before, f" {word}"),), (f" {word}",), 0)


class LambadaOpenAI(LastWord):
    """OpenAI's version, with the punctuation and the capitals of the books."""

    name: ClassVar[str] = "lambada_openai"


class LambadaStandard(LastWord):
    """The version as published, in lower-case words."""

    name: ClassVar[str] = "lambada_standard"
    other_files: ClassVar[tuple[str, ...]] = ("lambada_test_plain_text.txt",)


class WinoGrande(Benchmark):
    """Whom a pronoun means (Sakaguchi et al. 2019).

    The same end is scored after each of two beginnings (partial evaluation, Trinh and Le 2018).
    """

    name: ClassVar[str] = "winogrande"

    def question(self, row: Row) -> Question:
        if row.form(("sentence", "option1", "option2", "answer"), ("context_options", "continuation", "gold")):
            contexts = row.texts("context_options")
            end, gold = row.text("continuation"), row.place("gold", len(contexts))
        else:
            before, gap, end = row.text("sentence").partition("_")
            if not gap:
                raise row.wrong("sentence", "a text with _ in the place of a name")
            contexts = [before + row.text("option1"), before + row.text("option2")]
            gold = row.place("answer", 2, first=1)
        if not end.strip():
            raise RemaskError(f"{row.where}: nothing follows the name, so that no answer can be scored")
        return Question(tuple((context, f" {end.strip()}") for context in contexts), tuple(contexts), gold)
