"""Questions of benchmarks: from both forms of rows, with the prompts of the harness; what is wrong is named."""

import json
from pathlib import Path
from typing import Any

import pytest
from zero_shot_rows import DATA, OWN

from remask.errors import RemaskError
from remask.tasks.zeroshot import Question, benchmark, benchmarks, file_of, named, questions_of
from remask.tasks.zeroshot.rows import Row


def question(name: str, **fields: Any) -> Question:
    return benchmark(name).question(Row(fields, "file.jsonl, line 7"))


def test_prompts() -> None:
    found = question("arc_easy", query="Question: What?", choices=["a", "b"], gold=1)
    assert found.pairs == (("Question: What?\nAnswer:", " a"), ("Question: What?\nAnswer:", " b")) and found.gold == 1
    found = question("hellaswag", **OWN["hellaswag"][0])
    assert found.pairs[0] == ("Sport: A man.  sits. He stands".replace(".  ", ". "), "  up.")
    found = question("winogrande", **OWN["winogrande"][0])
    assert found.pairs == (("Al told Bo that Al", " was late."), ("Al told Bo that Bo", " was late."))
    assert question("lambada_openai", context="I see", continuation="you").pairs == (("I see", " you"),)
    assert question("race", **OWN["race"][0]).pairs[3] == (
        "Article: An article.\n\nIt is b\nQuestion: Who?\nAnswer: a1\nWhy?",
        " z",
    )


@pytest.mark.parametrize("name", sorted(OWN))
def test_templates(name: str) -> None:
    """The first is the prompt of the harness, and the others have the same text and the same answers."""
    kind, found = benchmark(name), question(name, **OWN[name][0])
    assert kind.reworded(found, 0) == found and len(set(kind.frames)) == 3
    (before, after), *others = kind.frames
    for place, (new_before, new_after) in enumerate(others, start=1):
        other = kind.reworded(found, place)
        assert other != found and (other.choices, other.gold) == (found.choices, found.gold)
        for (context, text), (new, same) in zip(found.pairs, other.pairs, strict=True):
            assert context.startswith(before) and context.endswith(after) and text == same
            assert new == new_before + context[len(before) : len(context) - len(after)] + new_after


@pytest.mark.parametrize(
    ("name", "query", "fields"),
    [
        ("arc_easy", "Question: Which?", {"question": "Which?"}),
        ("openbookqa", "Question: Ice is\nAnswer:", {"question_stem": "Ice is"}),
        ("piqa", "Question: melt\n", {"goal": "melt", "sol1": "a", "sol2": "b", "label": 1}),
        ("boolq", "Passage: It is.\nQuestion: is it?", {"passage": "It is.", "question": "is it", "label": 1}),
    ],
)
def test_both_forms_of_a_row_are_one_question(name: str, query: str, fields: dict[str, Any]) -> None:
    choices = ["no", "yes"] if name == "boolq" else ["a", "b"]
    own = {"choices": {"text": choices, "label": ["A", "B"]}, "answerKey": "B", **fields}
    assert question(name, query=query, choices=choices, gold=1) == question(name, **own)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("arc_easy", {}, "file.jsonl, line 7: field 'query' or 'question' is missing; the row has no fields"),
        ("arc_easy", {"query": "?", "choices": ["a"]}, "field 'gold' is missing; the row has query, choices"),
        ("piqa", {"goal": "?", "sol1": "a", "label": 0}, "field 'sol2' is missing"),
        ("arc_easy", {"query": "?", "choices": ["a", " "], "gold": 0}, "'choices': answer 2 of 2 is empty"),
        ("arc_easy", {"query": "?", "choices": "a", "gold": 0}, "'choices' is 'a'; it must be a list of texts"),
        ("arc_easy", {"query": "?", "choices": ["a", "b"], "gold": 2}, "'gold' is 2; it must be a number from 0 to 1"),
        ("arc_easy", {"query": 3, "choices": ["a", "b"], "gold": 0}, "'query' is 3; it must be text"),
        ("social_iqa", {**OWN["social_iqa"][0], "label": "4"}, "it must be a number from 1 to 3"),
        (
            "arc_easy",
            {"question": "?", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "B"},
            "'answerKey' is 'B'; it must be one of A",
        ),
        ("winogrande", {"sentence": "no gap", "option1": "a", "option2": "b", "answer": "1"}, "'sentence' is 'no gap'"),
        ("winogrande", {"context_options": ["a", "b"], "continuation": " ", "gold": 0}, "nothing follows the name"),
        ("lambada_openai", {"text": "ends with a space "}, "there is no last word"),
        ("race", {"article": "x", "problems": "[]"}, "'problems' is '[]'; it must be a list of"),
    ],
)
def test_a_wrong_row_is_named(name: str, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(RemaskError, match=r"file\.jsonl, line 7") as error:
        question(name, **fields)
    assert message in str(error.value)


def test_names() -> None:
    assert named("piqa, arc_easy=x/y.jsonl,piqa") == ["piqa", "arc_easy=x/y.jsonl"]
    assert len(named("smdm")) == 8 and set(named("smdm")) <= set(benchmarks())
    with pytest.raises(RemaskError, match=r"unknown benchmark 'hellswag'. Did you mean 'hellaswag'.*Known:.*smdm"):
        named("piqa,hellswag")
    with pytest.raises(RemaskError, match="names with commas"):
        named(",")


def test_files(tmp_path: Path) -> None:
    lines = [json.dumps({"query": "Question: ?", "choices": ["a", "b"], "gold": i % 2}) for i in range(4)]
    (tmp_path / "arc_easy.jsonl").write_text("\n\n".join(lines) + "\n")
    found, path = file_of("arc_easy", tmp_path)
    assert path == tmp_path / "arc_easy.jsonl" and file_of("piqa", tmp_path)[1] is None
    assert [(n, q.gold) for n, q in questions_of(found, path, 3)] == [(1, 0), (3, 1), (5, 0)]
    (tmp_path / "lambada_test_plain_text.txt").write_text("a b c\nd e\n")
    found, path = file_of("lambada_standard", tmp_path)
    assert path is not None and [q.pairs for _, q in questions_of(found, path)] == [(("a b", " c"),), (("d", " e"),)]
    (tmp_path / "piqa.jsonl").write_text('{"goal": "?"}\n')
    found, path = file_of("piqa", tmp_path)
    assert path is not None
    with pytest.raises(RemaskError, match=r"piqa.jsonl, line 1: field 'sol1' is missing"):
        list(questions_of(found, path))
    path.write_text("{}\n[1]\n")
    with pytest.raises(RemaskError, match=r"line 1: field 'query' or 'goal' is missing"):
        list(questions_of(found, path))
    path.write_text("{oh\n")
    with pytest.raises(RemaskError, match="line 1: it is not JSON"):
        list(questions_of(found, path))
    with pytest.raises(RemaskError, match="there is no file"):
        file_of("piqa=nowhere.jsonl", None)


def test_public_files_are_read() -> None:
    if not DATA.is_dir():
        pytest.skip("the files of the benchmarks are not beside the project")
    counts = {"arc_easy": 2376, "arc_challenge": 1172, "boolq": 3270, "openbookqa": 500, "piqa": 1838}
    counts |= {"hellaswag": 1000, "social_iqa": 1954, "winogrande": 1267, "lambada_openai": 5153}
    counts |= {"lambada_standard": 5153}
    for name, count in counts.items():
        found, path = file_of(name, DATA)
        assert path is not None
        questions = [one for _, one in questions_of(found, path)]
        assert len(questions) == count
        assert all(text.startswith(" ") and context == context.rstrip() for q in questions for context, text in q.pairs)
