"""`remask bench reversal`: what models write when they are asked the other way round.

    remask bench reversal runs/masked runs/ar --questions reversal_curse/june_version_7921032488
    remask bench reversal runs/masked runs/ar --questions pairs:people=120
    remask bench reversal GSAI-ML/LLaDA-8B-Instruct --questions poem_data.json --chat --way LLaDA:never_end=true \\
        --length 28

Every answer is kept at once, so that the command goes on where it stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import remask
from remask.checkpoints.checkpoint import Checkpoint, load, usable_device
from remask.checkpoints.precision import Precision
from remask.conversation import prompt_of, reply_to
from remask.errors import Interrupted, RemaskError
from remask.evaluation.judging import fingerprint
from remask.evaluation.reversal.log import Answer, Log, open_log
from remask.evaluation.reversal.report import write_report
from remask.evaluation.reversal.sources import Cell, Row, cells_of
from remask.evaluation.ways import Way, fitting, way_of
from remask.likelihood import Request, choose
from remask.likelihood import score as score_requests
from remask.locking import locked
from remask.scoring import answer_to
from remask.terminal import progress

TOGETHER = 16
"""Questions that are answered in the same network calls."""
SLACK = 4
"""Tokens beyond those of the longest right answer, so that the end of a text can be written."""


def reversal(
    runs: list[str],
    questions: str,
    way: str | None = None,
    length: int | None = None,
    total: int | None = None,
    chat: bool = False,
    limit: int | None = None,
    draws: int = 64,
    seed: int = 0,
    out: Path = Path("runs/reversal"),
    tokenizer: Path | None = None,
    device: str = "auto",
    precision: Precision = "stored",
    json: bool = False,
) -> dict[str, Any]:
    """Asks models for what they were told in the other order, or for the line of a poem before another.

    Args:
        runs: Run directories, published folders, or other people's weights.
        questions: The folder of the published files; a .json list of couplets {"first", "second"}; a .jsonl file of
            {"prompt", "completion"}; or a generated world, as pairs:people=120,world=0 (see docs/tasks.md).
        way: How texts are written, as in `remask bench sample --ways`, such as Confidence:steps=8. Models that it does
            not fit write in their own way; by default all do, masked ones by Confidence, one token a step.
        length: Tokens to write; by default those of the longest right answer and 4 more.
        total: In place of length: tokens of a prompt and its answer together, as SMDM has it.
        chat: Ask each question as a turn of a conversation, in the template of `remask chat`. Right answers and the
            control are scored as replies in it, with the end of a turn.
        limit: Ask the first so many rows of each kind of question.
        draws: Noisy copies of an answer by whose likelihood right answers are compared with those of the control;
            autoregressive models are scored exactly.
        seed: Seed of the noise.
        out: Folder for the answers, reversal.csv, .json, .md and .png.
        tokenizer: A tokenizer.json, for checkpoints that have none.
        device: cpu, cuda, or auto: a GPU where there is one.
        precision: Number format of the networks, as for `remask score`.
        json: Print one JSON document on standard output, and nothing else.

    Returns the settings and the results. RemaskError for what cannot be asked, and where `out` holds answers to other
    questions or with other settings; Interrupted after a Ctrl-C, all answers saved.
    """
    for name, value, least in (("length", length, 1), ("total", total, 2), ("limit", limit, 1), ("draws", draws, 1)):
        if value is not None and value < least:
            raise RemaskError(f"{name} is {value}; it must be at least {least}")
    if length is not None and total is not None:
        raise RemaskError("give length or total, not both")
    cells = [cell.first(limit) for cell in cells_of(questions)]
    how = None if way is None else way_of(way)
    paths = list(dict.fromkeys(str(Path(run)) for run in runs))
    models = {path: load(path, device=device, precision=precision, tokenizer=tokenizer) for path in paths}
    respondents = {path: Respondent(path, models[path], how, length, total, chat, draws, seed) for path in paths}
    for one in respondents.values():
        one.check(cells)
    kept: dict[str, Any] = {"way": None if how is None else how.name, "length": length, "total": total}
    kept |= {"chat": "questions and likelihoods" if chat else False}
    kept |= {"draws": draws, "seed": seed, "device": str(usable_device(device)), "precision": precision}
    kept |= {f"weights of {path}": fingerprint(path) for path in paths}
    with locked(out, "asking"):
        log = open_log(out, kept, cells)
        try:
            ask_all(list(respondents.values()), cells, log)
        except KeyboardInterrupt:
            raise Interrupted(f"stopped; the answers so far are in {out}, and the same command goes on") from None
        return write_report(paths, cells, log, kept, out, json)


class Respondent:
    """A model, and how it is asked."""

    def __init__(
        self, name: str, checkpoint: Checkpoint, way: Way | None, length: int | None, total: int | None, chat: bool,
        draws: int, seed: int,
    ) -> None:  # fmt: skip
        self.name, self.checkpoint, self.chat = name, checkpoint, chat
        self.length, self.total, self.draws, self.seed = length, total, draws, seed
        family = checkpoint.family
        own = way_of("Confidence" if family.order == "any" else family.sampler)
        fits = [] if way is None else fitting([way], family, length or total or SLACK)[0]
        self.way = fits[0] if fits else own

    def check(self, cells: Sequence[Cell]) -> None:
        """RemaskError where a prompt and its answer are beyond the context, or a token cannot be written."""
        context = self.checkpoint.model.architecture.context
        if self.chat:
            prompt_of(self.checkpoint, [("user", "?")])  # says where there is no template
        for cell in cells:
            for row in cell.rows:
                given, room = len(self.prompt(row)), self.room(cell, row)
                if room < 1 or given + room > context:
                    raise RemaskError(
                        f"{self.name} has a context of {context} tokens, and {row.prompt[:40]!r} has {given} of "
                        f"{f'a total of {self.total}' if self.total else f'{given + room} with its answer'}: give "
                        "another --length, or leave the model out"
                    )

    def prompt(self, row: Row) -> list[int]:
        """The ids that stand before the answer."""
        if self.chat:
            return prompt_of(self.checkpoint, [("user", row.prompt)])
        return [*self.checkpoint.family.bos, *self.checkpoint.tokenizer.encode(row.prompt)]

    def room(self, cell: Cell, row: Row) -> int:
        """Tokens that are written after a prompt."""
        if self.total is not None:
            return self.total - len(self.prompt(row))
        encode = self.checkpoint.tokenizer.encode
        return self.length or SLACK + max(len(encode(one.completion)) for one in cell.source)

    def answers(self, cell: Cell, rows: Sequence[Row]) -> Iterator[Answer]:
        """What the model writes, and how probable right answers and those of the control are."""
        texts: dict[int, str] = {}
        rooms = [self.room(cell, row) for row in rows]
        for room in dict.fromkeys(rooms):
            places = [i for i, one in enumerate(rooms) if one == room]
            params = self.way.params(room, 0.0, seed=self.seed)
            prompts = [self.prompt(rows[i]) or "" for i in places]
            written = remask.sample(self.checkpoint, prompt=prompts, **vars(params))
            texts |= {i: one.text for i, one in zip(places, written, strict=True)}
        nats = iter(self.nats(rows))
        for i, row in enumerate(rows):
            yield Answer(texts[i], *((next(nats), next(nats)) if row.control is not None else (None, None)))

    def request(self, row: Row, answer: str) -> Request:
        """The request of the likelihood of an answer, behind what the model reads before it writes one."""
        if self.chat:
            return reply_to(self.checkpoint, [("user", row.prompt)], answer)
        return answer_to(self.checkpoint, row.prompt, answer)

    def nats(self, rows: Sequence[Row]) -> list[float]:
        """-log p of the right answer and of the control, with the same noise, of each row that has a control."""
        model, family = self.checkpoint.model, self.checkpoint.family
        options: dict[str, Any] = {} if family.exact else {"draws": self.draws, "seed": self.seed}
        requests = [
            replace(self.request(row, text), noise_key=f"{row.prompt}{row.completion}")
            for row in rows
            for text in (row.completion, row.control)
            if row.control is not None and text is not None
        ]
        if not requests:
            return []
        found = score_requests(model, family, requests, estimator=choose(family, **options), device=model.device)
        return [estimate.nats for _, estimate in found]


def ask_all(respondents: Sequence[Respondent], cells: Sequence[Cell], log: Log) -> None:
    """Has every model answer every question that the log does not have, and writes each answer to it."""
    todo = [
        (one, cell, [i for i in range(len(cell.rows)) if (one.name, cell.name, i) not in log.known])
        for one in respondents
        for cell in cells
    ]
    total = len(respondents) * sum(len(cell.rows) for cell in cells)
    with log.adding() as add, progress("asking", total, "questions", total - sum(len(p) for *_, p in todo)) as tick:
        for one, cell, places in todo:
            for start in range(0, len(places), TOGETHER):
                part = places[start : start + TOGETHER]
                for place, answer in zip(part, one.answers(cell, [cell.rows[i] for i in part]), strict=True):
                    add(one.name, cell.name, place, answer)
                tick(len(part), kind=cell.name)
