"""The verbs `remask perplexity`, `remask quality` and `remask bench infill`, which print what is found."""

from pathlib import Path
from typing import Any, Literal

from remask.checkpoints.precision import Precision
from remask.data.corpus import documents
from remask.errors import RemaskError
from remask.evaluation.passages import Detokenize
from remask.scoring_params import ScoringParams
from remask.terminal import document


def perplexity(
    runs: list[str],
    source: str,
    by: str | None = None,
    period: Literal["year", "month", "day"] = "year",
    reference: str | None = None,
    stride: int | None = None,
    context: int | None = None,
    split: Literal["valid", "train"] = "valid",
    field: str = "text",
    separator: str | None = None,
    detokenize: Detokenize = "none",
    max_bytes: int | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    json: bool = False,
    *,
    params: ScoringParams,
) -> None:
    """Perplexity of a file or a corpus by rolling windows, in which each token is scored exactly once.

    Args:
        runs: Run directories, published folders, or other people's weights (see `remask convert`).
        source: A text, .jsonl, .csv or .parquet file or any other source of `remask prepare`, whose documents do not
            see each other; or a prepared folder, whose tokens are one long row as in training. For one text given a
            prompt see `remask score`, which cuts a text longer than the context into the same windows as the default
            stride here, but for the last, which there is given nothing.
        by: The field of a .jsonl file that holds a date, YYYY-MM-DD: the perplexity of each period is shown, with its
            change since the reference, and between runs.
        period: With --by, what is counted together.
        reference: With --by, the periods of the training, as 2008:2012; by default the first one of the file.
        stride: New tokens of each window. A smaller stride gives each token more of the text before it, and takes
            longer. By default the whole context, so that no token is read twice.
        context: Tokens of a window; by default the context of the model.
        split: Of a prepared folder, valid or train.
        field: Field of a JSON record, or column of a table, that holds the text.
        separator: What separates the documents of a text file; by default lines of <|endoftext|>, and without these the
            file is one document.
        detokenize: wikitext turns a file of WikiText into plain text, each article a document, as the task wikitext of
            lm-evaluation-harness does; words and bytes are counted in the file.
        max_bytes: Measure no more than the first so many bytes.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as in `remask score`.
        json: Print one JSON document on standard output, and nothing else.
        params: How the likelihood of a window is found.
    """
    import remask
    from remask.evaluation.bench_report import shown_names

    if by is None and reference is not None:
        raise RemaskError("--reference goes with --by, which names the field of the date")
    if by is not None and (separator is not None or detokenize != "none" or max_bytes is not None):
        raise RemaskError("--by reads JSON Lines: leave --separator, --detokenize and --max-bytes out")
    options: dict[str, Any] = {"stride": stride, "context": context, "field": field, "show": True, **vars(params)}
    names = shown_names(runs)
    models = {names[run]: remask.load(run, device=device, precision=precision, tokenizer=tokenizer) for run in names}
    if by is not None:
        dated = remask.perplexity_by(models, source, by, period=period, reference=reference, **options)
        print(document(dated.as_dict()) if json else dated)
        return
    options |= {"split": split, "separator": separator, "detokenize": detokenize, "max_bytes": max_bytes}
    found = {name: remask.perplexity(model, source, **options) for name, model in models.items()}
    if len(found) == 1:
        (one,) = found.values()
        print(document(one.as_dict()) if json else one)
    elif json:
        print(document({name: one.as_dict() for name, one in found.items()}))
    else:
        print("\n\n".join(f"{name}: {one}" for name, one in found.items()))


def quality(
    sources: list[str],
    judge: str | None = None,
    field: str = "text",
    separator: str | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
    json: bool = False,
) -> None:
    """Measures texts that models wrote, and real ones beside them.

    Args:
        sources: Files of texts: what `remask sample --count N --json` prints, or any source of `remask prepare`, such
            as a .jsonl file. One of them may hold real texts of the same number and length, since all measures depend
            on both.
        judge: A run of an autoregressive model, whose nats per token are shown beside the token entropy; neither tells
            anything without the other.
        field: Field of a JSON record, or column of a table, that holds the text.
        separator: What separates the texts of a text file; by default lines of <|endoftext|>.
        tokenizer: A tokenizer.json, where the judge has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        json: Print one JSON document on standard output, and nothing else.
    """
    import remask
    from remask.evaluation.quality import table

    critic = None if judge is None else remask.load(judge, device=device, tokenizer=tokenizer)
    texts = {name: [d.text for d in documents(name, field=field, separator=separator)] for name in sources}
    found = {name: remask.quality(some, critic) for name, some in texts.items()}
    print(document({name: one.as_dict() for name, one in found.items()}) if json else table(found))


def bench_infill(
    run: str,
    source: Path,
    limit: int | None = None,
    sentences: str = "3",
    out: Path | None = None,
    sampler: str | None = None,
    steps: int | None = None,
    temperature: float = 0.0,
    guidance: float = 0.0,
    seed: int = 0,
    batch: int = 16,
    execute: bool = False,
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    json: bool = False,
) -> None:
    """Infilling of code, graded by exact match and, if asked for, by its tests, and of sentences of stories, by ROUGE.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`). An autoregressive
            model writes from left to right and sees only what stands before the hole.
        source: A file of HumanEval-infilling, or any JSON Lines file with the fields task_id, prompt,
            canonical_solution and suffix, compressed or not; or stories, as JSON Lines with the fields text and
            sentence (the one that is removed), or as ROCStories or its Story Cloze Test have them (.jsonl, .csv). A
            hole has as many tokens as the true text.
        limit: Take only the first so many tasks.
        sentences: Which of the five sentences of ROCStories are removed: 3, or as 2-4.
        out: A JSON Lines file of completions to write, in the form of HumanEval-infilling.
        sampler: How holes are written; by default Confidence, or the family's own sampler.
        steps: Steps for each hole; by default one token a step.
        temperature: 0 writes the most probable tokens.
        guidance: Weight of classifier-free guidance.
        seed: Seed of the noise.
        batch: Tasks that are written together.
        execute: Run each program with its tests. This is code that a model wrote: it runs in a sandbox (bubblewrap)
            without network and files, with limits on time and memory; a virtual machine is safer still.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as in `remask sample`.
        json: Print one JSON document on standard output, and nothing else.
    """
    import remask
    from remask.evaluation.infilling import infill, read_items
    from remask.files import check_writable, write_atomically

    items = read_items(source, limit, sentences)
    if out is not None:
        check_writable(out)
    checkpoint = remask.load(run, device=device, precision=precision, tokenizer=tokenizer)
    found = infill(
        checkpoint,
        items,
        sampler=sampler,
        steps=steps,
        temperature=temperature,
        guidance=guidance,
        seed=seed,
        batch=batch,
        execute=execute,
        show=True,
    )
    if out is not None:
        lines = [document({"task_id": task, "completion": text}) for task, text in found.completions.items()]
        write_atomically(out, "".join(f"{line}\n" for line in lines))
    if json:
        measures = {"exact_match": found.exact_match, "exact_match_stderr": found.exact_match_stderr}
        like = found.rouge and {name: vars(of) for name, of in found.rouge.items()}
        if found.passed is not None:
            measures |= {"pass_rate": found.pass_rate, "pass_rate_stderr": found.pass_rate_stderr}
        print(document(vars(found) | {"left_out": list(found.left_out), "rouge": like} | measures))
        return
    print(found)
