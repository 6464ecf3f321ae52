"""Conversations: the loop as it is typed at, what is read of a long one, commands, and a real terminal."""

import contextlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tables import tiny
from tokenizers import AddedToken

import remask
from remask import cli
from remask.chat.dialogue import Dialogue
from remask.chat.display import Display, answer_frame
from remask.chat.session import COMMANDS, Session, talk
from remask.chat.settings import changed
from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.folder import save
from remask.conversation import prompt_of, trained_template, within_context
from remask.data.chat import SYSTEM, vicuna
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.sampling.loop import Step
from remask.sampling.params import SamplingParams

CONTEXT = 96
PARAMS = SamplingParams(length=8, seed=3)


def chat_tokenizer() -> Tokenizer:
    """Bytes with the special tokens of ChatML."""
    inner = tokenizers.Tokenizer.from_str(Tokenizer.bytes()._inner.to_str())
    inner.add_special_tokens([AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>")])
    return Tokenizer(inner)


def model(family: Any, tokenizer: Tokenizer | None = None) -> Checkpoint:
    tokenizer = tokenizer or chat_tokenizer()
    family = family.over(tokenizer.vocabulary)
    network = tiny(family.vocabulary.size, family.vocabulary.predicted, context=CONTEXT, sharpness=3.0)
    return Checkpoint(network, family, tokenizer, {})


MODELS = {"masked": model(Masked()), "left": model(Autoregressive())}


@pytest.fixture(params=list(MODELS))
def m(request: pytest.FixtureRequest) -> Checkpoint:
    return MODELS[request.param]


def session(m: Checkpoint, system: str = "", params: SamplingParams = PARAMS, terminal: bool = False) -> Session:
    return Session(Dialogue(m, "chat", system, params), Display(io.StringIO(), terminal))


def said(one: Session) -> str:
    file: Any = one.display.console.file
    return file.getvalue()


def hear(one: Session, *lines: str) -> None:
    """Types some lines at the real loop."""
    talk(one, io.StringIO("".join(f"{line}\n" for line in lines)))


# The conversation


def test_every_answer_is_that_of_the_conversation_so_far(m: Checkpoint) -> None:
    """Each is what `sample` writes after the whole conversation, with the seed of its request."""
    greedy: dict[str, Any] = {"length": 8, "temperature": 0}
    greedy |= {} if m.family.exact else {"sampler": "Confidence"}  # whose order does not depend on the seed
    one = session(m, system="Be brief.", params=SamplingParams(**greedy))
    hear(one, "Hi", "", "  ", "Why?")
    first, second = one.dialogue.exchanges
    expected: Any = remask.sample(m, prompt=prompt_of(m, [("system", "Be brief."), ("user", "Hi")]), **greedy)
    assert first.answer == expected.text.strip()
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", expected.text.strip()), ("user", "Why?")]
    again: Any = remask.sample(m, prompt=prompt_of(m, turns), **greedy)
    assert second.answer == again.text.strip() and said(one) == f"{first.answer}\n{second.answer}\n"


def test_the_same_lines_and_seed_are_the_same_conversation(m: Checkpoint) -> None:
    lines = ["Hi", "/retry", "Why?", "/undo", "And?"]
    texts = []
    for seed in (0, 0, 1):
        one = session(m, params=SamplingParams(length=8, seed=seed))
        hear(one, *lines)
        texts.append(said(one))
    assert texts[0] == texts[1] != texts[2]


def test_undo_retry_and_reset(m: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    one = session(m)
    hear(one, "/undo", "/retry", "Hi")
    assert capsys.readouterr().err == "there is no message to take back\nthere is no message to answer\n"
    first = one.dialogue.exchanges[0].answer
    hear(one, "/retry")
    second = one.dialogue.exchanges[0].answer
    hear(one, "/retry")
    assert len({first, second, one.dialogue.exchanges[0].answer}) == 3 and len(one.dialogue.exchanges) == 1
    hear(one, "Why?", "/undo")
    assert "taken back: Why?" in capsys.readouterr().err and [x.message for x in one.dialogue.exchanges] == ["Hi"]
    hear(one, "/reset", "/undo x", "Hi")
    assert one.dialogue.exchanges[0].answer == first, "as at the beginning"
    assert "/undo takes nothing behind it, and there is 'x'" in capsys.readouterr().err


# The context


def test_a_long_conversation_loses_its_first_messages_and_says_so(
    m: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ids by ids: with messages of equal length it is known how many are read. The system message always is."""
    one = session(m, system="S", params=SamplingParams(length=8, temperature=0))
    for number in range(5):
        hear(one, f"m{number}")
        turns = [turn for x in one.dialogue.exchanges for turn in (("user", x.message), ("assistant", x.answer or ""))]
        reading = within_context(m, [("system", "S"), *turns[:-1]], "chat", 8)
        kept = turns[reading.dropped : -1]
        assert reading.ids == prompt_of(m, [("system", "S"), *kept]) and kept[0][0] == "user"
        assert len(reading.ids) + 8 <= CONTEXT and reading.length == 8 and reading.dropped % 2 == 0
        longer = [("system", "S"), *turns[max(0, reading.dropped - 2) : -1]]
        assert not reading.dropped or len(prompt_of(m, longer)) + 8 > CONTEXT, "no more is dropped than has to be"
    notes = capsys.readouterr().err
    assert reading.dropped > 0 and f"the first {reading.dropped} messages and answers are beyond the context" in notes
    assert len(one.dialogue.exchanges) == 5, "all of them are kept"


def test_no_more_is_dropped_than_has_to_be(m: Checkpoint) -> None:
    """For every length: the longest part of a conversation that begins with the user and leaves room for the answer."""
    turns = [(role, f"{'x' * n}") for n in range(4) for role in ("user", "assistant")][:-1]
    starts = [i for i, (role, _) in enumerate(turns) if role == "user"]
    sizes = {i: len(prompt_of(m, turns[i:])) for i in starts}
    seen = set()
    for length in range(1, CONTEXT - sizes[starts[-1]] + 1):
        reading = within_context(m, turns, "chat", length)
        assert reading.dropped == min(i for i in starts if sizes[i] + length <= CONTEXT) and reading.length == length
        seen.add(reading.dropped)
    assert len(seen) >= 3


def test_little_room(m: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    """The last message always stays: its answer is shorter, and where there is no room it is not taken."""
    long = "x" * 60
    given = len(prompt_of(m, [("user", long)]))
    reading = within_context(m, [("user", "a"), ("assistant", "b"), ("user", long)], "chat", 80)
    assert reading.dropped == 2 and len(reading.ids) == given and reading.length == CONTEXT - given < 80
    assert within_context(m, [("user", "a")], "chat").length == min(128, CONTEXT - len(prompt_of(m, [("user", "a")])))
    one = session(m)
    hear(one, "x" * CONTEXT)
    assert one.dialogue.exchanges == [] and "leaves nothing of the context of 96 tokens" in capsys.readouterr().err
    with pytest.raises(RemaskError, match="length is 96; it must be below the context of 96"):
        session(m, params=SamplingParams(length=96))


# Settings and files


def test_settings_while_talking(m: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    one = session(m)
    hear(one, "/set temperature 0", "/set top-p 0.5", "/set seed 7", "/set length none")
    assert one.dialogue.params == SamplingParams(temperature=0, top_p=0.5, seed=7) and not capsys.readouterr().err
    before = one.dialogue.params
    for line, message in (
        ("/set temprature 1", "unknown setting 'temprature'. Did you mean 'temperature'?"),
        ("/set temperature hot", "temperature is 'hot'; it must be a number"),
        ("/set temperature -1", "temperature is -1.0; it must be 0 or more"),
        ("/set length 200", "length is 200; it must be below the context of 96"),
        ("/set sampler Confidenc", "unknown sampler 'Confidenc'"),
        ("/set temperature", "temperature has no value; write /set temperature VALUE"),
        ("/st temperature 1", "unknown command '/st'. Did you mean '/set'?"),
    ):
        hear(one, line)
        assert message in capsys.readouterr().err and one.dialogue.params == before, line
    hear(one, "/set")
    listed = capsys.readouterr().err
    assert "* top_p       0.5" in listed and "  top_k       0" in listed and "  length      none" in listed


def test_settings_that_the_model_does_not_take(capsys: pytest.CaptureFixture[str]) -> None:
    left, masked = session(MODELS["left"]), session(MODELS["masked"])
    hear(left, "/set sampler Confidence")
    assert "Confidence" in capsys.readouterr().err and left.dialogue.params == PARAMS
    hear(masked, "/set sampler Confidence", "/set steps 4", "/set block 4", "/set sampler Threshold")
    assert "leave steps out" in capsys.readouterr().err
    assert masked.dialogue.params == SamplingParams(length=8, seed=3, sampler="Confidence", steps=4, block=4)
    assert changed(masked.dialogue.params, "sampler", "none").sampler is None
    hear(masked, "Hi")
    assert masked.dialogue.exchanges[0].answer is not None


def test_the_conversation_is_saved_as_messages(
    m: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "chats.jsonl"
    one = session(m, system="S")
    hear(one, f"/save {path}", "/save")
    assert "there is no answer to save" in capsys.readouterr().err and not path.exists()
    hear(one, "Hi é", f"/save {path}", "Why?", f"/save {path}", f"/save {tmp_path}")
    assert f"cannot write {tmp_path}" in capsys.readouterr().err
    first, second = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    assert [x["role"] for x in second] == ["system", "user", "assistant", "user", "assistant"] and second[:3] == first
    assert first[:2] == [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi é"}]
    assert first[2]["content"] == one.dialogue.exchanges[0].answer


def test_saving_keeps_what_is_there_and_the_conversation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file whose last line lacks its end gets it; names that no file can have are said."""
    path, before = tmp_path / "chats.jsonl", '{"messages": []}'
    path.write_text(before)
    one = session(MODELS["masked"])
    hear(one, "Hi", f"/save {path}", f"/save {path}", "/save ~nobody-of-this-name/x", "/save a\0b")
    lines = path.read_text().split("\n")
    assert lines[0] == before and lines[1] == lines[2] != "" and lines[3:] == [""]
    err = capsys.readouterr().err
    assert "cannot write ~nobody-of-this-name/x" in err and "cannot write a\0b" in err
    assert len(one.dialogue.exchanges) == 1


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    hear(session(MODELS["masked"]), "/help")
    text = capsys.readouterr().err
    assert all(f"/{name}" in text and what in text for name, what in COMMANDS.items())


def test_a_slash_behind_a_space_is_a_message(m: Checkpoint) -> None:
    one = session(m)
    hear(one, " /undo")
    assert [x.message for x in one.dialogue.exchanges] == [" /undo"]


# Ctrl-C


class Stopped(Display):
    """A display in which Ctrl-C comes after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__(io.StringIO(), terminal=False)
        self.after = after

    def last_of(self, steps: Iterator[Step], *about: Any) -> Any:
        def cut() -> Iterator[Step]:
            for number, step in enumerate(steps):
                if number == self.after:
                    raise KeyboardInterrupt
                yield step

        return super().last_of(cut(), *about)


def test_a_stopped_answer_keeps_what_stands_before_the_first_mask(capsys: pytest.CaptureFixture[str]) -> None:
    left = MODELS["left"]
    greedy = SamplingParams(length=8, temperature=0, stop=False)
    whole = session(left, params=greedy)
    hear(whole, "Hi")
    one = Session(Dialogue(left, "chat", "", greedy), Stopped(3))
    hear(one, "Hi")
    kept, text = one.dialogue.exchanges[0].answer, whole.dialogue.exchanges[0].answer
    first: Any = remask.sample(left, prompt=prompt_of(left, [("user", "Hi")]), length=3, temperature=0, stop=False)
    assert kept == first.text.strip() and text and kept and text.startswith(kept)
    assert "what is written so far is kept" in capsys.readouterr().err


def test_an_empty_answer_is_told(m: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    """Here of spaces alone; end-of-text at once looks the same."""
    one = session(m, params=replace(PARAMS, matching=" *"))
    hear(one, "Hi", "/retry")
    assert one.dialogue.exchanges[0].answer == ""
    assert capsys.readouterr().err.count("an empty answer") == 2


def test_an_answer_stopped_at_once_leaves_its_message_out(
    m: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = session(m)
    hear(one, "Hi")
    one.display, usual = Stopped(0), one.display
    hear(one, "Why?")
    assert one.dialogue.exchanges[1].answer is None and "left out of the conversation" in capsys.readouterr().err
    before = one.dialogue.exchanges[0].answer
    assert [x["content"] for x in one.dialogue.messages()] == ["Hi", before]
    one.display = usual
    hear(one, "And?")
    assert ("user", "Why?") not in one.dialogue.turns and one.dialogue.turns[2] == ("user", "And?")
    answered = one.dialogue.exchanges[2].answer
    one.display = Stopped(0)
    hear(one, "/retry")
    assert one.dialogue.exchanges[2].answer == answered, "the answer before stays where no other is written"


# Templates


def test_the_template_and_the_system_message_of_plain_text() -> None:
    turns = [("system", "Be brief."), ("user", "One?"), ("assistant", "1."), ("user", "Two?")]
    assert vicuna(turns) == "Be brief. USER: One? ASSISTANT: 1.</s>USER: Two? ASSISTANT:"
    assert vicuna(turns[1:2]) == f"{SYSTEM} USER: One? ASSISTANT:"
    plain = model(Masked(), Tokenizer.bytes())
    with pytest.raises(RemaskError, match=r"no chat template: .*; --template vicuna is plain text"):
        Dialogue(plain, "chat", "", PARAMS)
    assert Dialogue(plain, "vicuna", "S", SamplingParams(length=8)).turns == [("system", "S")]


def test_the_template_of_a_fine_tuned_model() -> None:
    """What `remask train` notes in a checkpoint; `none` writes the texts one behind the other."""
    plain = model(Masked(), Tokenizer.bytes())
    assert trained_template(plain) == "chat"
    tuned = replace(plain, about={"conversations": {"templates": {"none": 3, "vicuna": 5}}})
    assert trained_template(tuned) == "vicuna"
    assert trained_template(replace(plain, about={"conversations": {"templates": {"none": 3}}})) == "none"
    assert prompt_of(plain, [("user", "2 + 2 ="), ("assistant", " 4"), ("user", "!")], "none") == list(b"2 + 2 = 4!")


# In a terminal


def test_an_answer_is_shown_while_it_is_written(m: Checkpoint) -> None:
    """The live pictures are of the answer only, and the whole text is printed behind them."""
    one, plain = session(m, terminal=True), session(m)
    hear(one, "Hi")
    hear(plain, "Hi")
    assert "\x1b[" in said(one) and len(said(one)) > len(said(plain))
    text = said(one)
    assert ("░" in text) == (m is MODELS["masked"]) and "user" not in text
    assert one.dialogue.exchanges == plain.dialogue.exchanges


def test_the_frame_of_an_answer_ends_at_its_end(m: Checkpoint) -> None:
    dialogue = Dialogue(m, "chat", "", SamplingParams(length=8, temperature=0, stop=False))
    reading = within_context(m, [("user", "Hi")], "chat", 8)
    *_, last = dialogue.steps(dialogue.request(reading))
    last = Step(**{name: value.clone() for name, value in vars(last).items()})  # which can be written to
    given, end = len(reading.ids), m.tokenizer.vocabulary.end
    last.tokens[0, given : given + 8] = 65
    last.tokens[0, given + 3] = end
    last.tokens[0, given + 1] = 27
    assert answer_frame(last, m.tokenizer, given, False).plain == "A\ufffdA", "and holds nothing a terminal obeys"
    last.tokens[0, given : given + 8] = 65
    last.masked[0, given + 2 :] = True
    assert answer_frame(last, m.tokenizer, given, True).plain == "AA"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published folder of the masked model."""
    folder, m = tmp_path_factory.mktemp("models") / "chat", MODELS["masked"]
    save(folder, m.model.state_dict(), m.model.architecture, m.family, m.tokenizer, {}, "# card\n")
    return folder


def test_the_command_through_pipes(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi\n/set temperature x\nWhy?"))
    cli.main(["chat", str(run), "--length", "8", "--seed", "3", "--precision", "fp32"])
    out, err = capsys.readouterr()
    one = session(MODELS["masked"])
    hear(one, "Hi", "Why?")
    assert out == said(one) and "\x1b" not in out and err == "temperature is 'x'; it must be a number\n"
    with pytest.raises(SystemExit):
        cli.main(["chat", str(run), "--steps", "0"])
    assert "steps is 0; it must be at least 1" in capsys.readouterr().err


def test_in_a_real_terminal(run: Path) -> None:
    """A process that is typed at: a message, a command, Ctrl-C at the prompt, Ctrl-D."""
    main_end, child_end = pty.openpty()
    command = [sys.executable, "-m", "remask", "chat", str(run), "--length", "8", "--precision", "fp32"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    child = subprocess.Popen(
        command, stdin=child_end, stdout=child_end, stderr=child_end, env=environment, start_new_session=True
    )
    os.close(child_end)
    seen = ""

    def wait_for(text: str, seconds: float = 120) -> None:
        nonlocal seen
        end = time.monotonic() + seconds
        while text not in seen:
            ready, _, _ = select.select([main_end], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"no {text!r} in {seen!r}"
            seen += os.read(main_end, 65536).decode(errors="replace")
        seen = seen.partition(text)[2]

    try:
        wait_for("/help lists the commands")
        wait_for("> ")
        os.write(main_end, b"Hi\n")
        wait_for("░")
        wait_for("> ")
        os.write(main_end, b"/set length 4\n/undo\n")
        wait_for("taken back: Hi")
        wait_for("> ")
        for _ in range(60):
            # readline sleeps through a Ctrl-C that comes after it has shown the prompt and before it waits for a key
            child.send_signal(signal.SIGINT)
            with contextlib.suppress(AssertionError):
                wait_for("Ctrl-D ends", 2)
                break
        else:
            raise AssertionError(f"60 times Ctrl-C, and {seen!r}")
        wait_for("> ")
        os.write(main_end, b"\x04")
        assert child.wait(30) == 0
    finally:
        child.kill()
        os.close(main_end)
