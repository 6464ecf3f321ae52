"""The command line: `remask VERB [options]`. Each verb is a typed function, and its signature is the list of options.

Nothing heavy is imported before the verb is known, so that `remask --help` is instant.
"""

import importlib
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from remask.checkpoints.overrides import Overrides
from remask.errors import Interrupted, RemaskError, WrongUse, unknown
from remask.sampling.params import SamplingParams
from remask.terminal import document


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
    "train": Verb("remask.training.run:train", (), "pre-train a model; rerunning the command resumes", heavy=True),
    "distill": Verb(
        "remask.training.distill:distill", ("model",), "a uniform model that needs fewer steps", heavy=True
    ),
    "scale plan": Verb("remask.scaling.planning:plan", (), "a table of runs for a scaling law"),
    "scale run": Verb("remask.scaling.run.run:run", ("study",), "execute a plan; rerunning goes on"),
    "scale report": Verb("remask.scaling.report.page:report", ("source",), "the fits, with pictures", prints=True),
    "scale fit": Verb("remask.scaling.report.text:fit", ("source",), "scaling laws with intervals"),
    "frontier": Verb("remask.evaluation.frontier:frontier", ("source",), "speed against quality of samples"),
    "scale frontier": Verb("remask.evaluation.frontier:frontier", ("source",), "the same as `remask frontier`"),
    "sample": Verb("remask.cli:sample", ("run",), "generate or infill text"),
    "score": Verb("remask.cli:score", ("run",), "likelihood of a text: exact, or a bound with its error"),
    "convert": Verb("remask.cli:convert", ("source", "destination"), "other people's weights in, and ours out"),
    "info": Verb("remask.cli:info", ("source",), "what a checkpoint of any form holds"),
}


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
    elif arguments[0] == "scale" and arguments[1:2] in ([], ["-h"], ["--help"]):
        print(overview("scale "))
        sys.exit(0 if arguments[1:] else 2)
    else:
        words = 2 if arguments[0] == "scale" else 1
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
    if verb.heavy and sys.argv[1:2] == [name] and not {"-h", "--help"} & set(arguments):
        from remask.machine import restart_with_allocator

        restart_with_allocator()
    from remask.parser import Parser

    module, function = verb.function.split(":")
    description = verb.summary[:1].upper() + verb.summary[1:] + "."
    parser = Parser(name, description, getattr(importlib.import_module(module), function), verb.positional)
    result = parser.call(arguments)
    if verb.prints:
        print(result)


def sample(
    run: str,
    prompt: str = "",
    ids: str | None = None,
    chat: bool = False,
    infill: str | None = None,
    count: int = 1,
    watch: bool = False,
    tokenizer: Path | None = None,
    end: str | None = None,
    device: str = "auto",
    json: bool = False,
    *,
    params: SamplingParams,
) -> None:
    """Generates text with a trained model.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        prompt: Text to continue.
        ids: The ids of the prompt, as 5,17,3, instead of text.
        chat: Put the prompt into the model's chat template, as a user's turn.
        infill: Text with holes, such as "the [MASK:3] sat".
        count: Texts to write, as one batch.
        watch: Show the text being denoised.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        end: Token that ends a text, by its name or its id, where the checkpoint does not say.
        device: cpu, cuda, or auto: a GPU where there is one.
        json: Print one JSON document on standard output, and nothing else.
        params: How the text is written.
    """
    import remask
    from remask.api import GenerationRequest, finished_texts

    checkpoint = remask.load(run, device=device, tokenizer=tokenizer, overrides=Overrides(end=end))
    if count < 1 or (infill is not None and count > 1):
        raise RemaskError(f"count is {count}; it must be at least 1, and 1 for a text to infill")
    if [bool(prompt), ids is not None, infill is not None].count(True) > 1:
        raise RemaskError("give --prompt, --ids or --infill, one of them")
    given: str | list[int] = prompt if ids is None else numbers(ids)
    if chat and (ids is not None or infill is not None):
        raise RemaskError("--chat goes with --prompt")
    if chat:
        from remask.data.chat import turns

        given = turns(checkpoint.tokenizer, [("user", prompt)])
        if not checkpoint.family.bos and given[0] == checkpoint.family.vocabulary.start:
            given = given[1:]  # an autoregressive row begins with it by itself
    asked: dict[str, Any] = vars(params) | {"prompt": [given] * count if infill is None else "", "infill": infill}
    if watch:
        from remask.watch import watch as show

        last = show(remask.stream(checkpoint, **asked), checkpoint.tokenizer)
        texts = finished_texts(checkpoint, last, GenerationRequest(**asked))
    else:
        samples = remask.sample(checkpoint, **asked)
        texts = samples if isinstance(samples, list) else [samples]
    if json:
        print(document([vars(t) for t in texts]))
        return
    for number, text in enumerate(texts):
        if checkpoint.text is None:
            print(",".join(map(str, text.tokens)))
        else:
            whole = text.text if infill is not None or chat else text.prompt + text.text
            print(("\n" if number else "") + whole)


