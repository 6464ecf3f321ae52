"""Fine-tuning on conversations, with real, tiny runs: they resume bit for bit, and every family and start works."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Stopping, assert_same_run, column, stopped_at

import remask
from remask import cli
from remask.checkpoints.convert import convert
from remask.data.example_batches import Layout
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.generation.rows import encode_prompt
from remask.model.sizes import SizeOverrides
from remask.training.fine_tuning import FineTuning, layout_for, open_conversations
from remask.training.optim import Budget, Optimizer

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
        # Muon works in bfloat16 on some processors, which makes large differences of small ones
        fit(tmp_path / name, steps=6, data=pairs, accumulate=accumulate, optimizer=Optimizer(kind="adamw"), **TINY)
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


CHAT = [
    {"messages": [{"role": role, "content": f"{word} {i}"} for role, word in zip(("user", "assistant") * 2, "abcd")]}
    for i in range(30)
]


@pytest.mark.parametrize("family", [Masked(), Autoregressive()], ids=lambda f: type(f).__name__)
def test_packed_chats_in_plain_text(fit: Fit, tmp_path: Path, family: Family) -> None:
    """One reply of two drawn for a model that sees both sides; each weighs the same; some prompts are dropped."""
    chats = write(tmp_path / "chats.jsonl", CHAT)
    drop = 0.2 if family.reads_masks else 0.0
    more = {"turns": "one", "pack": True, "weights": "examples", "drop_prompt": drop, "validation_share": 0.1}
    sft = FineTuning(tokenizer="bytes", template="vicuna", **more)
    options = {"data": chats, "family": family, "sft": sft, "length": 512, "validation_rows": 4}
    fit(tmp_path / "run", steps=3, batch=4, left_to_right_rows=1, **options)
    about = remask.load(tmp_path / "run").about
    assert about["conversations"]["conversations"] == 27 and about["conversations"]["examples"] == 54
    assert about["conversations"]["templates"] == {"vicuna": 30}
    assert about["tokens_a_step"] > 4 * 400, "two to three chats of about 200 bytes in a row"


def test_the_layout_of_a_family() -> None:
    tokenizer = Tokenizer.bytes()
    end = tokenizer.vocabulary.end
    masked, left, mixed = (f.over(tokenizer.vocabulary) for f in (Masked(), Autoregressive(), Interpolating()))
    options = FineTuning(weights="examples", drop_prompt=0.2, pack=True)
    published = Layout(end=end, pad_with_end=True, hide=True)  # LLaDA, SMDM
    assert layout_for(FineTuning(), masked, tokenizer) == replace(published, mask=masked.mask)
    assert layout_for(options, masked, tokenizer) == replace(
        published, mask=masked.mask, per_example=True, drop=0.2, pack=True
    )
    assert layout_for(replace(options, padding="none"), mixed, tokenizer) == Layout(
        end=end, hide=True, per_example=True, drop=0.2, pack=True
    )
    assert layout_for(FineTuning(), left, tokenizer) == Layout(end=end, hide=False)


def test_held_out_conversations_begin_unlike_those_of_training(tmp_path: Path) -> None:
    rows = [{"prompt": f"{i % 10}", "completion": f"{i}"} for i in range(40)]
    family, tokenizer = Masked().over(Tokenizer.bytes().vocabulary), Tokenizer.bytes()
    found = open_conversations(
        write(tmp_path / "a.jsonl", rows), FineTuning(validation_share=0.25), family, tokenizer, 16
    )
    firsts = [{int(split.ids[start]) for start in split._starts[:-1]} for split in (found.train, found.valid)]
    assert firsts[0].isdisjoint(firsts[1]) and len(firsts[0] | firsts[1]) == 10
    assert found.train.conversations + found.valid.conversations == 40 and 4 <= found.valid.conversations <= 16
    one = open_conversations(
        write(tmp_path / "b.jsonl", rows[:1]), FineTuning(validation_share=0.5), family, tokenizer, 16
    )
    assert (one.train.conversations, one.valid.conversations) == (1, 0)


def test_validation_of_its_own_and_rows_that_are_skipped(fit: Fit, tmp_path: Path, capsys: Any) -> None:
    good = [{"prompt": f"{i}", "completion": f"{i}"} for i in range(12)]
    data = write(
        tmp_path / "data.jsonl", [*good, {"prompt": "a", "completion": ""}, {"prompt": "a" * 99, "completion": "b"}]
    )
    valid = write(tmp_path / "valid.jsonl", good[:3])
    with pytest.raises(RemaskError, match=r"data.jsonl, line 13: completion is empty.*--sft.skip_bad"):
        fit(tmp_path / "run", data=data, **TINY)
    assert not (tmp_path / "run").exists()
    sft = FineTuning(tokenizer="bytes", skip_bad=True, validation=valid)
    fit(tmp_path / "run", steps=2, data=data, sft=sft, length=48, validation_rows=9)
    assert remask.load(tmp_path / "run").about["conversations"]["skipped"] == 2
    said = capsys.readouterr().err
    assert "(2): " in said and "line 13 (completion is empty)" in said and "3 more for validation" in said
    assert "2 rows could not be used" in (tmp_path / "run" / "latest" / "README.md").read_text()


def test_an_epoch_is_a_pass_over_the_rows(fit: Fit, pairs: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", data=pairs, budget=Budget(epochs=0.25), **TINY)
    assert remask.load(tmp_path / "run").about["steps"] == int(0.25 * 196 / 8)


def test_a_run_goes_on_with_its_own_conversations_only(fit: Fit, pairs: Path, tmp_path: Path) -> None:
    fit(tmp_path / "run", steps=1, data=pairs, **TINY)
    changed = tmp_path / "changed.jsonl"
    changed.write_text(pairs.read_text().replace("0x>", "y>"))
    with pytest.raises(RemaskError, match=r"was trained on another corpus than .*changed.jsonl"):
        fit(tmp_path / "run", steps=1, data=changed, **TINY)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"sft": FineTuning(tokenizer="bytes", drop_prompt=0.1), "family": Autoregressive()},
            "drop_prompt .*read none",
        ),
        (
            {"sft": FineTuning(tokenizer="bytes", validation=Path("none.jsonl"))},
            "sft.validation is 'none.jsonl', where no",
        ),
        ({"sft": FineTuning(tokenizer="bytes"), "random_length": 0.5}, "random_length is for a prepared corpus"),
        ({}, r"tiny has no tokenizer.*--sft.tokenizer"),
    ],
)
def test_what_does_not_go_together(fit: Fit, pairs: Path, tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        fit(tmp_path / "run", **{"data": pairs, "length": 48} | options)


def test_options_for_conversations_only(fit: Fit, pairs: Path, masked_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match=r"sft is for conversations, and .* is a prepared corpus"):
        fit(tmp_path / "run", sft=FineTuning(pack=True))
    with pytest.raises(RemaskError, match="has a tokenizer of its own"):
        fit(tmp_path / "run", data=pairs, model=str(masked_run), architecture=SizeOverrides(), **TINY)
    for name, value in (("validation_share", 1.0), ("drop_prompt", -0.1)):
        with pytest.raises(RemaskError, match=f"sft.{name} is {value}"):
            FineTuning(**{name: value})


def test_from_the_command_line(pairs: Path, tmp_path: Path) -> None:
    shape = "--model tiny --architecture.layers 1 --architecture.width 16 --architecture.heads 2 --architecture.ffn 32"
    how = "--sft.tokenizer bytes --sft.pack --sft.padding none --sft.turns one --length 48 --batch 4 --compile off"
    cli.main(f"train --data {pairs} {shape} {how} --budget.steps 1 --out {tmp_path / 'run'}".split())
    assert remask.load(tmp_path / "run").about["options"]["sft"]["pack"] is True


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("valid.jsonl", "", r"valid\.jsonl', and no conversation is in it"),
        ("valid.jsonl", " \n\n", r"valid\.jsonl', and no conversation is in it"),
        (
            "valid.jsonl",
            '{"prompt": "a", "completion": ""}\n',
            r"valid\.jsonl', and no conversation that can be used is in it",
        ),
        ("folder/valid.jsonl", "", r"folder', and no conversation is in it"),
        ("folder/valid.txt", "a", r"folder', where no \.jsonl file is"),
        ("valid.txt", '{"prompt": "a", "completion": "b"}\n', r"valid\.txt', where no \.jsonl file is"),
    ],
)
def test_validation_without_a_conversation_is_an_error(
    fit: Fit, pairs: Path, tmp_path: Path, name: str, content: str, says: str
) -> None:
    """It names the file and what would work, before anything is trained or written."""
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    sft = FineTuning(tokenizer="bytes", validation=tmp_path / name.split("/")[0], skip_bad="completion" in content)
    with pytest.raises(RemaskError, match=f"sft.validation is '.*{says}.*: give .*prompt.*or leave it out") as error:
        fit(tmp_path / "run", data=pairs, sft=sft, length=48, validation_rows=4)
    assert len(str(error.value).splitlines()) == 1 and not (tmp_path / "run").exists()


def test_a_row_that_is_too_long_names_a_length_that_works(
    fit: Fit, masked_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is one: a network from a checkpoint has its context, and no row can be longer."""
    rows = [{"prompt": f"{i}", "completion": "b" * size} for i, size in enumerate((4, 4, 52, 52, 80))]
    start = {"model": str(masked_run), "architecture": SizeOverrides(), "steps": 1}
    fits, beyond = (write(tmp_path / f"{name}.jsonl", rows[:n]) for name, n in (("fits", 4), ("beyond", 5)))
    with pytest.raises(
        RemaskError, match=r"line 3: its 54 tokens do not fit a row of 48: give --length 54 or more\."
    ) as e:
        fit(tmp_path / "run", data=fits, **start, length=48)
    fit(tmp_path / "run", data=fits, **start, length=int(str(e.value).split("--length ")[1].split()[0]))
    says = "its 82 tokens are beyond the context of 64 of the model, so no --length holds them"
    with pytest.raises(RemaskError, match=f"line 5: {says}"):
        fit(tmp_path / "other", data=beyond, **start, length=60)
    with pytest.raises(RemaskError, match=r"line 5: its 82 tokens .* give --length 82 or more"):
        fit(tmp_path / "other", data=beyond, **TINY | {"length": 60})
