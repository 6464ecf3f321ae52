"""The prompt of a reply: every command that writes one gives the model the ids that `remask chat` gives it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tables import tiny
from tokenizers import AddedToken

import remask
from remask.chat.dialogue import Dialogue, Exchange
from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.folder import save
from remask.conversation import prompt_of, reply_end, reply_to, trained_template
from remask.data.chat import TemplateName, reply_ids
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.evaluation.reversal.command import Respondent
from remask.evaluation.reversal.sources import Row
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.harness.chat import WithChat, chat_text
from remask.likelihood import Request, choose, score
from remask.sampling.params import SamplingParams

GREEDY: dict[str, Any] = {"length": 6, "temperature": 0.0, "stop": False}
TEMPLATES = get_args(TemplateName)


def tokenizer() -> Tokenizer:
    """Bytes with the special tokens of ChatML."""
    inner = tokenizers.Tokenizer.from_str(Tokenizer.bytes()._inner.to_str())
    inner.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    return Tokenizer(inner)


def fine_tuned(template: TemplateName, family: Any) -> Checkpoint:
    """A model of random weights with the note of `remask train` that its conversations had this template."""
    text = tokenizer()
    bound = family.over(text.vocabulary)
    network = tiny(bound.vocabulary.size, bound.vocabulary.predicted, context=256, sharpness=3.0)
    return Checkpoint(network, bound, text, {"conversations": {"templates": {template: 3}}})


@pytest.fixture(params=[(t, f) for t in TEMPLATES for f in (Masked(), Autoregressive())], ids=str)
def m(request: pytest.FixtureRequest) -> Checkpoint:
    return fine_tuned(*request.param)


@pytest.fixture
def run(m: Checkpoint, tmp_path: Path) -> Path:
    """The model as a published folder."""
    weights = m.model.state_dict()
    save(tmp_path / "run", weights, m.model.architecture, m.family, m.tokenizer, m.about, "# card\n")
    return tmp_path / "run"


def ids_of_chat(m: Checkpoint, *said: str) -> list[int]:
    """What a model reads in `remask chat` before it answers the last of some messages, with answers between them."""
    exchanges = [Exchange(*said[i : i + 2]) for i in range(0, len(said), 2)]
    return Dialogue(m, trained_template(m), "", SamplingParams(**GREEDY), exchanges).reading().ids


def test_sample_with_chat_reads_what_chat_reads(call: Any, run: Path, m: Checkpoint) -> None:
    options = ["--length", 6, "--temperature", 0, "--no-stop", "--precision", "fp32", "--json"]
    status, out, err = call("sample", run, "--chat", "--prompt", "Hi there", *options)
    assert status == 0, err
    (found,) = json.loads(out)
    ids = ids_of_chat(m, "Hi there")
    assert found["prompt"] == m.tokenizer.decode(ids)
    expected: Any = remask.sample(m, prompt=ids, **GREEDY)
    assert found["tokens"] == expected.tokens


@pytest.mark.parametrize("template", TEMPLATES)
def test_sample_takes_another_template(call: Any, run: Path, m: Checkpoint, template: TemplateName) -> None:
    """Named or not, it is the one of `remask chat`; without --chat and --template a prompt is read as it is."""
    options = ["--prompt", "Hi there", "--length", 6, "--temperature", 0, "--no-stop", "--precision", "fp32", "--json"]
    status, out, err = call("sample", run, "--template", template, *options)
    assert status == 0, err
    expected: Any = remask.sample(m, prompt=prompt_of(m, [("user", "Hi there")], template), **GREEDY)
    assert json.loads(out)[0]["tokens"] == expected.tokens
    assert call("sample", run, "--chat", "--template", template, *options)[1] == out
    plain: Any = remask.sample(m, prompt="Hi there", **GREEDY)
    assert json.loads(call("sample", run, *options)[1])[0]["tokens"] == plain.tokens
    status, _, err = call("sample", run, "--template", template, "--infill", "a [MASK:2]")
    assert status == 1 and "--chat and --template go with --prompt" in err


def test_answer_reads_what_chat_reads(call: Any, run: Path, m: Checkpoint, tmp_path: Path) -> None:
    """In the second turn too, whose prompt holds the answer to the first."""
    file, out = tmp_path / "questions.jsonl", tmp_path / "answers.jsonl"
    file.write_text('{"question_id": 1, "turns": ["One?", "Two?"]}\n')
    how = ["--length", 6, "--temperature", 0, "--no-stop", "--precision", "fp32"]
    how += ["--sampler", "LeftToRight" if m.family.exact else "Confidence"]  # whose order does not depend on the seed
    assert call("answer", run, "--questions", file, "--out", out, *how)[0] == 0
    line = json.loads(out.read_text())
    first, second = line["choices"][0]["turns"]
    for text, ids in ((first, ids_of_chat(m, "One?")), (second, ids_of_chat(m, "One?", first, "Two?"))):
        sampler = how[-1]
        expected: Any = remask.sample(m, prompt=ids, sampler=sampler, **GREEDY)
        assert text == expected.text.strip()
    assert line["settings"]["template"] == trained_template(m)


def test_the_reversal_test_reads_what_chat_reads(m: Checkpoint) -> None:
    asked = Respondent("m", m, None, None, None, True, 4, 0)
    asked.check([])
    assert asked.prompt(Row("Who is it?", "Ada", None, "a")) == ids_of_chat(m, "Who is it?")


def test_the_reversal_test_scores_replies_behind_what_chat_reads(m: Checkpoint) -> None:
    """The right answer and the control, each with the end that it was learnt with."""
    template, row = trained_template(m), Row("Who is it?", " Ada Lovelace", " Bo", "a")
    end = m.tokenizer.vocabulary.end
    replies = [reply_ids(m.tokenizer, text, template, end=end) for text in (" Ada Lovelace", " Bo")]
    key = f"{row.prompt}{row.completion}"
    wanted = [Request(ids, ids_of_chat(m, "Who is it?"), noise_key=key) for ids in replies]
    estimator = choose(m.family, **({} if m.family.exact else {"draws": 4, "seed": 0}))
    found = [estimate.nats for _, estimate in score(m.model, m.family, wanted, estimator=estimator)]
    assert Respondent("m", m, None, None, None, True, 4, 0).nats([row]) == pytest.approx(found)
    with pytest.raises(RemaskError, match=r"a reply .* context of 256"):
        reply_to(m, [("user", "Who is it?")], 300 * "a")


def test_the_harness_reads_what_chat_reads(m: Checkpoint) -> None:
    """A conversation becomes text and then ids there; where an answer is begun, it goes on."""
    history = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    bos, start = m.family.bos, m.family.vocabulary.start
    text = chat_text(m.tokenizer, [*history, {"role": "user", "content": "why"}], True, trained_template(m))
    found = [*bos, *WithChat(m.tokenizer, start).encode(text)]
    assert found == ids_of_chat(m, "2 + 2?", "4", "why")
    assert chat_text(m.tokenizer, history, False, trained_template(m)).endswith("4")


@given(st.sampled_from(TEMPLATES), st.text(min_size=1), st.text(min_size=1))
def test_by_default_a_prompt_has_the_template_of_fine_tuning(template: TemplateName, one: str, two: str) -> None:
    m = fine_tuned(template, Masked())
    said = [("user", one), ("assistant", two), ("user", one)]
    assert prompt_of(m, said) == prompt_of(m, said, template)
    other = Checkpoint(m.model, m.family, m.tokenizer, {})
    assert prompt_of(other, said) == prompt_of(m, said, "chat")


def test_a_template_that_the_tokenizer_lacks_is_named(call: Any, masked_run: Path, tmp_path: Path) -> None:
    """A model that was not fine-tuned is asked by the special tokens of its tokenizer, of which bytes have none."""
    with pytest.raises(RemaskError, match="no chat template"):
        prompt_of(remask.load(masked_run), [("user", "a")])


@pytest.mark.parametrize(
    ("template", "names"),
    [("chat", ["<|im_end|>", "<|endoftext|>"]), ("vicuna", ["<|endoftext|>"]), ("none", ["<|endoftext|>"])],
)
def test_how_a_reply_ends_is_what_fine_tuning_taught(template: TemplateName, names: list[str]) -> None:
    m = fine_tuned(template, Masked())
    assert reply_end(m) == [m.tokenizer.id(name) for name in names]
    ids = reply_ids(m.tokenizer, "so", template, end=m.tokenizer.vocabulary.end)
    assert ids[-len(names) :] == reply_end(m) and len(ids) == len(names) + len(" so" if template == "vicuna" else "so")
    assert reply_end(replace(m, about={})) == [], "a model that was not fine-tuned"
