"""`remask rank`, and `remask score` of a file of many texts."""

from pathlib import Path
from typing import Any

from remask.checkpoints.checkpoint import Checkpoint
from remask.checkpoints.opening import Opening
from remask.checkpoints.precision import Precision
from remask.errors import RemaskError
from remask.likelihood import Estimate, Estimator, Target
from remask.scoring_workers import Workers
from remask.terminal import document


def protocol_of(run: str, checkpoint: Checkpoint, estimator: Estimator, what: str, **how: Any) -> dict[str, Any]:
    """What scores depend on: the weights, the tokenizer, and how they are found."""
    from remask.evaluation.judging import fingerprint
    from remask.scoring_log import described

    numbers = sorted({str(parameter.dtype) for parameter in checkpoint.model.parameters()})
    model = {"weights of the model": fingerprint(run), "format of its numbers": ", ".join(numbers)}
    if checkpoint.text is not None:
        model["tokenizer of the model"] = checkpoint.text.fingerprint
    return {"the log is of": what, **model, **described(estimator), **how}


def score_file(
    run: str,
    checkpoint: Checkpoint,
    file: Path,
    log: Path | None,
    estimator: Estimator,
    error: float | None,
    workers: Workers,
    json: bool,
) -> None:
    """Scores each line of a file, and prints the total, or everything as one JSON document."""
    from remask.scoring_files import score_lines
    from remask.scoring_log import ScoreLog

    protocol = protocol_of(run, checkpoint, estimator, "scores", precision=workers.opening.precision, error=error)
    with ScoreLog(log, protocol) as kept:
        found = list(score_lines(checkpoint, file, kept, estimator=estimator, error=error, workers=workers, show=True))
    if not found:
        raise RemaskError(f"{file} has no lines")
    names = Estimate.__dataclass_fields__
    total = Estimate.total(Estimate(**{k: nan(k, v) for k, v in record.items() if k in names}) for record in found)
    more = {"bits_per_byte": total.bits_per_byte, "bits_per_byte_stderr": total.bits_per_byte_stderr}
    if json:
        print(document({"total": vars(total) | more, "texts": found}))
        return
    sign = "=" if total.kind == "exact" else "<="
    within = "" if total.stderr == 0 else f" +- {total.stderr:.2f}"
    print(f"{len(found)} texts: -log p {sign} {total.nats:.2f}{within} nats ({total.kind}), {total.draws} draws")
    print(f"{total.tokens} tokens, {total.bytes} bytes: {total.nats_per_token:.4f} nats per token, {total}")


def nan(name: str, value: Any) -> Any:
    """A value as it was before it was written as JSON, which has no nan."""
    return float("nan") if value is None and name in ("nats", "stderr") else value


def rank(
    run: str,
    file: Path,
    by: list[str] | None = None,
    confidence: float = 0.95,
    target: Target = "bound",
    log: Path | None = None,
    draws: int = 128,
    estimator: str = "auto",
    guidance: float = 0.0,
    seed: int = 0,
    workers: int = 1,
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    json: bool = False,
) -> None:
    """Finds the most probable of the answers to each question of a file, with no more draws than it takes to know.

    Args:
        run: A run directory, a published folder, or other people's weights (see `remask convert`).
        file: JSON lines, as {"prompt": "Is it so?", "answers": [" yes", " no"], "id": 7}; id may be left out.
        by: What the nats of an answer are divided by: sum (nothing), tokens, bytes or characters, or several of these,
            all of which have to be settled; by default sum.
        confidence: Least probability, for each question, that its best answer is not dropped before all draws are made;
            1 makes all draws.
        target: What is to be known: the best answer by the bound, whatever the noise; or by the mean of all draws with
            this seed (draws), which takes fewer of them.
        log: A file that keeps the rankings as they are found; the same command goes on from it.
        draws: The most noisy copies of an answer.
        estimator: As of `remask score`.
        guidance: Weight of classifier-free guidance.
        seed: Seed of the noise, which is the same for the answers to a question.
        workers: Processes among which the questions are divided, as of `remask eval`.
        tokenizer: A tokenizer.json, where the checkpoint has none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the network, as of `remask score`.
        json: Print one JSON document on standard output, and nothing else.
    """
    import remask
    from remask.scoring import estimator_of
    from remask.scoring_files import rank_lines
    from remask.scoring_log import ScoreLog

    by = by or ["sum"]
    processes = Workers(workers, run, Opening(device, precision, tokenizer))
    checkpoint = remask.load(run, device=device, precision=precision, tokenizer=tokenizer)
    kind = estimator_of(checkpoint.family, estimator, draws=draws, guidance=guidance, seed=seed)
    how: dict[str, Any] = {"by": ",".join(by), "confidence": confidence, "target": target, "precision": precision}
    protocol = protocol_of(run, checkpoint, kind, "rankings", **how)
    with ScoreLog(log, protocol) as kept:
        how = {"estimator": kind, "confidence": confidence, "by": by, "target": target, "workers": processes}
        lines = rank_lines(checkpoint, file, kept, **how, show=True)
        found = list(lines)
    settled, rows = sum(record["settled"] for record in found), sum(record["draws"] for record in found)
    if json:
        print(document({"settled": settled, "draws": rows, "questions": found}))
        return
    for record in found:
        best = ", ".join(f"{record['best'][name] + 1} by {name}" for name in by)
        print(f"{record['id']}: answer {best}" + ("" if record["settled"] else ", not settled"))
    print(f"{settled} of {len(found)} questions settled at {confidence:g}, with {rows} draws")
