"""Checkpoints opened for use, whatever their form: overrides, tokenizers, dtypes, and what `info` says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import torch
from layouts import IDS, PLAIN, SHAPES, config_of, publish, weights
from safetensors.torch import load_file, save_file

import remask
from remask.checkpoints.checkpoint import load, number_format
from remask.checkpoints.contents import contents
from remask.checkpoints.convert import convert
from remask.checkpoints.format import formats
from remask.checkpoints.overrides import Overrides
from remask.cli import main
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.scoring import split


def test_hints_overrule(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "llama")
    with pytest.raises(RemaskError, match="with 8 heads there are 4 for keys and values"):
        load(folder, overrides=Overrides(heads=8, kv_heads=2))
    with pytest.raises(RemaskError, match="time tells nothing about weights in llama form"):
        load(folder, overrides=Overrides(time=True))
    with pytest.raises(RemaskError, match=r"architecture\.context is 0"):
        load(folder, overrides=Overrides(context=0))
    overrides = Overrides(heads=8, rope_theta=123.0, norm_eps=1e-3, context=99, start_id=5, end="6")
    found = load(folder, overrides=overrides)
    a, vocabulary = found.model.architecture, found.family.vocabulary
    assert (a.heads, a.kv_heads, a.head_width) == (8, 4, 4)
    assert (a.rope_base, a.norm_eps, a.context, vocabulary.start, vocabulary.end) == (123.0, 1e-3, 99, 5, 6)
    ours = convert(folder, tmp_path / "ours", overrides=overrides)
    assert load(ours).model.architecture == a
    with pytest.raises(RemaskError, match="says all about itself; heads is for other people's weights"):
        load(ours, overrides=Overrides(heads=4))


def test_a_prompt_begins_as_the_model_was_trained(tmp_path: Path) -> None:
    """With the start id, in sampling and in scoring, in every piece of a long text."""
    folder = tmp_path / "theirs"
    a = replace(PLAIN, rows=258, predicted=257, context=16)
    folder.mkdir()
    form, ours = formats()["smdm"], weights(a)
    theirs = {t: form.to_theirs([ours[o] for o in g], t, a).contiguous() for t, g in form.groups(a).items()}
    save_file(theirs, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"n_head": 4, "block_size": 16}))
    Tokenizer.bytes().save(folder / "tokenizer.json")
    m = load(folder, overrides=Overrides(start_id=5))
    step = next(iter(remask.stream(m, prompt="ab", length=4)))
    assert step.tokens[0, :3].tolist() == [5, 97, 98]
    assert (
        remask.sample(m, prompt="ab", length=4, seed=0).tokens
        == remask.sample(m, prompt=[5, 97, 98], length=4, seed=0).tokens
    )
    pieces = split(m, "x" * 40)
    assert [list(p.prompt) for p in pieces] == [[5]] * 3 and [len(p.target) for p in pieces] == [15, 15, 10]
    assert list(split(m, "b", "a")[0].prompt) == [5, 97]
    assert load(folder).family.vocabulary.start is None


def test_what_is_wrong_is_listed_by_info(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    assert contents(folder)["problems"].startswith("none")
    broken = load_file(folder / "model.safetensors")
    del broken["transformer.ln_f.weight"]
    save_file({**broken, "extra": torch.ones(2)}, folder / "model.safetensors")
    problems = contents(folder)["problems"]
    assert "ln_f.weight is missing" in problems and "extra (2,) is not of this model" in problems


def test_a_tokenizer_that_does_not_belong(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    Tokenizer.bytes().save(folder / "tokenizer.json")
    with pytest.raises(RemaskError, match=r"tokenizer\.json has 256 ids and the model 41"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    m = load(folder)
    with pytest.raises(RemaskError, match="came without a tokenizer"):
        m.tokenizer.encode("a")


def test_weights_of_several_kinds_compute_in_one(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    mixed = load_file(folder / "model.safetensors")
    mixed["lm_head.weight"] = mixed["lm_head.weight"].bfloat16()
    save_file(mixed, folder / "model.safetensors")
    m = load(folder)
    assert {p.dtype for p in m.model.parameters()} == {torch.float32} and bool(m.logits(IDS).isfinite().all())


# The token that ends a text


def named(folder: Path, **tokens: int) -> Path:
    """A Llama whose configuration names no end, with a tokenizer of 40 words of which some have names."""
    publish(folder, "llama")
    config = {**config_of("llama", SHAPES["llama"])}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "eos_token_id"}))
    vocabulary = {f"w{i}": i for i in range(40) if i not in tokens.values()} | tokens
    tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "w0")).save(str(folder / "tokenizer.json"))
    return folder


def test_the_end_of_text_is_found_or_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """In the tokenizer by a usual name, in the files beside it, in generation_config.json, or by --end."""
    folder = named(tmp_path / "usual", **{"<|return|>": 7})
    assert load(folder).family.vocabulary.end == 7 and contents(folder)["end of text"] == "7 (<|return|>)"
    assert "no end-of-text" not in capsys.readouterr().err
    folder = named(tmp_path / "odd", **{"<stop>": 9})
    assert load(folder).family.vocabulary.end is None and "name one with --end" in contents(folder)["end of text"]
    assert "no end-of-text token is known" in capsys.readouterr().err
    for end in ("<stop>", "9"):
        m = load(folder, overrides=Overrides(end=end))
        assert m.family.vocabulary.end == 9 == m.tokenizer.vocabulary.end
    assert "9 (<stop>)" in contents(folder, overrides=Overrides(end="<stop>"))["end of text"]
    with pytest.raises(RemaskError, match="no token '<halt>'"):
        load(folder, overrides=Overrides(end="<halt>"))
    ours = convert(folder, tmp_path / "ours", overrides=Overrides(end="<stop>"))
    assert load(ours).family.vocabulary.end == 9
    assert load(ours, overrides=Overrides(end="w3")).family.vocabulary.end == 3, "a folder of ours takes it too"
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<stop>"}')
    assert load(folder).family.vocabulary.end == 9
    (folder / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    assert (load(folder).family.vocabulary.end, load(folder).family.vocabulary.end_of_turn) == (5, 6)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(RemaskError, match="--end '<stop>' names a token, and there is no tokenizer"):
        load(folder, overrides=Overrides(end="<stop>"))
    assert load(folder, overrides=Overrides(end="8")).family.vocabulary.end == 8


def test_a_named_end_ends_a_text(tmp_path: Path) -> None:
    folder = named(tmp_path / "odd", **{"<stop>": 9})
    free = remask.sample(load(folder), prompt=[3], length=8, temperature=0.0)
    assert not free.ended and len(free.tokens) == 8
    m = load(folder, overrides=Overrides(end=str(free.tokens[2])))
    ended = remask.sample(m, prompt=[3], length=8, temperature=0.0)
    assert ended.ended and ended.tokens == free.tokens[: free.tokens.index(free.tokens[2])]


def test_the_end_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = named(tmp_path / "odd", **{"<stop>": 9})
    for end in ("<stop>", "9"):
        main(["info", str(folder), "--end", end])
        assert "end of text  9 (<stop>)" in capsys.readouterr().out
        main(["sample", str(folder), "--ids", "3", "--length", "4", "--end", end])
        assert "no end-of-text token" not in capsys.readouterr().err
    main(["sample", str(folder), "--ids", "3", "--length", "4"])
    assert "no end-of-text token is known, so no text ends by itself. Name one with --end" in capsys.readouterr().err


# Devices and other tokenizers


def test_devices(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    assert load(folder).model.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert load(folder, device="cpu").model.device.type == "cpu"
    with pytest.raises(RemaskError, match=r"device is 'tpu'; it must be auto, cpu or cuda"):
        load(folder, device="tpu")


def test_a_tokenizer_in_another_form_is_named(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "llama")
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    assert "tokenizer.model is a SentencePiece model" in contents(folder)["tokenizer"]
    with pytest.raises(RemaskError, match=r"without a tokenizer \(tokenizer\.model is a Sentence.* Give --tokenizer"):
        load(folder).tokenizer.encode("a")


@pytest.mark.parametrize(
    ("precision", "stored", "fast", "taken"),
    [
        ("stored", torch.float16, True, torch.float16),
        ("bf16", torch.float32, False, torch.bfloat16),
        ("fp32", torch.bfloat16, True, torch.float32),
        ("auto", torch.float32, True, torch.bfloat16),
        ("auto", torch.bfloat16, False, torch.float32),
        ("auto", torch.float32, False, torch.float32),
    ],
)
def test_the_number_format(
    precision: str, stored: torch.dtype, fast: bool, taken: torch.dtype, capsys: pytest.CaptureFixture[str]
) -> None:
    assert number_format(precision, stored, fast) == taken
    assert bool(capsys.readouterr().err) == (precision == "auto" and taken != stored), "a change is said"


def test_number_formats_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match="unknown precision 'fp8'"):
        load(tmp_path, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(RemaskError, match=r"dtype is torch.float32 and precision bf16; give one of them"):
        load(tmp_path, dtype=torch.float32, precision="bf16")
