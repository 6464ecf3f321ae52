"""Labels by likelihood: what the values are on a model that can be enumerated, and how templates are put together."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import remask
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.likelihood import choose
from remask.robustness.classification import Classifier
from remask.robustness.labelled import Labelled, Template, labelled_of, labels_in
from remask.training.fine_tuning import FineTuning
from robustness.letters import MASK, classifier, log_probs, texts


def nats_of(one: Classifier, label: int, text: tuple[int, ...]) -> float:
    """-log p(text | label), the mean over all orders of the chain rule, with the label before the text."""
    total = 0.0
    for order in itertools.permutations(range(len(text))):
        row = [label] + [MASK] * len(text)
        for i in order:
            total -= float(log_probs(one.checkpoint, row)[i + 1, text[i]])
            row[i + 1] = text[i]
    return total / math.factorial(len(text))


def test_a_text_given_its_label_is_the_enumerated_bound() -> None:
    one = classifier("{label}{text}", seed=3)
    every = texts(3)
    found = one.nats(every)
    for text, costs in zip(every, found, strict=True):
        assert costs == pytest.approx([nats_of(one, 1, text), nats_of(one, 2, text)], rel=1e-5)
    best = [0 if first < second else 1 for first, second in found]
    assert one.predict(every) == best and len(set(best)) == 2


def test_a_label_given_its_text_is_one_prediction() -> None:
    one = classifier("{text}a{label}", seed=3)
    for text in texts(2):
        given = log_probs(one.checkpoint, [*text, 0, MASK])[3]
        ((first, second),) = one.nats([text])
        assert [first, second] == pytest.approx([-float(given[1]), -float(given[2])], rel=1e-5)


def test_the_autoregressive_twin_is_exact() -> None:
    one = classifier("{label}{text}", seed=3, left=True)
    (ranking,) = one([(0, 1, 2)])
    assert ranking.settled and [e.kind for e in ranking.estimates] == ["exact", "exact"]


def test_labels_of_a_text_have_the_same_noise() -> None:
    """To a network that reads nothing, all labels are alike: with few draws too, since these are the same."""
    one = classifier("{label}{text}", seed=3)
    with torch.no_grad():
        one.checkpoint.model.model.embed_tokens.weight.zero_()
    noisy = Classifier(one.checkpoint, one.labels, one.template, choose(one.checkpoint.family, "count", draws=2))
    (ranking,) = noisy([(0, 1, 2, 0, 1)])
    first, second = ranking.estimates
    assert first.kind == "bound" and first.nats == pytest.approx(second.nats, rel=1e-6)


def test_the_parts_of_a_template() -> None:
    form = Template("Say: {text} => {label}.")
    assert (form.text_first, form.before, form.between, form.behind) == (True, "Say:", " =>", ".")
    assert (form.first("so"), form.last("good")) == (" so", " good.")
    assert form.fill(Labelled("so {label}", "good")) == "Say: so {label} => good."
    other = Template("{label}: {text}")
    assert not other.text_first and other.first("good") == "good" and other.last("so") == " so"
    for wrong in ("{text}", "{text} {text} {label}", "text label"):
        with pytest.raises(RemaskError, match=r"it must hold {text} and {label}, each once"):
            Template(wrong)


def test_texts_beyond_the_context_and_bad_labels() -> None:
    one = classifier()
    assert one.encode("abc") == [0, 1, 2]
    with pytest.raises(RemaskError, match="with its label is 71 tokens; the context is 64"):
        one.encode("a" * 70)
    for labels in (["b"], ["b", "b"], []):
        with pytest.raises(RemaskError, match="two or more different ones"):
            Classifier(one.checkpoint, labels)
    with pytest.raises(RemaskError, match="a label is empty"):
        Classifier(one.checkpoint, ["b", " "])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: it is not JSON"),
        ("[]", "line 2: it is not a JSON object"),
        ('{"text": "a"}', "line 2: the field 'label' must be text and not empty; the line has 'text'"),
        ('{"text": " ", "label": "a"}', "line 2: the field 'text' must be text and not empty"),
        ('{"text": "a", "label": 3}', "line 2: the field 'label' must be text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text('{"text": "a", "label": "b"}\n' + line + "\n")
    with pytest.raises(RemaskError, match=r"texts\.jsonl, line 2") as error:
        list(labelled_of(file))
    assert says in str(error.value)
    with pytest.raises(RemaskError, match="cannot read"):
        list(labelled_of(tmp_path / "nowhere.jsonl"))


def test_labels_are_those_of_the_file_or_named() -> None:
    rows, file = [Labelled("x", "b"), Labelled("y", "a"), Labelled("z", "b")], Path("rows.jsonl")
    assert labels_in(rows, None, file) == ["a", "b"] and labels_in(rows, ["b", "a", "c"], file) == ["b", "a", "c"]
    with pytest.raises(RemaskError, match=r"rows\.jsonl has the label b only; name two or more with --labels"):
        labels_in(rows[:1], None, file)
    with pytest.raises(RemaskError, match="has the label 'a', which is not among --labels b, c"):
        labels_in(rows, ["b", "c"], file)


# Models that were fine-tuned on replies


@pytest.fixture(scope="module")
def labelled(fit: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs that were fine-tuned on texts with one of two labels, one of which begins with the other."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = [{"prompt": f"{i}{'xy'[i % 2]} =>", "completion": (" a", " ab")[i % 2]} for i in range(60)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, family in (("left", Autoregressive()), ("masked", Masked())):
        how: dict[str, Any] = {"sft": FineTuning(tokenizer="bytes", validation_share=0), "length": 16}
        fit(folder / name, steps=40, data=folder / "rows.jsonl", family=family, **how)
    return {name: folder / name for name in ("left", "masked")}


def test_a_label_that_begins_another_is_told_apart_by_its_end(labelled: dict[str, Path]) -> None:
    """p(" ab") is never above p(" a"), of which it is a part; p(" ab", end) is, as the model has learnt."""
    one = Classifier(remask.load(labelled["left"]), ["a", "ab"])
    assert one.predict([one.encode(text) for text in ("64x", "65y", "70x", "71y")]) == [0, 1, 0, 1]


@pytest.mark.parametrize("form", ["{text} => {label}", "{label}: {text}"])
@pytest.mark.parametrize("name", ["left", "masked"])
def test_what_is_scored_ends_as_fine_tuning_has_taught(labelled: dict[str, Path], name: str, form: str) -> None:
    """The value is that of the last field with the end-of-text token, of which a request of ids knows nothing."""
    m, template = remask.load(labelled[name]), Template(form)
    end = m.tokenizer.vocabulary.end
    one = Classifier(m, ["a", "b"], template, choose(m.family, "auto"))
    ((found, _),) = one.nats([one.encode("3x")])
    whole = form.replace("{label}", "a").replace("{text}", "3x")
    place = len(template.between) + (2 if template.text_first else 1)
    given = [*m.family.bos, *m.tokenizer.encode(whole[:place])]
    expected: Any = remask.score(m, prompt=given, text=[*m.tokenizer.encode(whole[place:]), end])
    assert found == pytest.approx(expected.nats, rel=1e-5) and not expected.stderr
    untuned = Classifier(replace(m, about={}), ["a", "b"], template, choose(m.family, "auto"))
    assert one.request([5], "a").target == [*untuned.request([5], "a").target, end]
