"""The verbs `remask classify` and `remask revise`, which print what is found."""

from dataclasses import asdict
from pathlib import Path

from remask.checkpoints.precision import Precision
from remask.errors import Interrupted, RemaskError
from remask.files import check_writable
from remask.robustness.revision import Revision
from remask.robustness.smoothing import Smoothing
from remask.terminal import document, progress


def classify(
    run: str,
    file: Path,
    labels: list[str] | None = None,
    template: str = "{text} => {label}",
    certify: bool = False,
    smoothing: Smoothing = Smoothing(),  # noqa: B008
    denoiser: str | None = None,
    attack: int = 0,
    tries: int = 32,
    limit: int | None = None,
    confidence: float = 0.95,
    draws: int = 128,
    estimator: str = "auto",
    seed: int = 0,
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    json: bool = False,
) -> None:
    """Classifies the labelled texts of a file by likelihood: how many are right, also under an attack, or certified.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        file: JSON lines, as {"text": "the plot was dull", "label": "bad"}.
        labels: The labels to choose from; by default those of the file.
        template: How a text and its label stand together. The last one is scored given the first: "{text} => {label}"
            takes the most probable label, and "{label}: {text}" the label under which the text is the most probable.
            Of a model that `remask train` fine-tuned on replies, the end of the reply is scored behind it.
        certify: Also take a vote over copies with random tokens hidden and filled in, and certify how many tokens of a
            text may be replaced, whichever and by whatever, before another label wins.
        smoothing: How copies are masked for the vote, and how many there are.
        denoiser: The masked model that fills in the copies; by default the run itself.
        attack: Also replace up to so many tokens by others, greedily, such that a wrong label becomes the most
            probable. Only tokens that say little about the label are replaced, and by their like: those that texts of
            all labels of the file have about equally often, of which a file should have some hundreds.
        tries: Replacements that the attack tries for each of them; 1 replaces at random.
        limit: Read no more than the first so many texts.
        confidence: As of `remask rank`.
        draws: The most noisy copies that are scored of a text with a label.
        estimator: As of `remask score`.
        seed: Seed of all noise, which is the same for the labels of a text.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as of `remask score`.
        json: Print one JSON document on standard output, and nothing else.
    """
    import remask
    from remask.likelihood import choose
    from remask.robustness.classification import Classifier
    from remask.robustness.labelled import Template, labelled_of, labels_in
    from remask.robustness.verdicts import Trial, neutral_tokens, summary
    from remask.robustness.voting import require_denoiser

    rows = list(labelled_of(file))
    if not rows or (limit is not None and limit < 1):
        raise RemaskError(f"{file} has no texts" if not rows else f"limit is {limit}; it must be at least 1")
    known, form = labels_in(rows, labels, file), Template(template)
    if denoiser is not None and not certify:
        raise RemaskError("--denoiser fills in the copies of --certify; give both")
    checkpoint = remask.load(run, device=device, precision=precision, tokenizer=tokenizer)
    kind = choose(checkpoint.family, estimator, draws=draws, seed=seed)
    classifier = Classifier(checkpoint, known, form, kind, confidence)
    other = checkpoint if denoiser is None else remask.load(denoiser, device=device, precision=precision)
    if certify:
        require_denoiser(classifier, other)
    candidates = neutral_tokens(classifier, rows) if attack else []
    trial = Trial(
        smoothing=smoothing if certify else None,
        denoiser=other,
        attack=attack,
        tries=tries,
        candidates=candidates,
        seed=seed,
    )
    rows, found = rows[:limit], []
    with progress("classifying", len(rows), "texts") as tick:
        for one in trial.run(classifier, rows):
            found.append(one)
            tick(1)
    shares = summary(found)
    if json:
        print(document({"labels": known, "shares": dict(shares), "texts": [asdict(one) for one in found]}))
        return
    print(f"{len(found)} texts, labels {', '.join(known)}")
    for name, (mean, error) in shares.items():
        print(f"{name:>32}  {mean:.3f} +- {error:.3f}")


def revise(
    run: str,
    file: Path,
    out: Path | None = None,
    judge: str | None = None,
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    *,
    how: Revision,
) -> None:
    """Revises drafts: hides a part of each, and writes it anew with all the rest in sight.

    Stopped, it goes on with the same command, where there is an --out.

    Args:
        run: A run of a masked model, a published folder, or other people's weights.
        file: Drafts, as JSON lines {"prompt": "Sort: owl ant", "text": " ant owl", "ended": true}, of which only text
            must be given, or what `remask sample --json` prints. Prompts stay as they are.
        out: A file for the revised drafts, as JSON lines, each written as soon as it is made; by default they are
            printed. Stopped, the same command goes on from it, and OUT.settings.json beside it says what it is of.
        judge: An autoregressive run, whose nats per token of the drafts, before and after, are printed on standard
            error beside their token entropy. It reads them as they are revised, and keeps none.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as of `remask sample`.
        how: How drafts are revised.
    """
    import remask
    from remask.evaluation.judging import fingerprint
    from remask.robustness.drafts import drafts_of
    from remask.robustness.judging import Judging
    from remask.robustness.revised_file import RevisedFile
    from remask.robustness.revising import revise as revise_drafts
    from remask.scoring_log import key_of
    from remask.terminal import say

    given = drafts_of(file)
    if out is not None:
        check_writable(out)
    checkpoint = remask.load(run, device=device, precision=precision, tokenizer=tokenizer)
    ids, drafts = [id for id, _ in given], [draft for _, draft in given]
    judging = None if judge is None else Judging(remask.load(judge, device=device), drafts)
    settings = {"weights of the model": fingerprint(run), "tokenizer": checkpoint.tokenizer.fingerprint}
    settings |= {"hash of the drafts": key_of([[id, *vars(draft).values()] for id, draft in given])}
    settings |= {"device": checkpoint.model.device.type, "precision": precision} | asdict(how)
    with RevisedFile(out, ids, settings) as found:
        try:
            if judging is not None and found.done:
                with progress("judging what is there", found.done, "drafts") as tick:
                    for one in found.known():
                        judging.add(one)
                        tick(1)
            with progress("revising", len(drafts), "drafts", found.done) as tick:
                for one in revise_drafts(checkpoint, drafts, how, found.done):
                    found.add(one)
                    if judging is not None:
                        judging.add(one)
                    tick(1)
        except KeyboardInterrupt:
            if out is None:
                raise
            kept = f"{found.done} of {len(drafts)} drafts are in {out}"
            raise Interrupted(f"stopped; {kept}, and the same command goes on") from None
    say(f"{found.done} drafts: {found.changed} of {found.tokens} tokens changed")
    if judging is not None:
        for name, quality in judging.found().items():
            say(
                f"{name}: {quality.nll:.4f} +- {quality.nll_error:.4f} nats per token under the judge, "
                f"token entropy {quality.entropy:.4f} +- {quality.entropy_error:.4f}"
            )
