"""What all layouts share: recognised by their tensors, checked by name and shape, special ids and heads."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
from layouts import IDS, OWT, SHAPES, config_of, empty, publish, reference, weights
from safetensors.torch import load_file, save_file
from torch import Tensor

import remask
from remask.checkpoints.checkpoint import load
from remask.checkpoints.contents import contents
from remask.checkpoints.convert import convert
from remask.checkpoints.format import formats
from remask.checkpoints.overrides import Overrides
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.attention import CAUSAL
from remask.model.sizes import SIZES, Architecture


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_folder_is_read_as_what_it_is(name: str, tmp_path: Path) -> None:
    a, ours = SHAPES[name], weights(SHAPES[name])
    found = load(publish(tmp_path / "theirs", name, ours))
    kept = {"context": found.model.architecture.context, "silent": getattr(found.model.architecture, "silent", None)}
    expected = replace(a, **{k: v for k, v in kept.items() if hasattr(a, k)})
    assert found.model.architecture == expected
    causal = name in ("smdm, autoregressive", "dit, causal") or name.startswith("llama")
    assert isinstance(found.family, Autoregressive if causal else Masked)
    state = found.model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in ours.items())
    time = {"time": torch.tensor([0.2, 0.9])} if a.time else {}
    ids = IDS % (a.rows - 2)
    with torch.no_grad():
        truth, logits = reference(a, ours)(ids, **time), found.model(ids, **time)
    seen = [v for v in range(a.predicted) if v != kept["silent"]]
    assert float((truth - logits)[..., seen].abs().max() / truth[..., seen].abs().max()) < 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_counts_of_parameters(name: str) -> None:
    a = SHAPES[name]
    assert sum(p.numel() for p in weights(a).values()) == a.parameters


def test_heads_come_from_options_config_or_a_named_size(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    (folder / "config.json").unlink()
    with pytest.raises(RemaskError, match=r"do not tell the number of heads.*Give --heads"):
        load(folder)
    assert load(folder, overrides=Overrides(heads=2)).model.architecture.head_width == 16
    with pytest.raises(RemaskError, match="3 heads do not divide the width 32"):
        load(folder, overrides=Overrides(heads=3))
    named = replace(SIZES["6M"], rows=12, predicted=11, rope_bf16=True)
    ours, form = weights(named), formats()["smdm"]
    theirs = {t: form.to_theirs([ours[o] for o in g], t, named).contiguous() for t, g in form.groups(named).items()}
    save_file(theirs, tmp_path / "mdm-6M.safetensors")
    assert load(tmp_path / "mdm-6M.safetensors").model.architecture == named


@pytest.mark.parametrize(
    ("form", "a", "overrides", "ids"),
    [
        ("smdm", replace(SIZES["170M"], rows=32001, predicted=32000), {}, (32000, 1, 2, None)),
        ("smdm", replace(SIZES["170M"], rows=32000, predicted=32000), {}, (None, 1, 2, None)),
        ("llada", replace(SIZES["LLaDA-8B"], rows=126464, predicted=126464), {}, (126336, None, 126081, 126348)),
        ("dit", replace(OWT, rows=50258, predicted=50258), {}, (50257, 50256, 50256, None)),
        ("dit", replace(OWT, rows=30522, predicted=30522), {}, (103, 101, 102, None)),
        ("dit", replace(OWT, rows=50258, predicted=50258), {"family": "Uniform"}, (None, 50256, 50256, None)),
    ],
)  # fmt: skip
def test_special_ids_of_the_published_vocabularies(form: str, a: Architecture, overrides: dict, ids: tuple) -> None:
    v = formats()[form].read(empty(form, a), Overrides(**overrides)).family.vocabulary
    assert (v.mask, v.start, v.end, v.end_of_turn) == ids


DAMAGE: dict[str, tuple[Callable[[dict[str, Tensor]], Any], str]] = {
    "missing": (lambda w: w.pop("transformer.ln_f.weight"), r"transformer\.ln_f\.weight is missing; expected \(32,\)"),
    "extra": (lambda w: w.update(extra=torch.ones(2)), r"tensor extra \(2,\) is not of this model"),
    "misshapen": (
        lambda w: w.update({"transformer.h.1.norm_2.weight": torch.ones(31)}),
        r"transformer\.h\.1\.norm_2\.weight is \(31,\), expected \(32,\)",
    ),
    "no embedding": (lambda w: w.pop("transformer.wte.weight"), r"transformer\.wte\.weight is missing"),
    "flat embedding": (lambda w: w.update({"transformer.wte.weight": torch.ones(9)}), "expected 2 dimensions"),
    "a layer less": (
        lambda w: [w.pop(k) for k in list(w) if ".h.0." in k and "attn.attn" not in k],
        r"\.h\.0\.mlp\.swiglu\.w1.* missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_tensor_that_does_not_fit_is_named(damage: Callable, says: str, tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    broken = load_file(folder / "model.safetensors")
    damage(broken)
    save_file(broken, folder / "model.safetensors")
    with pytest.raises(RemaskError, match=says):
        load(folder)
    with pytest.raises(RemaskError, match=says):
        convert(folder, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["theirs"]


def test_a_wrong_form(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    with pytest.raises(RemaskError, match=r"is not in llada form: it has no tensor .*attn_out.*; it looks like smdm"):
        load(folder, form="llada")
    with pytest.raises(RemaskError, match=r"unknown format 'smd'. Did you mean 'smdm'"):
        load(folder, form="smd")
    save_file({"a": torch.ones(2), "b": torch.ones(3)}, tmp_path / "other.safetensors")
    with pytest.raises(RemaskError, match=r"in no form that remask knows.*its tensors are a, b"):
        load(tmp_path / "other.safetensors")


def test_configurations_that_ask_for_another_network(tmp_path: Path) -> None:
    for name, more, says in (
        ("llada", {"alibi": True}, "alibi: True"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "'yarn'; remask knows llama3"),
        ("llama", {"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "lacks low_freq_factor"),
        ("llada", {"mask_token_id": 40}, "the mask id 40 is not among the 40 ids"),
    ):
        folder = publish(tmp_path / f"{name} {says[:4]}", name)
        (folder / "config.json").write_text(json.dumps({**config_of(name, SHAPES[name]), **more}))
        with pytest.raises(RemaskError, match=says):
            load(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(RemaskError, match="heads"):
        load(folder)
    with pytest.raises(RemaskError, match=r"which id is the mask. Give --mask-id"):
        load(folder, overrides=Overrides(heads=4))


def test_settings_that_are_no_numbers(tmp_path: Path) -> None:
    for name, more, says in (
        ("llama", {"rope_theta": float("inf")}, "config.json says rope_theta: inf"),
        ("llama", {"max_position_embeddings": float("nan")}, "config.json says max_position_embeddings: nan"),
        ("llada", {"remask": {"predicted": -3}}, "that -3 of its 40 ids are predicted"),
        ("llada", {"eos_token_id": 10**30}, "config.json says eos_token_id"),
    ):
        folder = publish(tmp_path / f"{name} {next(iter(more))}", name)
        (folder / "config.json").write_text(json.dumps({**config_of(name, SHAPES[name]), **more}))
        with pytest.raises(RemaskError, match=says):
            load(folder)
    folder = publish(tmp_path / "odd", "llada")
    (folder / "config.json").write_text(json.dumps({**config_of("llada", SHAPES["llada"]), "remask": "x"}))
    assert load(folder).model.architecture.predicted == 40


def test_networks_that_share_the_names_and_are_others(tmp_path: Path) -> None:
    for name, more, says in (
        ("llama", {"model_type": "gemma"}, "model_type 'gemma' is not among those known here: llama"),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}, "hidden_act: gelu_pytorch_tanh"),
        ("llama", {"sliding_window": 4, "max_position_embeddings": 64}, "sliding_window: 4"),
        ("dit", {"model_type": "sedd"}, "names 'sedd', and remask knows mdlm"),
    ):
        folder = publish(tmp_path / f"{name} {next(iter(more.values()))}", name)
        (folder / "config.json").write_text(json.dumps({**config_of(name, SHAPES[name]), **more}))
        with pytest.raises(RemaskError, match=says):
            load(folder)
    with pytest.raises(RemaskError, match="--shift is for a masked model"):
        load(publish(tmp_path / "plain", "llama"), overrides=Overrides(shift=True))


HEADS = {
    "llama": ({"tie_word_embeddings": False}, "lm_head.weight"),
    "llada": ({"weight_tying": False}, "model.transformer.ff_out.weight"),
    "smdm": ({}, "lm_head.weight"),
    "dit": ({}, "backbone.output_layer.linear.weight"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_is_not_tied_and_not_there_is_missing(name: str, tmp_path: Path) -> None:
    """The embedding is not taken for it without a word."""
    more, head = HEADS[name]
    folder = publish(tmp_path / "theirs", name)
    (folder / "config.json").write_text(json.dumps({**config_of(name, SHAPES[name]), **more}))
    rest = load_file(folder / "model.safetensors")
    del rest[head]
    save_file(rest, folder / "model.safetensors")
    says = f"tensor {head} is missing"
    assert contents(folder)["problems"].startswith(says)
    for use in (load, lambda f: convert(f, tmp_path / "out")):
        with pytest.raises(RemaskError, match=re.escape(says)):
            use(folder)
    assert not (tmp_path / "out").exists()


SAYS = {
    "llama": ({"num_hidden_layers": 3}, r"model\.layers\.2\..* is missing"),
    "llada": ({"n_layers": 3}, r"model\.transformer\.blocks\.2\..* is missing"),
    "smdm": ({"n_layer": 3}, r"transformer\.h\.2\..* is missing"),
    "dit": ({"model": {"n_blocks": 3}}, r"backbone\.blocks\.2\..* is missing"),
    "llama, too many": ({"num_hidden_layers": 1}, r"model\.layers\.1\..* is not of this model"),
    "llama, vocabulary": ({"vocab_size": 50}, r"weight is \(40, 32\), expected at least \(50"),
    "llada, vocabulary": ({"vocab_size": 50}, r"weight is \(40, 32\), expected at least \(50"),
    "llama, biases": ({"attention_bias": True}, r"q_proj\.bias is missing|k_proj\.bias is missing"),
    "llada, biases": ({"include_qkv_bias": True}, r"k_proj\.bias is missing"),
    "llama, norms": ({"model_type": "qwen3"}, r"k_norm\.weight is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", SAYS)
def test_what_the_configuration_says_and_the_file_lacks_is_missing(case: str, tmp_path: Path) -> None:
    """Layers of a shard that was not downloaded, rows of the vocabulary, biases, norms."""
    more, says = SAYS[case]
    name = case.split(",")[0]
    folder = publish(tmp_path / "theirs", name)
    (folder / "config.json").write_text(json.dumps({**config_of(name, SHAPES[name]), **more}))
    assert re.search(says, contents(folder)["problems"])
    with pytest.raises(RemaskError, match=says):
        load(folder)


@pytest.mark.parametrize(("name", "key"), [("llama", "tie_word_embeddings"), ("llada", "weight_tying")])
def test_a_head_that_may_be_tied(name: str, key: str, tmp_path: Path) -> None:
    """A file without a head and a configuration that does not mention it; and a second copy of a tied head."""
    folder = publish(tmp_path / "theirs", name)
    rest = load_file(folder / "model.safetensors")
    config = {k: v for k, v in config_of(name, SHAPES[name]).items() if k != key}
    (folder / "config.json").write_text(json.dumps(config | {key: True}))
    assert load(folder).model.architecture.tied and contents(folder)["problems"].startswith("none")
    del rest[HEADS[name][1]]
    save_file(rest, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).model.architecture.tied


@pytest.mark.parametrize("name", ["smdm", "llada", "llama"])
def test_rows_behind_the_vocabulary_are_padding(name: str, tmp_path: Path) -> None:
    """They are given no probability, and so are never written, whatever the padding's size."""
    a, ours = SHAPES[name], weights(SHAPES[name])
    folder = publish(tmp_path / "theirs", name, ours)
    more = {"vocab_size": 23, "mask_token_id": 11} if name == "llada" else {"vocab_size": 23}
    (folder / "config.json").write_text(json.dumps({**config_of(name, a), **more}))
    m = load(folder, overrides=Overrides(end="3"))
    whole = reference(a, ours)
    causal = {"attention": CAUSAL} if name == "llama" else {}
    with torch.no_grad():
        torch.testing.assert_close(m.model(IDS % 23, **causal), whole(IDS % 23, **causal)[..., :23])
    assert m.model.architecture.predicted == 23
    sampled = remask.sample(m, prompt=[3, 4], length=40, temperature=5.0, stop=False, seed=1).tokens
    assert max(sampled) < 23
    text = tmp_path / "tokenizer.json"
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "</s>": 1}, "a")).save(str(text))
    assert load(folder, tokenizer=text).tokenizer.size == 2, "a tokenizer may have far fewer ids than the matrices"
