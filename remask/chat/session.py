"""The loop of `remask chat`: a line is a message, or a command that begins with a slash."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from remask.chat.dialogue import Dialogue, Exchange
from remask.chat.display import Display
from remask.chat.settings import changed, shown
from remask.errors import RemaskError, unknown
from remask.terminal import say

COMMANDS = {
    "undo": "takes back the last message and its answer",
    "retry": "answers the last message anew, with another seed",
    "reset": "forgets all messages; settings and the system message stay",
    "set": "NAME VALUE: changes a setting, as temperature 0.5; alone it lists them",
    "save": 'FILE: adds the conversation to a file, as a line {"messages": [...]}',
    "help": "lists the commands",
}
"""What stands behind a slash, with what it does; each is a method of `Session`."""


class Session:
    """A conversation with somebody who types."""

    def __init__(self, dialogue: Dialogue, display: Display) -> None:
        self.dialogue, self.display = dialogue, display
        self.dropped = 0
        """First turns that were not read for the last answer."""

    def hear(self, line: str) -> None:
        """Answers a message, or obeys a command. What is wrong with it is said, and nothing changes."""
        try:
            if not line.startswith("/"):
                self.answer_to(line)
                return
            name, _, rest = line[1:].partition(" ")
            if name not in COMMANDS:
                raise unknown("command", f"/{name}", [f"/{one}" for one in COMMANDS])
            obey: Callable[[str], None] = getattr(self, name)
            obey(rest.strip())
        except RemaskError as error:
            say(str(error))

    def answer_to(self, message: str) -> None:
        """Answers a message; one that is not answered because of an error is not kept."""
        self.dialogue.exchanges.append(Exchange(message))
        try:
            self.answer()
        except RemaskError:
            self.dialogue.exchanges.pop()
            raise

    def answer(self) -> None:
        """Writes the answer to the last message, which has none."""
        dialogue = self.dialogue
        reading = dialogue.reading()
        request = dialogue.request(reading)
        self.note_dropped(reading.dropped)
        checkpoint = dialogue.checkpoint
        last, stopped = self.display.last_of(
            dialogue.steps(request), checkpoint.tokenizer, len(reading.ids), checkpoint.family.order == "left"
        )
        text = "" if last is None else dialogue.text(request, last)
        if not stopped or text:
            dialogue.exchanges[-1].answer = text
            self.display.show(text)
        if not stopped and not text:
            blocks = ", and /set block 8 may help" * (checkpoint.family.order == "any")
            say(f"an empty answer: the model ended it at once; /retry writes another{blocks}")
        if stopped:
            kept = "what is written so far is kept" if text else "the message is left out of the conversation"
            say(f"stopped; {kept}, and /retry answers it anew")

    def note_dropped(self, dropped: int) -> None:
        """Says how many of the first turns are not read, where that is another number than before."""
        if dropped != self.dropped and dropped:
            context = self.dialogue.checkpoint.model.architecture.context
            say(f"the first {dropped} messages and answers are beyond the context of {context} tokens and not read")
        self.dropped = dropped

    def undo(self, rest: str) -> None:
        """Takes back the last message and its answer."""
        require_nothing("undo", rest)
        if not self.dialogue.exchanges:
            raise RemaskError("there is no message to take back")
        say(f"taken back: {self.dialogue.exchanges.pop().message}")

    def retry(self, rest: str) -> None:
        """Answers the last message anew. The answer before stays where no other one is written."""
        require_nothing("retry", rest)
        if not self.dialogue.exchanges:
            raise RemaskError("there is no message to answer")
        last = self.dialogue.exchanges[-1]
        before, last.answer = last.answer, None
        last.attempt += 1
        try:
            self.answer()
        finally:
            last.answer = before if last.answer is None else last.answer

    def reset(self, rest: str) -> None:
        """Forgets all messages."""
        require_nothing("reset", rest)
        self.dialogue.exchanges.clear()
        self.dropped = 0
        say("a new conversation begins")

    def set(self, rest: str) -> None:
        """Changes a setting, where answers can be written with its new value; without one, lists them all."""
        name, _, value = rest.partition(" ")
        if not name:
            say("\n".join(shown(self.dialogue.params)))
            return
        if not value.strip():
            raise RemaskError(f"{name} has no value; write /set {name} VALUE, where none takes it away")
        params = changed(self.dialogue.params, name, value.strip())
        self.dialogue.check(params)
        self.dialogue.params = params

    def save(self, rest: str) -> None:
        """Adds the conversation to a file."""
        messages = self.dialogue.messages()
        if not rest:
            raise RemaskError("save needs a file; write /save chats.jsonl")
        if not any(one["role"] == "assistant" for one in messages):
            raise RemaskError("there is no answer to save")
        add_line(rest, json.dumps({"messages": messages}, ensure_ascii=False))
        say(f"{len(messages)} messages and answers are added to {rest}")

    def help(self, rest: str) -> None:
        """Lists the commands."""
        lines = [f"/{name:<6}{what}" for name, what in COMMANDS.items()]
        lines.append("A message may begin with a slash behind a space. Ctrl-C stops an answer, Ctrl-D ends.")
        say("\n".join(lines))


def add_line(name: str, line: str) -> None:
    """Adds a line to a file, behind the end of the line before, which may lack it. RemaskError where it cannot."""
    try:
        with open(Path(name).expanduser(), "a+b") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read() == b"\n" else f"\n{line}"
            file.write(f"{line}\n".encode())
    except (OSError, ValueError, RuntimeError) as error:  # ValueError: a zero byte; RuntimeError: ~NOBODY
        raise RemaskError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from None


def require_nothing(name: str, rest: str) -> None:
    """RemaskError where something stands behind a command that takes nothing."""
    if rest:
        raise RemaskError(f"/{name} takes nothing behind it, and there is {rest!r}")


def talk(session: Session, source: TextIO | None = None) -> None:
    """Hears every line of `source`, by default of standard input, until it ends.

    In a terminal the line is edited there and Ctrl-C empties it; elsewhere Ctrl-C ends the command, unless an answer is
    being written, which it stops.
    """
    source = sys.stdin if source is None else source
    if source is None:  # standard input is closed
        return
    typed = source is sys.stdin and source.isatty() and session.display.live
    if typed:
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  # gives input() its editing and its history
        say("/help lists the commands, Ctrl-D ends")
    while True:
        try:
            line = input("> ") if typed else source.readline()
            if not typed and not line:
                return
            if line.strip():
                session.hear(line.rstrip("\r\n"))
        except EOFError:
            print(file=session.display.console.file)
            return
        except KeyboardInterrupt:
            if not typed:
                raise
            say("\nCtrl-D ends")
        except UnicodeDecodeError as error:
            raise RemaskError(f"the input is not UTF-8: {error.reason}") from None