def numbers(text: str) -> list[int]:
    """Reads ids that are separated by commas."""
    try:
        return [int(part) for part in text.split(",")] if text.strip() else []
    except ValueError:
        raise RemaskError(f"ids are whole numbers with commas, as 5,17,3, and not {text!r}") from None


def score(
    run: str,
    text: str | None = None,
    file: Path | None = None,
    prompt: str = "",
    ids: str | None = None,
    prompt_ids: str | None = None,
    draws: int = 128,
    estimator: str = "auto",
    strata: int | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    block: int | None = None,
    temperature: float = 1.0,
    guidance: float = 0.0,
    seed: int = 0,
    tokenizer: Path | None = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Scores a text.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        text: The text.
        file: A file with the text.
        prompt: What is given.
        ids: The ids of what is scored, as 5,17,3, instead of text.
        prompt_ids: The ids of what is given.
        draws: Noisy copies of a text, where the estimator is random.
        estimator: auto, or one that fits the family: enumeration, count, chain, rule, or as published smdm, llada for
            masked models; draws, orders for interpolating ones; draws for uniform-state ones; exact for autoregressive
            ones.
        strata: Draws of smdm and llada that are spread evenly together (their batch size); by default at most 16.
        sampler: The sampler whose likelihood the estimator "rule" gives; by default Confidence.
        steps: Steps of that sampler.
        block: Block size of that sampler.
        temperature: Temperature of that sampler.
        guidance: Weight of classifier-free guidance.
        seed: Seed of the noise, which also depends on the text and the prompt.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        json: Print one JSON document on standard output, and nothing else.
    """
    import remask

    if [text, file, ids].count(None) != 2:
        raise RemaskError("give --text, --file or --ids, one of them")
    if ids is None and prompt_ids is not None:
        raise RemaskError("--prompt_ids goes with --ids")
    if prompt and prompt_ids is not None:
        raise RemaskError("give --prompt or --prompt_ids, one of them")
    if file is not None:
        from remask.data.streams import encoding

        try:
            content = file.read_bytes()
            text = content.decode(encoding(content))
        except OSError as error:
            raise RemaskError(f"cannot read {file}: {error.strerror}") from None
        except UnicodeDecodeError as error:
            raise RemaskError(f"{file} is not UTF-8: byte {error.start} is {error.object[error.start]:#04x}") from None
    checkpoint = remask.load(run, device=device, tokenizer=tokenizer)
    found = remask.score(
        checkpoint,
        text=text or "" if ids is None else numbers(ids),
        prompt=prompt if prompt_ids is None else numbers(prompt_ids),
        draws=draws,
        estimator=estimator,
        strata=strata,
        sampler=sampler,
        steps=steps,
        block=block,
        temperature=temperature,
        guidance=guidance,
        seed=seed,
        show=True,
    )
    if json:
        more = {
            "nats_per_token": found.nats_per_token,
            "bits_per_byte": found.bits_per_byte,
            "bits_per_byte_stderr": found.bits_per_byte_stderr,
        }
        print(document(vars(found) | more))
        return
    sign = "=" if found.kind == "exact" else "<="
    error = "" if found.stderr == 0 else f" +- {found.stderr:.2f}"  # nan where one draw shows none
    print(f"-log p {sign} {found.nats:.2f}{error} nats ({found.kind}{', ' + found.of if found.of else ''})")
    print(f"{found.tokens} tokens, {found.bytes} bytes: {found.nats_per_token:.4f} nats per token, {found}")


def convert(
    source: str,
    destination: Path,
    to: str | None = None,
    tokenizer: Path | None = None,
    force: bool = False,
    from_: str | None = None,
    *,
    overrides: Overrides,
) -> None:
    """Converts a checkpoint, one tensor at a time.

    Args:
        source: A run directory, a published folder; or a file, folder or Hub name in another form.
        destination: Folder to write.
        to: llama or llada; by default a published folder of remask.
        tokenizer: A tokenizer.json, where there is none beside the weights.
        force: Replace a checkpoint that stands at the destination.
        from_: smdm, llada, dit or llama; by default recognised from the tensors.
    """
    from remask.checkpoints.convert import convert as function

    folder = function(
        source, destination, form=from_, to=to, tokenizer=tokenizer, overrides=overrides, force=force, show=True
    )
    print(f"written to {folder}" + ("" if to else f"; next: remask sample {folder} --prompt ..."))


def info(
    source: str,
    json: bool = False,
    tokenizer: Path | None = None,
    from_: str | None = None,
    *,
    overrides: Overrides,
) -> None:
    """Says what a checkpoint holds, and which tensors are missing or do not fit.

    Args:
        source: A run directory, a published folder; or a file, folder or Hub name in another form.
        json: Print one JSON document on standard output, and nothing else.
        tokenizer: A tokenizer.json, where there is none beside the weights.
        from_: smdm, llada, dit or llama; by default recognised from the tensors.
    """
    from remask.checkpoints.contents import contents

    found = contents(source, from_, tokenizer, overrides)
    if json:
        print(document(found))
        return
    for key, value in found.items():
        print(f"{key:>16}  {value}")
