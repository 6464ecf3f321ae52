"""The verbs that use a checkpoint: `remask sample`, `score`, `convert` and `info`. Each prints what it finds."""

from functools import partial
from pathlib import Path
from typing import Any

from remask.checkpoints.overrides import Overrides
from remask.checkpoints.precision import Precision
from remask.data.chat import TemplateName
from remask.errors import RemaskError
from remask.sampling.params import SamplingParams
from remask.scoring_params import ScoringParams
from remask.terminal import document


def sample(
    run: str,
    prompt: str = "",
    ids: str | None = None,
    chat: bool = False,
    template: TemplateName | None = None,
    negative_prompt: str = "",
    infill: str | None = None,
    preset: str | None = None,
    count: int = 1,
    watch: bool = False,
    tokenizer: Path | None = None,
    end: str | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    pack: bool = False,
    compile: bool = False,
    json: bool = False,
    *,
    params: SamplingParams,
) -> None:
    """Generates text with a trained model.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        prompt: Text to continue.
        ids: The ids of the prompt, as 5,17,3, instead of text.
        chat: Put the prompt as a user's turn into the template by which `remask train` fine-tuned the model, else into
            that of the tokenizer's special tokens, as `remask chat` does.
        template: As --chat, in another template: chat puts the tokenizer's special tokens around each turn; vicuna is
            FastChat's plain text; none puts nothing around the prompt. Without both the prompt is read as it is.
        negative_prompt: With --guidance, the text from which the result moves away; no longer than the prompt.
        infill: Text with holes, such as "the [MASK:3] sat" or, of 2 to 5 tokens, "the [MASK:2-5] sat"; the text of
            [MASK:3|EXPRESSION] matches a regular expression.
        preset: Published settings, which options overrule: llada, smdm, fast-dllm (its threshold and dual cache),
            fast-dllm-prefix, fast-dllm-factor.
        count: Texts to write, as one batch.
        watch: Show the text being denoised.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        end: Token that ends a text, by its name or its id, where the checkpoint does not say.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network: auto takes bf16 where the processor is fast at it, else fp32; stored
            keeps that of the weights; int8 rounds them to 8 bits, which is faster and not quite the same model (CPU).
        pack: Lay the weights out for a CPU once, not in every call: faster with few rows, and takes more memory.
        compile: Compile the network: the first texts wait a minute or more, later ones are faster. Nothing is gained
            with --cache, nor by autoregressive and Eso-LM models, which have a cache of their own.
        json: Print one JSON document on standard output, and nothing else.
        params: How the text is written.
    """
    import remask
    from remask.generation.request import GenerationRequest
    from remask.generation.result import finished_texts

    end_named = Overrides(end=end)
    how: dict[str, Any] = {"device": device, "precision": precision, "pack": pack, "compile": compile}
    checkpoint = remask.load(run, **how, tokenizer=tokenizer, overrides=end_named)
    if count < 1 or (infill is not None and count > 1):
        raise RemaskError(f"count is {count}; it must be at least 1, and 1 for a text to infill")
    if [bool(prompt), ids is not None, infill is not None].count(True) > 1:
        raise RemaskError("give --prompt, --ids or --infill, one of them")
    given: str | list[int] = prompt if ids is None else numbers(ids)
    chat = chat or template is not None
    if chat and (ids is not None or infill is not None):
        raise RemaskError("--chat and --template go with --prompt")
    if chat:
        from remask.conversation import prompt_of, require_template, trained_template

        template = template or trained_template(checkpoint)
        require_template(checkpoint, template)
        given = prompt_of(checkpoint, [("user", prompt)], template)
    asked: dict[str, Any] = vars(params) | {"prompt": [given] * count if infill is None else "", "infill": infill}
    asked |= {"negative_prompt": negative_prompt}
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
    log: Path | None = None,
    error: float | None = None,
    tokens: bool = False,
    workers: int = 1,
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    json: bool = False,
    *,
    params: ScoringParams,
) -> None:
    """Scores a text.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        text: The text.
        file: A file with the text. Of one that is named *.jsonl, each line is a text of its own, as
            {"prompt": "the cat", "text": " sat", "id": 7}; prompt and id may be left out.
        prompt: What is given.
        ids: The ids of what is scored, as 5,17,3, instead of text.
        prompt_ids: The ids of what is given.
        log: A file that keeps the scores of a *.jsonl file as they are found; the same command goes on from it.
        error: Standard error, in nats, at which the draws of a text end; by default all are made.
        tokens: Also give the nats of each token, which sum to those of the text: given the tokens before it (exact,
            chain), when the sampler writes it (rule), or the mean over all orders (the bounds of masked models). In a
            terminal the text is coloured by them; elsewhere, and with NO_COLOR set, they are listed.
        workers: Processes among which the lines of a *.jsonl file are divided, as of `remask eval`.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network: stored keeps that of the weights, so that a score does not depend on
            the processor; auto takes bf16 where the processor is fast at it, else fp32; int8 rounds them to 8 bits,
            and the score is that of the rounded model (CPU).
        json: Print one JSON document on standard output, and nothing else.
        params: How the likelihood is found.
    """
    import remask

    if [text, file, ids].count(None) != 2:
        raise RemaskError("give --text, --file or --ids, one of them")
    if ids is None and prompt_ids is not None:
        raise RemaskError("--prompt_ids goes with --ids")
    if prompt and prompt_ids is not None:
        raise RemaskError("give --prompt or --prompt_ids, one of them")
    many = file is not None and file.suffix == ".jsonl"
    if many and (prompt or prompt_ids is not None):
        raise RemaskError(f"the prompts of {file} stand in its lines, so there is no --prompt")
    if workers != 1 and not many:
        raise RemaskError("--workers goes with a --file that is named *.jsonl")
    if log is not None and not many:
        raise RemaskError("--log goes with a --file that is named *.jsonl")
    if tokens and (many or error is not None):
        raise RemaskError("--tokens is for one text, with all its draws; leave --error out, and give no .jsonl file")
    if file is not None and not many:
        from remask.data.streams import encoding

        try:
            content = file.read_bytes()
            text = content.decode(encoding(content))
        except OSError as reason:
            raise RemaskError(f"cannot read {file}: {reason.strerror}") from None
        except UnicodeDecodeError as reason:
            at = reason.start
            raise RemaskError(f"{file} is not UTF-8: byte {at} is {reason.object[at]:#04x}") from None
    checkpoint = remask.load(run, device=device, precision=precision, tokenizer=tokenizer)
    if many and file is not None:
        from remask.checkpoints.opening import Opening
        from remask.scoring import estimator_of
        from remask.scoring_commands import score_file
        from remask.scoring_workers import Workers

        kind = estimator_of(checkpoint.family, **vars(params))
        processes = Workers(workers, run, Opening(device, precision, tokenizer))
        score_file(run, checkpoint, file, log, kind, error, processes, json)
        return
    by_token: Any = remask.score_tokens if tokens else partial(remask.score, error=error)
    scored = by_token(
        checkpoint,
        text=text or "" if ids is None else numbers(ids),
        prompt=prompt if prompt_ids is None else numbers(prompt_ids),
        **vars(params),
        show=True,
    )
    found, each = (scored.estimate, scored) if isinstance(scored, remask.TokenScores) else (scored, None)
    if json:
        more: dict[str, Any] = {
            "nats_per_token": found.nats_per_token,
            "bits_per_byte": found.bits_per_byte,
            "bits_per_byte_stderr": found.bits_per_byte_stderr,
        }
        if each is not None:
            more |= {"token_ids": each.tokens, "token_texts": each.texts}
            more |= {"token_nats": each.nats, "token_stderr": each.stderr}
        print(document(vars(found) | more))
        return
    if each is not None:
        from remask.token_strip import show_tokens

        show_tokens(each)
    sign = "=" if found.kind == "exact" else "<="
    within = "" if found.stderr == 0 else f" +- {found.stderr:.2f}"  # nan where one draw shows none
    print(f"-log p {sign} {found.nats:.2f}{within} nats ({found.kind}{', ' + found.of if found.of else ''})")
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
