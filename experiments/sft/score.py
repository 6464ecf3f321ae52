"""How probable the true titles are to a fine-tuned model: `python score.py RUN OUT DRAWS`, as `study.py` calls it.

Writes RUN.scores: for each question the bits per byte of the true title, and by how
many that is less than behind the abstract of the next question.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from remask import load
from remask.conversation import prompt_of, trained_template
from remask.data.chat import reply_ids
from remask.likelihood import Request, score

run, out, draws = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
checkpoint = load(str(run))
asked = [json.loads(line)["turns"][0] for line in (out / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
titles = [json.loads(line)["title"] for line in (out / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
prompts = [prompt_of(checkpoint, [("user", text)]) for text in asked]
replies = [reply_ids(checkpoint.tokenizer, f" {title}", trained_template(checkpoint)) for title in titles]
requests = [
    Request(target=reply, prompt=prompt, bytes=len(title.encode()), noise_key=number)
    for given in (prompts, prompts[1:] + prompts[:1])
    for number, (prompt, reply, title) in enumerate(zip(given, replies, titles, strict=True))
]
options: dict[str, Any] = {"draws": draws} if checkpoint.family.order == "any" else {}
found = [e.nats / e.bytes / math.log(2) for _, e in score(checkpoint.model, checkpoint.family, requests, **options)]
own, others = found[: len(titles)], found[len(titles) :]
gain = [other - mine for mine, other in zip(own, others, strict=True)]
run.with_suffix(".scores").write_text(json.dumps({"bits_per_byte": own, "gain": gain}))
