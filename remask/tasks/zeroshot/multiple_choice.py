"""Multiple choice: the answers follow the same context, and the one of highest likelihood is chosen.

Each benchmark reads two forms of rows: `query`, `choices` and `gold`, as in llm-foundry and OLMo, and the fields of its
own data set, from which the harness makes its prompts. Both give the prompts of the harness.
"""

import ast
import re
from typing import Any, ClassVar

from remask.tasks.zeroshot.base import Benchmark, Question, of_choices
from remask.tasks.zeroshot.rows import Row

SHORT = ("query", "choices", "gold")
"""The fields of the form that llm-foundry and OLMo share."""
ASKED = (("Question: ", "\nAnswer:"), ("Q: ", "\nA:"), ("", ""))
"""Templates of questions, as `Benchmark.frames`."""
BEHIND = (("", "\nAnswer:"), ("", "\nA:"), ("", "\nThe answer is"))
"""Templates of what ends with a question."""


class MultipleChoice(Benchmark):
    """A benchmark whose rows may have the fields of `SHORT`."""

    own: ClassVar[tuple[str, ...]]
    """The fields of the data set."""

    def question(self, row: Row) -> Question:
        if row.form(SHORT, self.own):
            return self.of_own(row)
        choices = row.texts("choices")
        return of_choices(self.context(row.text("query")), choices, row.place("gold", len(choices)))

    def context(self, query: str) -> str:
        """The prompt that belongs to a `query`."""
        return query

    def of_own(self, row: Row) -> Question:
        """The question of a row with the fields of the data set."""
        raise NotImplementedError


class Science(MultipleChoice):
    """ARC: questions of exams (Clark et al. 2018)."""

    metrics: ClassVar[tuple[str, ...]] = ("acc", "acc_norm")
    frames: ClassVar[tuple[tuple[str, str], ...]] = ASKED
    own: ClassVar[tuple[str, ...]] = ("question", "choices", "answerKey")

    def context(self, query: str) -> str:
        return f"Question: {bare(query)}\nAnswer:"

    def of_own(self, row: Row) -> Question:
        choices, labels = row.labelled("choices")
        return of_choices(f"Question: {row.text('question')}\nAnswer:", choices, label_of(row, labels))


class ArcEasy(Science):
    """The easy questions."""

    name: ClassVar[str] = "arc_easy"


class ArcChallenge(Science):
    """Those that retrieval and co-occurrence do not answer."""

    name: ClassVar[str] = "arc_challenge"


class OpenBookQA(MultipleChoice):
    """Elementary science: a statement is completed (Mihaylov et al. 2018). The prompt is the statement itself."""

    name: ClassVar[str] = "openbookqa"
    metrics: ClassVar[tuple[str, ...]] = ("acc", "acc_norm")
    other_files: ClassVar[tuple[str, ...]] = ("openbook_qa.jsonl", "openbookqa_val.jsonl")
    frames: ClassVar[tuple[tuple[str, str], ...]] = (ASKED[2], ASKED[0], ASKED[1])
    own: ClassVar[tuple[str, ...]] = ("question_stem", "choices", "answerKey")

    def context(self, query: str) -> str:
        return bare(query)

    def of_own(self, row: Row) -> Question:
        choices, labels = row.labelled("choices")
        return of_choices(row.text("question_stem"), choices, label_of(row, labels))


class BoolQ(MultipleChoice):
    """A passage and a question about it, answered by no or yes (Clark et al. 2019)."""

    name: ClassVar[str] = "boolq"
    frames: ClassVar[tuple[tuple[str, str], ...]] = BEHIND
    own: ClassVar[tuple[str, ...]] = ("passage", "question", "label")

    def context(self, query: str) -> str:
        return f"{bare(query)}\nAnswer:"

    def of_own(self, row: Row) -> Question:
        context = f"{row.text('passage')}\nQuestion: {row.text('question')}?\nAnswer:"
        return of_choices(context, ("no", "yes"), row.place("label", 2))


class PIQA(MultipleChoice):
    """Two ways to a goal in the physical world (Bisk et al. 2020)."""

    name: ClassVar[str] = "piqa"
    metrics: ClassVar[tuple[str, ...]] = ("acc", "acc_norm")
    frames: ClassVar[tuple[tuple[str, str], ...]] = ASKED
    own: ClassVar[tuple[str, ...]] = ("goal", "sol1", "sol2", "label")

    def context(self, query: str) -> str:
        return f"Question: {bare(query)}\nAnswer:"

    def of_own(self, row: Row) -> Question:
        choices = row.text("sol1"), row.text("sol2")
        return of_choices(f"Question: {row.text('goal')}\nAnswer:", choices, row.place("label", 2))


