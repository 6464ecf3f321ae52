"""Fine-tuning on conversations, with real, tiny runs: they resume bit for bit, and every family and start works."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Stopping, assert_same_run, column, stopped_at

import remask
from remask.api import encode_prompt
from remask.checkpoints.convert import convert
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import SizeOverrides
from remask.training.fine_tuning import FineTuning, open_conversations

Fit = Callable[..., Path]
TINY = {"sft": FineTuning(tokenizer="bytes"), "length": 48}


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Letters to be written in capitals, one to nine of them."""
    rows = [{"prompt": f"{s}>", "completion": s.upper()} for i in range(200) if (s := f"{i:o}x{'abcd'[: i % 5]}"[:9])]
    return write(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows)


@pytest.mark.parametrize(
    "family",
    [
        Masked(),
        Masked(objective="count"),
        Masked(pairs=True),
        Masked(forcing=2.0),
        Autoregressive(),
        Uniform(),
        Uniform(curriculum=0.5),
        Interpolating(alpha_0=0.5),
        Interpolating(variant="A"),
    ],
    ids=str,
)
def test_every_family_learns_from_prompts_and_completions(
    fit: Fit, pairs: Path, tmp_path: Path, family: Family
) -> None:
    out = tmp_path / "run"
    fit(out, steps=30, data=pairs, family=family, validation_rows=4, validate_every=15, **TINY)
    valid = column(out, "valid_bits_per_byte")
    assert len(valid) == 2 and valid[1] < valid[0]
    about = remask.load(out).about
    assert about["conversations"]["conversations"] == 200 - 4
    assert about["conversations"]["templates"] == {"none": 200}
    assert "fine-tuned on 196 conversations" in (out / "latest" / "README.md").read_text()


def test_a_run_resumes_bit_for_bit(fit: Fit, pairs: Path, tmp_path: Path) -> None:
    options = {"data": pairs, "family": Stopping(), "validation_rows": 4, **TINY}
    fit(tmp_path / "whole", steps=12, **options)
    with stopped_at(5):
        fit(tmp_path / "cut", steps=12, **options)
    fit(tmp_path / "cut", steps=12, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_micro_batches_make_the_same_steps(fit: Fit, pairs: Path, tmp_path: Path) -> None:
    for name, accumulate in (("one", 1), ("four", 4)):
        fit(tmp_path / name, steps=6, data=pairs, accumulate=accumulate, **TINY)
    one, four = (remask.load(tmp_path / name).model.state_dict() for name in ("one", "four"))
    for name in one:
        torch.testing.assert_close(one[name], four[name], rtol=1e-3, atol=1e-4)


def test_from_a_run_and_from_a_converted_checkpoint(
    fit: Fit, pairs: Path, plain_runs: dict[str, Path], tmp_path: Path
) -> None:
    convert(str(plain_runs["left"]), tmp_path / "llama", to="llama")
    for model, family in ((plain_runs["masked"], Masked()), (tmp_path / "llama", Autoregressive())):
        out = tmp_path / f"from-{model.name}"
        fit(out, steps=4, data=pairs, model=str(model), family=family, architecture=SizeOverrides(), length=48)
        assert remask.load(out).about["conversations"]["examples"] == 196


@pytest.mark.parametrize("family", [Masked(), Autoregressive()], ids=lambda f: type(f).__name__)
def test_sampling_reads_the_ids_of_training(fit: Fit, pairs: Path, tmp_path: Path, family: Family) -> None:
    fit(tmp_path / "run", steps=1, data=pairs, family=family, **TINY)
    m = remask.load(tmp_path / "run")
    found = open_conversations(pairs, FineTuning(validation_share=0), m.family, m.tokenizer, 48)
    ids, scored = found.train[3]
    begin = int(scored.argmax())
    row = json.loads(pairs.read_text().splitlines()[3])
    assert ids[:begin].tolist() == encode_prompt(m, row["prompt"])
    assert ids[begin:].tolist() == [*m.tokenizer.encode(row["completion"]), m.tokenizer.vocabulary.end]
    assert scored[begin:].all() and not scored[:begin].any()


def test_a_named_size_needs_a_tokenizer(fit: Fit, pairs: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"tiny has no tokenizer.*--sft.tokenizer"):
        fit(tmp_path / "run", data=pairs)
