"""The command line: `remask VERB [options]`. Each verb is a typed function, and its signature is the list of options.

Nothing heavy is imported before the verb is known, so that `remask --help` is instant.
"""

import importlib
import io
import os
import sys
from dataclasses import dataclass
from typing import NoReturn

from remask.errors import Interrupted, RemaskError, WrongUse, unknown


@dataclass(frozen=True)
class Verb:
    """A command of the command line."""

    function: str
    """Module and name of the function, as "remask.demo:demo"; its signature is the options."""
    positional: tuple[str, ...]
    """The parameters that are given by their place on the command line, without a name."""
    summary: str
    """What it does, for the help."""
    heavy: bool = False
    """Whether it runs for so long that restarting with another memory allocator pays off."""
    prints: bool = False
    """Whether what the function returns is printed."""


VERBS = {
    "demo": Verb("remask.demo:demo", (), "the whole job in a few minutes, on text every machine has", heavy=True),
    "prepare": Verb("remask.data.tokens:prepare", ("source",), "text -> tokenizer and packed tokens", prints=True),
    "rows": Verb("remask.tasks.rows:write_rows", ("source",), "a task -> rows of prompt and completion", prints=True),
    "train": Verb("remask.training.run:train", (), "pre-train a model; rerunning the command resumes", heavy=True),
    "distill": Verb(
        "remask.training.distill:distill", ("model",), "a uniform model that needs fewer steps", heavy=True
    ),
    "reinforce": Verb(
        "remask.training.reinforcement.run:command", ("model",), "reward a model for right answers", heavy=True
    ),
    "prefer": Verb(
        "remask.training.preference.run:command", ("model",), "learn which of two replies is better", heavy=True
    ),
    "scale plan": Verb("remask.scaling.planning:plan", (), "a table of runs for a scaling law"),
    "scale run": Verb("remask.scaling.run.run:run", ("study",), "execute a plan; rerunning goes on"),
    "scale report": Verb("remask.scaling.report.page:report", ("source",), "the fits, with pictures", prints=True),
    "scale fit": Verb("remask.scaling.report.text:fit", ("source",), "scaling laws with intervals"),
    "frontier": Verb("remask.evaluation.frontier:frontier", ("source",), "speed against quality of samples"),
    "scale frontier": Verb("remask.evaluation.frontier:frontier", ("source",), "the same as `remask frontier`"),
    "bench sample": Verb(
        "remask.evaluation.bench_sample:bench_sample", ("runs",), "quality against speed of every way of writing"
    ),
    "bench infill": Verb(
        "remask.evaluation.commands:bench_infill",
        ("run", "source"),
        "holes in code by exact match, in stories by ROUGE",
    ),
    "bench guidance": Verb(
        "remask.evaluation.zeroshot.sweep:sweep_guidance", ("runs",), "the weight of guidance, chosen on validation"
    ),
    "bench reversal": Verb(
        "remask.evaluation.reversal.command:reversal", ("runs",), "the reversal curse, and couplets"
    ),
    "eval": Verb("remask.evaluation.zeroshot.command:evaluate", ("runs",), "zero-shot benchmarks, models side by side"),
    "sample": Verb("remask.commands:sample", ("run",), "generate or infill text"),
    "score": Verb("remask.commands:score", ("run",), "likelihood of a text: exact, or a bound with its error"),
    "rank": Verb("remask.scoring_commands:rank", ("run",), "the most probable of several answers, settled early"),
    "classify": Verb(
        "remask.robustness.commands:classify", ("run", "file"), "labels by likelihood, under attack, or certified"
    ),
    "revise": Verb("remask.robustness.commands:revise", ("run",), "a masked model corrects drafts of other models"),
    "perplexity": Verb(
        "remask.evaluation.commands:perplexity",
        ("runs", "source"),
        "perplexity of a file or a corpus, by rolling windows",
    ),
    "quality": Verb(
        "remask.evaluation.commands:quality", ("sources",), "quality of written texts: repetition, and a judge"
    ),
    "chat": Verb("remask.chat.command:chat", ("run",), "talk with a model, and watch it write"),
    "answer": Verb("remask.evaluation.answers:answer", ("run",), "answers to the questions of a file, as MT-Bench's"),
    "convert": Verb("remask.commands:convert", ("source", "destination"), "other people's weights in, and ours out"),
    "info": Verb("remask.commands:info", ("source",), "what a checkpoint of any form holds"),
}

GROUPS = {name.partition(" ")[0] for name in VERBS if " " in name}
"""First words of the verbs of two words."""


def main(arguments: list[str] | None = None) -> None:
    """Entry point. Exit status: 0 done, 1 failed, 2 wrong use, 130 interrupted with the work saved."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files and texts may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            run(sys.argv[1:] if arguments is None else arguments)
        finally:  # of what --help prints as well
            if sys.stdout is not None:  # as it is where it was closed before the start
                sys.stdout.flush()
    except RemaskError as error:
        fail(str(error), 2 if isinstance(error, WrongUse) else 130 if isinstance(error, Interrupted) else 1)
    except BrokenPipeError:  # whoever read our output has enough of it, as `head`
        discard_output()
        sys.exit(1)
    except (MemoryError, OSError) as error:  # among them a full disk, a missing permission
        discard_output()
        fail(str(error) or "not enough memory for what was asked", 1)
    except KeyboardInterrupt:
        print(file=sys.stderr)  # ends the line on which the terminal shows ^C
        fail("interrupted", 130)


def fail(message: str, status: int) -> NoReturn:
    """Ends the process with a message on standard error."""
    print(f"remask: {message}", file=sys.stderr)
    sys.exit(status)


def discard_output() -> None:
    """Discards what is still to be written to standard output, about which Python would complain at its exit."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(arguments: list[str]) -> None:
    """Runs one command: its words, as the shell splits them."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        sys.exit(0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        from remask import __version__

        print(f"remask {__version__}")
    elif arguments[0] in GROUPS and arguments[1:2] in ([], ["-h"], ["--help"]):
        print(overview(f"{arguments[0]} "))
        sys.exit(0 if arguments[1:] else 2)
    else:
        words = 2 if arguments[0] in GROUPS else 1
        call(" ".join(arguments[:words]), arguments[words:])


def overview(start: str = "") -> str:
    """The text of `remask --help`, or of the verbs that begin with `start`."""
    lines = ["usage: remask VERB [options]", "", "Language models that write by denoising.", ""]
    lines += [f"  {name:<16}{verb.summary}" for name, verb in VERBS.items() if name.startswith(start)]
    return "\n".join([*lines, "", "`remask VERB --help` lists the options of one."])


def call(name: str, arguments: list[str]) -> None:
    """Parses the options of a verb and calls its function."""
    verb = VERBS.get(name)
    if verb is None:
        raise WrongUse(str(unknown("verb", name, VERBS)))
    if verb.heavy and sys.argv[1 : 1 + len(name.split())] == name.split() and not {"-h", "--help"} & set(arguments):
        from remask.machine import restart_with_allocator

        restart_with_allocator()
    from remask.parser import Parser

    module, function = verb.function.split(":")
    description = verb.summary[:1].upper() + verb.summary[1:] + "."
    parser = Parser(name, description, getattr(importlib.import_module(module), function), verb.positional)
    result = parser.call(arguments)
    if verb.prints:
        print(result)