class SocialIQA(MultipleChoice):
    """What people feel, want and do (Sap et al. 2019)."""

    name: ClassVar[str] = "social_iqa"
    other_files: ClassVar[tuple[str, ...]] = ("siqa.jsonl", "siqa_val.jsonl")
    frames: ClassVar[tuple[tuple[str, str], ...]] = (ASKED[1], ASKED[0], ASKED[2])
    own: ClassVar[tuple[str, ...]] = ("context", "question", "answerA", "answerB", "answerC", "label")

    def context(self, query: str) -> str:
        return f"Q: {bare(query)}\nA:"

    def of_own(self, row: Row) -> Question:
        choices = [row.text(f"answer{letter}") for letter in "ABC"]
        return of_choices(
            f"Q: {row.text('context')} {row.text('question')}\nA:", choices, row.place("label", 3, first=1)
        )


class HellaSwag(MultipleChoice):
    """How a text goes on (Zellers et al. 2019). A `query` and its `choices` are already cleaned of the brackets."""

    name: ClassVar[str] = "hellaswag"
    metrics: ClassVar[tuple[str, ...]] = ("acc", "acc_norm")
    other_files: ClassVar[tuple[str, ...]] = ("hellaswag_val_1000.jsonl",)
    own: ClassVar[tuple[str, ...]] = ("ctx_a", "ctx_b", "activity_label", "endings", "label")

    def of_own(self, row: Row) -> Question:
        text = f"{row.text('activity_label')}: {row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
        choices = [without_brackets(ending) for ending in row.texts("endings")]
        return of_choices(without_brackets(text), choices, row.place("label", len(choices)))


class RACE(MultipleChoice):
    """Reading comprehension (Lai et al. 2017), the last question of each article, as the harness has it: the others
    stand answered in the prompt. Its rows have the form of EleutherAI/race."""

    name: ClassVar[str] = "race"
    frames: ClassVar[tuple[tuple[str, str], ...]] = (("", ""), *BEHIND[:2])
    own: ClassVar[tuple[str, ...]] = ("article", "problems")

    def of_own(self, row: Row) -> Question:
        text = f"Article: {row.text('article')}\n\n"
        *before, last = problems_of(row)
        for problem in before:
            answer = problem["options"]["ABCD".index(problem["answer"])]
            if problem["question"][-6:] == "  _  .":
                text += f"{problem['question'][:-5]}{answer}\n"
            else:
                text += f"Question: {problem['question']}\nAnswer: {answer}\n"
        return of_choices(text + last["question"], last["options"][:4], "ABCD".index(last["answer"]))


def problems_of(row: Row) -> list[dict[str, Any]]:
    """The problems of an article, from the text of a Python list, as EleutherAI/race has it, or from a list."""
    value = row.fields.get("problems")
    try:
        problems: list[dict[str, Any]] = ast.literal_eval(value) if isinstance(value, str) else value  # type: ignore
        for problem in problems:
            texts = [problem["question"], *problem["options"]]
            if (
                len(texts) < 5
                or not all(isinstance(one, str) for one in texts)
                or problem["answer"] not in list("ABCD")
            ):
                raise ValueError
        if not problems:
            raise ValueError
        return list(problems)
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError):
        raise row.wrong("problems", "a list of {question, options, answer} with an answer from A to D") from None


def bare(query: str) -> str:
    """A `query` without the words that llm-foundry and OLMo put around it, which differ from those of the harness."""
    for word in ("Question: ", "Passage: "):
        query = query.removeprefix(word)
    return query.removesuffix("Answer:").removesuffix("\n")


def label_of(row: Row, labels: list[str]) -> int:
    """The place of the label in `answerKey`."""
    key = row.text("answerKey").lstrip()
    if key not in labels:
        raise row.wrong("answerKey", f"one of {', '.join(labels)}")
    return labels.index(key)


def without_brackets(text: str) -> str:
    """Removes what HellaSwag's texts have from WikiHow: [title], [header], [step] and the like."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")
