"""Checkpoints opened for use, whatever their form: overrides, tokenizers, dtypes, and what `info` says."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import IDS, PLAIN, publish, weights
from safetensors.torch import load_file, save_file

import remask
from remask.api import split
from remask.checkpoints.base import formats
from remask.checkpoints.checkpoint import contents, load
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError


def test_hints_overrule(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "llama")
    with pytest.raises(RemaskError, match="with 8 heads there are 4 for keys and values"):
        load(folder, overrides=Overrides(heads=8, kv_heads=2))
    with pytest.raises(RemaskError, match="time tells nothing about weights in llama form"):
        load(folder, overrides=Overrides(time=True))
    with pytest.raises(RemaskError, match=r"architecture\.context is 0"):
        load(folder, overrides=Overrides(context=0))
    overrides = Overrides(heads=8, rope_theta=123.0, norm_eps=1e-3, context=99, start_id=5, end_id=6)
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
    theirs = {t: form.give([ours[o] for o in g], t, a).contiguous() for t, g in form.groups(a).items()}
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
