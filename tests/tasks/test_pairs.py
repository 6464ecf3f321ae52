"""Fictional pairs: who is told in which order, whose questions are asked, and what training must not hold."""

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED

from remask.errors import RemaskError
from remask.tasks.base import Split, task_of
from remask.tasks.pairs import MOST, DescriptionOf, NameOf, Pairs, people_of


def told(task: Pairs, count: int = 2000, split: Split = "train") -> list[str]:
    return [one.text for one in islice(task.examples(split), count)]


@UNHURRIED
@given(count=st.integers(12, MOST), world=st.integers(0, 2**16))
def test_nobody_shares_a_name_or_a_description(count: int, world: int) -> None:
    people = people_of(count, world)
    names, descriptions = {name for name, _ in people}, {what for _, what in people}
    assert len(people) == len(names) == len(descriptions) == count
    assert people_of(12, world) == people[:12], "a larger world holds the smaller one"


def test_training_never_tells_a_person_in_the_order_that_is_asked() -> None:
    """Of the people who are asked the other way round, each sentence begins with what the question wants."""
    corpus = told(NameOf()) + told(DescriptionOf())
    people = people_of(120, 0)
    for kind, wanted in ((NameOf, 0), (DescriptionOf, 1)):
        asked = {one.question for one in islice(kind().examples("test"), 500)}
        assert len(asked) == 30
        for number in asked:
            sentences = [text for text in corpus if people[number][0] in text and people[number][1] in text]
            assert len(sentences) > 5
            for text in sentences:
                assert text.index(people[number][wanted]) < text.index(people[number][1 - wanted])


def test_wordings_of_questions_are_not_used_with_those_who_are_asked() -> None:
    """Also where the questions are in the order of training: an answer is no sentence of the corpus."""
    for kind in (NameOf, DescriptionOf):
        corpus = set(told(NameOf()) + told(DescriptionOf()))
        for asked in ("same", "reverse"):
            assert not corpus & set(told(kind(asked=asked), 300, "test"))
        assert corpus & set(told(kind(asked="both"), 300, "test")), "they are used with others"


@pytest.mark.parametrize("asked", ["reverse", "same", "both"])
def test_validation_and_test_ask_of_different_people(asked: str) -> None:
    task = task_of(f"NameOf:asked={asked}")
    test, valid = ({one.question for one in islice(task.examples(split), 400)} for split in ("test", "valid"))
    assert len(test) == 30 and len(valid) == 10 and not test & valid


def test_both_ways() -> None:
    """The control of a model: the same questions, and the people are told in both orders."""
    one, both = NameOf(), NameOf(taught="both_ways")
    questions = [{x.text for x in islice(task.examples("test"), 300)} for task in (one, both)]
    assert questions[0] == questions[1]
    asked = {x.question for x in islice(both.examples("test"), 300)}
    assert asked <= {x.question for x in islice(both.examples("train"), 3000)}


def test_the_control_belongs_to_another_person_of_the_same_group() -> None:
    task, other = NameOf(), NameOf(control=True)
    for true, false in zip(islice(task.examples("test"), 50), islice(other.examples("test"), 50), strict=True):
        assert true.prompt == false.prompt and true.answer != false.answer
        assert not task.right(true.question, false.answer)
    assert sorted(task.other(i) for i in range(task.people)) == list(range(task.people))
    assert all(task.other(i) % 3 == i % 3 and task.other(i) != i for i in range(task.people))


@pytest.mark.parametrize("options", ["people=11", f"people={MOST + 1}", "taught=twice", "asked=all"])
def test_wrong_options_are_named(options: str) -> None:
    with pytest.raises(RemaskError, match=options.partition("=")[0]):
        task_of(f"NameOf:{options}")
