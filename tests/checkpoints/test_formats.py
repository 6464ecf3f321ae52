"""Other people's layouts: each written here with small random weights, read back, and compared with an account of it
that is independent of the tables in the package."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import remask
from remask.api import split
from remask.checkpoints.base import Format, formats, written_formats
from remask.checkpoints.checkpoint import Checkpoint, contents, load
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.source import Source, Tensors
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.dit import DiTArchitecture
from remask.model.networks import network
from remask.model.sizes import SIZES, Architecture
from remask.model.transformer import Transformer, rotary, rotate

PLAIN = Architecture(layers=2, width=32, heads=4, kv_heads=4, head_width=8, ffn=48, context=64, rows=41, predicted=40)
GROUPED = replace(PLAIN, kv_heads=2, rope_base=5e5, rows=40)
DIT = DiTArchitecture(
    layers=2, width=32, heads=4, kv_heads=4, head_width=8, ffn=128, context=64, rows=41, predicted=41, condition=16
)
IDS = torch.arange(24).view(2, 12) % 37
SHAPES: dict[str, Architecture] = {
    "smdm": replace(PLAIN, rope_bf16=True),
    "smdm, autoregressive": replace(PLAIN, rope_bf16=True, rows=40),
    "llada": GROUPED,
    "llada, tied": replace(GROUPED, tied=True),
    "llada, many heads": replace(PLAIN, rows=40),
    "dit": DIT,
    "dit, conditioned": replace(DIT, time=True),
    "dit, causal": replace(DIT, adaln=False, condition=128),
    "llama": replace(GROUPED, rope_base=1e4),
    "llama, tied": replace(GROUPED, rope_base=1e4, tied=True),
    "llama, biases and norms": replace(GROUPED, qkv_bias=True, qk_norm=True, head_width=16),
    "llama, stretched": replace(GROUPED, rope_scaling=(8.0, 1.0, 4.0, 16.0)),
}


def weights(a: Architecture, seed: int = 0) -> dict[str, Tensor]:
    """Random tensors of a network, by our names."""
    rng = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in network(a).named_parameters()}
    return {n: torch.randn(s, generator=rng) * (0.3 if len(s) > 1 else 0.1) + (len(s) == 1) for n, s in shapes.items()}


def form_of(name: str) -> Format:
    return formats()[name.split(",")[0]]


def config_of(name: str, a: Architecture) -> dict[str, Any]:
    """The config.json that lies beside such weights."""
    if name.startswith("smdm"):
        return {"n_head": a.heads}
    if name.startswith("llada"):
        return {
            "model_type": "llada",
            "n_heads": a.heads,
            "rope_theta": a.rope_base,
            "mask_token_id": 39,
            "eos_token_id": 3,
        }
    if name.startswith("dit"):
        return {"model_type": "mdlm" if "causal" not in name else "ar", "n_heads": 4, "time_conditioning": a.time}
    scale = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    stretched = {"rope_scaling": {**scale, "original_max_position_embeddings": 16}} if a.rope_scaling else {}
    heads = {"num_attention_heads": a.heads, "head_dim": a.head_width, "bos_token_id": 1, "eos_token_id": 2}
    return {"model_type": "llama", "rope_theta": a.rope_base, "tie_word_embeddings": a.tied, **heads, **stretched}


def publish(folder: Path, name: str, ours: dict[str, Tensor] | None = None) -> Path:
    """A folder in the published form."""
    a, form = SHAPES[name], form_of(name)
    ours = ours or weights(a)
    folder.mkdir(parents=True)
    theirs = {t: form.give([ours[o] for o in group], t, a).contiguous() for t, group in form.groups(a).items()}
    save_file(theirs, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_of(name, a)))
    return folder


def reference(a: Architecture, ours: dict[str, Tensor]) -> Any:
    model = network(a)
    model.load_state_dict(ours | ({"lm_head.weight": ours["model.embed_tokens.weight"]} if a.tied else {}))
    return model.eval()


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
def test_in_and_out_and_in_again(name: str, tmp_path: Path) -> None:
    """Converted to our folder, and from there where a layout is written: identical tensors."""
    theirs = publish(tmp_path / "theirs", name)
    ours = convert(theirs, tmp_path / "ours")
    first, second = load(theirs), load(ours)
    assert second.model.architecture == first.model.architecture
    assert (second.family, second.family.vocabulary) == (first.family, first.family.vocabulary)
    state = second.model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in first.model.state_dict().items())
    to = name.split(",")[0]
    if to not in written_formats() or "biases" in name:
        return
    out = convert(ours, tmp_path / "out", to=to)
    a, b = load_file(theirs / "model.safetensors"), load_file(out / "model.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    again = load(out)
    assert again.model.architecture == first.model.architecture
    assert again.family.vocabulary == first.family.vocabulary


def test_smdm_rows_are_query_key_value_of_each_head() -> None:
    a, form = SHAPES["smdm"], formats()["smdm"]
    rows = torch.arange(3 * a.width)[:, None].expand(-1, a.width).contiguous()
    for part, name in enumerate("qkv"):
        found = form.take(rows, f"model.layers.0.self_attn.{name}_proj.weight", a)[:, 0].tolist()
        assert found == [head * 3 * 8 + part * 8 + i for head in range(4) for i in range(8)]


def test_smdm_forward_from_its_own_names(tmp_path: Path) -> None:
    """The published forward pass, written out on the published tensors."""
    a = SHAPES["smdm"]
    folder = publish(tmp_path / "theirs", "smdm")
    w = load_file(folder / "model.safetensors")

    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return gain * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    x = w["transformer.wte.weight"][IDS]
    table = rotary(a, torch.arange(12))
    for i in range(2):
        p = f"transformer.h.{i}."
        qkv = (norm(x, w[p + "norm_1.weight"]) @ w[p + "attn.attn.weight"].T).view(2, 12, 4, 3, 8)
        q, k, v = (qkv[:, :, :, j].transpose(1, 2) for j in range(3))
        scores = rotate(q, *table) @ rotate(k, *table).transpose(-1, -2) / math.sqrt(8)
        x = x + (scores.softmax(-1) @ v).transpose(1, 2).flatten(2) @ w[p + "attn.proj.weight"].T
        h = norm(x, w[p + "norm_2.weight"])
        gate, up = (h @ w[f"{p}mlp.swiglu.w{j}.weight"].T for j in (1, 2))
        x = x + (gate * gate.sigmoid() * up) @ w[p + "mlp.swiglu.w3.weight"].T
    truth = norm(x, w["transformer.ln_f.weight"]) @ w["lm_head.weight"].T
    torch.testing.assert_close(load(folder).logits(IDS), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in SIZES if n[0].isdigit() and n not in ("3M", "10M", "30M")])
def test_smdm_at_full_size(name: str) -> None:
    """All thirty sizes, on shapes alone; N + 64001 d parameters."""
    a = replace(SIZES[name], rows=32001, predicted=32000)
    layout = formats()["smdm"].layout(a)
    assert len(layout) == 7 * a.layers + 3
    assert sum(map(math.prod, layout.values())) == a.parameters == a.non_embedding + 64001 * a.width
    if name == "1028M":
        assert a.parameters == 1_142_367_744


def test_llada_at_full_size() -> None:
    layout = formats()["llada"].layout(replace(SIZES["LLaDA-8B"], rows=126464, predicted=126464))
    assert len(layout) == 291
    assert sum(map(math.prod, layout.values())) == 8_015_581_184
    small = formats()["llada"].layout(replace(SIZES["LLaDA-1B"], rows=126464, predicted=126464))
    assert round(sum(map(math.prod, small.values())) / 1e9, 2) == 1.49


def test_dit_at_full_size() -> None:
    """MDLM on OpenWebText: 169,627,218 parameters with adaLN (small, 50,258 ids)."""
    a = replace(
        DIT,
        layers=12,
        width=768,
        heads=12,
        kv_heads=12,
        head_width=64,
        ffn=3072,
        rows=50258,
        predicted=50258,
        condition=128,
    )
    assert sum(map(math.prod, formats()["dit"].layout(a).values())) == a.parameters == 169_627_218


@pytest.mark.parametrize("name", SHAPES)
def test_counts_of_parameters(name: str) -> None:
    a = SHAPES[name]
    assert sum(p.numel() for p in weights(a).values()) == a.parameters


# What tensors cannot tell


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
    theirs = {t: form.give([ours[o] for o in g], t, named).contiguous() for t, g in form.groups(named).items()}
    save_file(theirs, tmp_path / "mdm-6M.safetensors")
    assert load(tmp_path / "mdm-6M.safetensors").model.architecture == named


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


def test_a_network_that_is_not_told_the_time_is_no_uniform_model(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "dit")
    with pytest.raises(RemaskError, match="is not conditioned on time, which Uniform models have to be"):
        load(folder, overrides=Overrides(family="Uniform", time=False))


def test_a_dit_is_what_its_configuration_says(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "dit")
    assert not load(folder).model.architecture.time
    assert load(folder).family.vocabulary.mask == 40 == load(folder).model.architecture.silent  # type: ignore[attr-defined]
    (folder / "config.json").write_text(json.dumps({"model_type": "duo", "n_heads": 4}))
    duo = load(folder)
    assert isinstance(duo.family, Uniform) and duo.model.architecture.time and duo.model.architecture.silent is None
    training = {"algo": {"name": "ar"}, "model": {"n_heads": 4, "length": 77}}
    (folder / "config.json").write_text(json.dumps(training))
    assert isinstance(load(folder).family, Autoregressive) and load(folder).model.architecture.context == 77
    for said, alpha_0 in (({}, 1.0), ({"alpha_0": 0.25}, 0.25)):
        (folder / "config.json").write_text(json.dumps({"model_type": "esolm", "n_heads": 4, **said}))
        eso = load(folder)
        assert isinstance(eso.family, Interpolating) and eso.family.alpha_0 == alpha_0
        assert remask.sample(eso, prompt=[3, 4], length=5, steps=2).evaluations <= 2 + 5
    (folder / "config.json").write_text(json.dumps({"algo": {"name": "esolm", "diffusion_attn_mode": "mixed2"}}))
    assert load(folder, overrides=Overrides(heads=4)).family.variant == "A"  # type: ignore[attr-defined]
    (folder / "config.json").write_text(json.dumps({"algo": {"name": "esolm", "diffusion_attn_mode": "odd"}}))
    with pytest.raises(RemaskError, match="diffusion_attn_mode 'odd' is of neither variant"):
        load(folder, overrides=Overrides(heads=4))
    training = {"algo": {"name": "esolm", "alpha_0": 1.5}, "model": {"n_heads": 4, "length": 77}}
    (folder / "config.json").write_text(json.dumps(training))
    with pytest.raises(RemaskError, match=r"theirs: alpha_0 is 1\.5; it must be from 0"):
        load(folder)
    assert isinstance(load(folder, overrides=Overrides(family="Masked")).family, Masked)


def test_a_bare_dit_and_a_bare_llada(tmp_path: Path) -> None:
    for name, wrapper in (("dit", "backbone."), ("llada", "model.")):
        folder = publish(tmp_path / name, name)
        whole = load(folder)
        bare = {k.removeprefix(wrapper): v for k, v in load_file(folder / "model.safetensors").items()}
        save_file(
            {**bare, **({"rotary_emb.inv_freq": torch.ones(4)} if name == "dit" else {})}, folder / "model.safetensors"
        )
        for one, two in zip(whole.model.parameters(), load(folder).model.parameters(), strict=True):
            assert torch.equal(one, two)


# A Llama as the beginning of a masked model


def test_a_llama_becomes_masked(tmp_path: Path) -> None:
    """Attention opened, a row for the mask, predictions where the weights make them."""
    folder = publish(tmp_path / "llama", "llama")
    causal = load(folder)
    found = load(convert(folder, tmp_path / "masked", overrides=Overrides(family="Masked", shift=True)))
    a = found.model.architecture
    assert (a.rows, a.predicted, a.shifted, found.family.vocabulary.mask) == (41, 40, True, 40)
    embedding = found.model.model.embed_tokens.weight
    torch.testing.assert_close(embedding[40], embedding[:40].mean(0))
    with torch.no_grad():
        plain = Transformer(replace(a, shifted=False))
        plain.load_state_dict(found.model.state_dict())
        open_logits, shifted = plain(IDS), found.model(IDS)
        assert torch.equal(shifted[:, 1:], open_logits[:, :-1]) and torch.equal(shifted[:, 0], open_logits[:, 0])
        # a causal reading is still the old model's
        from remask.model.attention import CAUSAL

        old = causal.model(IDS, attention=CAUSAL)
        torch.testing.assert_close(found.model(IDS, attention=CAUSAL)[:, 1:], old[:, :-1])


def test_a_llama_that_reuses_an_id_as_its_mask(tmp_path: Path) -> None:
    """As DiffuLLaMA does with id 811: nothing is added."""
    folder = publish(tmp_path / "llama", "llama")
    found = load(folder, overrides=Overrides(family="Masked", shift=True, mask_id=11))
    a = found.model.architecture
    assert (a.rows, a.predicted, a.shifted, found.family.vocabulary.mask) == (40, 40, True, 11)
    (folder / "config.json").write_text(
        json.dumps(config_of("llama", GROUPED) | {"model_type": "Dream", "mask_token_id": 7})
    )
    dream = load(folder)
    assert isinstance(dream.family, Masked) and dream.family.mask == 7 and dream.model.architecture.shifted


def test_shifted_predictions_begin_anew_in_each_segment(tmp_path: Path) -> None:
    a = replace(PLAIN, shifted=True)
    model = reference(a, weights(a))
    positions = torch.tensor([0, 1, 2, 0, 1, 2]).expand(2, -1)
    with torch.no_grad():
        shifted = model.hidden(IDS[:, :6], positions=positions)
        plain = reference(replace(a, shifted=False), weights(a)).hidden(IDS[:, :6], positions=positions)
    assert torch.equal(shifted[:, [0, 3]], plain[:, [0, 3]])
    assert torch.equal(shifted[:, [1, 2, 4, 5]], plain[:, [0, 1, 3, 4]])


def test_padding_of_the_vocabulary_is_left_behind(tmp_path: Path) -> None:
    """A mask comes behind the tokenizer's ids, where `remask prepare` puts it, and not behind the padding."""
    text = Tokenizer.bytes()
    a = replace(PLAIN, rows=300, predicted=300)
    folder = tmp_path / "llama"
    folder.mkdir()
    save_file(weights(a), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": 4, "eos_token_id": 256}))
    text.save(folder / "tokenizer.json")
    found = load(folder, overrides=Overrides(family="Masked"))
    assert "mask 257" in contents(folder, overrides=Overrides(family="Masked"))["vocabulary"], (
        "info says what convert does"
    )
    assert found.family.vocabulary.mask == 257 and found.model.architecture.rows == 258
    assert found.model.lm_head.weight.shape == (257, 32)


# Out


def test_what_a_layout_cannot_hold_is_refused(tmp_path: Path) -> None:
    kinds = {name: convert(publish(tmp_path / f"t {name}", name), tmp_path / f"o {name}") for name in SHAPES}
    refused = [
        ("dit", "llada", "no DiT"), ("smdm", "llama", "left to right"), ("llama", "llada", "for masked models"),
        ("llama, biases and norms", "llama", "biases"), ("dit, causal", "llama", "no DiT"),
    ]  # fmt: skip
    for name, to, says in refused:
        with pytest.raises(RemaskError, match=says):
            convert(kinds[name], tmp_path / "out", to=to)
        assert not (tmp_path / "out").exists()
    with pytest.raises(RemaskError, match=r"unknown format to write 'smdm'\. Known: llada, llama"):
        convert(kinds["smdm"], tmp_path / "out", to="smdm")


def test_our_masked_model_in_the_llada_layout(tmp_path: Path) -> None:
    """Its head has no row for the mask; the layout's has, a copy that is never strictly the best."""
    out = convert(publish(tmp_path / "theirs", "smdm"), tmp_path / "out", to="llada")
    head = load_file(out / "model.safetensors")["model.transformer.ff_out.weight"]
    assert head.shape == (41, 32) and torch.equal(head[40], head[39])
    one, two = load(tmp_path / "theirs"), load(out)
    assert two.model.architecture == replace(one.model.architecture)
    assert torch.equal(one.logits(IDS), two.logits(IDS))


def test_a_llama_opens_in_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    for name in ("llama", "llama, tied", "llama, stretched"):
        out = convert(publish(tmp_path / f"t {name}", name), tmp_path / name, to="llama")
        theirs = transformers.LlamaForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
        from remask.model.attention import CAUSAL

        with torch.no_grad():
            truth, found = theirs(IDS).logits, load(out).model(IDS, attention=CAUSAL)
        torch.testing.assert_close(found, truth, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_what_transformers_saves_is_read(kind: str, tmp_path: Path) -> None:
    """Biases of Qwen 2, norms before the rotation in Qwen 3: against the library's own networks."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=40, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
        head_dim=16 if kind == "Qwen3" else 8,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    theirs.save_pretrained(tmp_path / "theirs")
    found = load(tmp_path / "theirs")
    assert found.model.architecture.qkv_bias == (kind == "Qwen2")
    assert found.model.architecture.qk_norm == (kind == "Qwen3")
    from remask.model.attention import CAUSAL

    with torch.no_grad():
        truth = theirs(IDS).logits
    torch.testing.assert_close(found.model(IDS, attention=CAUSAL), truth, rtol=2e-5, atol=2e-5)


def empty(form: str, a: Architecture) -> Source:
    """A source with the shapes of a full-size model, and no weights."""
    layout = formats()[form].layout(a)
    return Source(
        "it",
        Tensors({n: (lambda: torch.empty(0)) for n in layout}, {n: (torch.float32, s) for n, s in layout.items()}),
        [],
    )


OWT = replace(DIT, layers=12, width=768, heads=12, kv_heads=12, head_width=64, ffn=3072, condition=128)


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


def test_the_silent_id_of_a_uniform_model() -> None:
    """scaling-dllms keeps the mask as noise and never predicts it; duo has no mask."""
    for rows, silent in ((32001, 32000), (50258, None)):
        source = empty("dit", replace(OWT, rows=rows, predicted=rows))
        read = formats()["dit"].read(source, Overrides(family="Uniform"))
        assert read.architecture.silent == silent  # type: ignore[attr-defined]


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


def test_a_trained_mask_is_kept(tmp_path: Path) -> None:
    """A configuration that names a mask, on a Llama read as masked: no row is added, and none cut off."""
    folder = publish(tmp_path / "theirs", "llama")
    (folder / "config.json").write_text(json.dumps({**config_of("llama", GROUPED), "mask_token_id": 7}))
    found = load(folder, overrides=Overrides(family="Masked"))
    assert (found.model.architecture.rows, found.model.architecture.predicted, found.family.vocabulary.mask) == (
        40,
        40,
        7,
    )


def test_a_mask_of_null_is_none(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "llama")
    more = {"mask_token_id": None, "sliding_window": None, "max_position_embeddings": 64}
    (folder / "config.json").write_text(json.dumps({**config_of("llama", GROUPED), **more}))
    found = load(folder, overrides=Overrides(family="Masked"))
    assert (found.model.architecture.rows, found.family.vocabulary.mask) == (41, 40)


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


def test_the_model_of_a_run_goes_out_and_comes_back(autoregressive_run: Path, masked_run: Path, tmp_path: Path) -> None:
    for run, to in ((autoregressive_run, "llama"), (masked_run, "llada")):
        one, two = load(run), load(convert(run, tmp_path / to, to=to))
        state, found = one.model.state_dict(), two.model.state_dict()
        for key, value in found.items():
            assert torch.equal(value, state[key][: len(value)]), key  # an exported Llama has no row for the mask
        text = "abcabc"
        assert one.tokenizer.encode(text) == two.tokenizer.encode(text)
        assert (tmp_path / to / "tokenizer_config.json").is_file()
    ids = one_ids(load(autoregressive_run))
    torch.testing.assert_close(load(autoregressive_run).logits(ids), load(tmp_path / "llama").logits(ids))


def one_ids(m: Checkpoint) -> Tensor:
    return torch.tensor([m.tokenizer.encode("abcdefgh")])


# What can be wrong


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


def test_what_is_wrong_is_listed_by_info(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    assert contents(folder)["problems"].startswith("none")
    broken = load_file(folder / "model.safetensors")
    del broken["transformer.ln_f.weight"]
    save_file({**broken, "extra": torch.ones(2)}, folder / "model.safetensors")
    problems = contents(folder)["problems"]
    assert "ln_f.weight is missing" in problems and "extra (2,) is not of this model" in problems


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


def test_a_tokenizer_that_does_not_belong(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    Tokenizer.bytes().save(folder / "tokenizer.json")
    with pytest.raises(RemaskError, match=r"tokenizer\.json has 256 ids and the model 41"):
        load(folder)
    (folder / "tokenizer.json").unlink()
    m = load(folder)
    with pytest.raises(RemaskError, match="came without a tokenizer"):
        m.tokenizer.encode("a")


def test_destinations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    out = convert(folder, tmp_path / "out")
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(RemaskError, match="exists and is kept"):
        convert(folder, out)
    convert(publish(tmp_path / "other", "llada"), out, force=True)
    assert (out / "model.safetensors").read_bytes() != before and load(out).model.architecture.kv_heads == 2
    (out / "mine").write_text("kept")
    with pytest.raises(RemaskError, match=r"holds more than a checkpoint \(mine\), so even with --force it is kept"):
        convert(folder, out, force=True)
    assert (out / "mine").read_text() == "kept"
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(RemaskError, match=r"needs 0\.00 GiB, and there are 0\.00 GiB free"):
        convert(folder, tmp_path / "full" / "deep")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "out", "theirs"]


def test_what_holds_the_source_is_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    ours = convert(publish(tmp_path / "theirs", "smdm"), run / "latest")
    before = (ours / "model.safetensors").read_bytes()
    for source, to in (
        (ours, ours),
        (ours, run),
        (run, ours),
        (tmp_path / "theirs" / "model.safetensors", tmp_path / "theirs"),
    ):
        with pytest.raises(RemaskError, match=r"holds the source itself|holds more than a checkpoint"):
            convert(source, to, force=True, overrides=Overrides(heads=4) if "theirs" in str(to) else Overrides())
    assert (ours / "model.safetensors").read_bytes() == before
    assert (tmp_path / "theirs" / "model.safetensors").is_file()


def test_links_files_and_neighbours_are_left_alone(tmp_path: Path) -> None:
    """Whatever lies beside the destination under a likely name belongs to somebody."""
    folder = publish(tmp_path / "theirs", "smdm")
    for name in ("m.tmp", "m.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "thesis").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "m.old")
    (tmp_path / "file").write_text("mine")
    convert(folder, tmp_path / "m")
    convert(folder, tmp_path / "m", force=True)
    for name in ("m.tmp", "m.old"):
        assert (tmp_path / name / "thesis").read_text() == "mine"
    with pytest.raises(RemaskError, match="is a link; name the folder itself"):
        convert(folder, tmp_path / "link", force=True)
    with pytest.raises(RemaskError, match="is a file"):
        convert(folder, tmp_path / "file", force=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "link", "m", "m.old", "m.tmp", "theirs"]


CHILD = """
import os, sys, time
from pathlib import Path
from remask.checkpoints import replacing as r
swap = r.swap
def slow(fresh, folder):
    if sys.argv[3] == "kill":
        os.kill(os.getpid(), 9)
    time.sleep(0.3)
    swap(fresh, folder)
r.swap = slow
from remask.checkpoints.convert import convert
try:
    convert(sys.argv[1], sys.argv[2], force=sys.argv[4] == "force")
    print("written")
except r.RemaskError as error:
    print(error)
"""


def child(folder: Path, out: Path, how: str = "slow", force: str = "force") -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(out), how, force], stdout=subprocess.PIPE, text=True
    )


def test_killed_before_the_last_moment_nothing_has_changed(tmp_path: Path) -> None:
    one, two = publish(tmp_path / "one", "smdm"), publish(tmp_path / "two", "llada")
    out = convert(one, tmp_path / "out")
    before = (out / "model.safetensors").read_bytes()
    assert child(two, out, "kill").wait() == -9
    assert (out / "model.safetensors").read_bytes() == before
    assert any(p.name.startswith(".out-") for p in tmp_path.iterdir())
    convert(two, out, force=True)
    assert not any(p.name.startswith(".out-") for p in tmp_path.iterdir()), "what the killed one left is gone"


@pytest.mark.parametrize("force", ["force", "keep"])
def test_two_at_once_leave_one_whole(tmp_path: Path, force: str) -> None:
    one, two = publish(tmp_path / "one", "smdm"), publish(tmp_path / "two", "llada")
    running = [child(folder, tmp_path / "out", force=force) for folder in (one, two)]
    said = [process.communicate()[0] for process in running]
    assert said.count("written\n") == (2 if force == "force" else 1), said
    found = load(tmp_path / "out").model.architecture
    assert found in (load(one).model.architecture, load(two).model.architecture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one", "out", "two"]


def test_weights_of_several_kinds_compute_in_one(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm")
    mixed = load_file(folder / "model.safetensors")
    mixed["lm_head.weight"] = mixed["lm_head.weight"].bfloat16()
    save_file(mixed, folder / "model.safetensors")
    m = load(folder)
    assert {p.dtype for p in m.model.parameters()} == {torch.float32} and bool(m.logits(IDS).isfinite().all())


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


def test_an_autoregressive_model_is_no_masked_one(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "smdm, autoregressive")
    with pytest.raises(RemaskError, match="has no row for a mask, so it is no Masked model"):
        load(folder, overrides=Overrides(family="Masked"))


def test_a_head_of_another_width_is_seen_behind_padding(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "llama")
    broken = load_file(folder / "model.safetensors")
    for shape in ((41, 7), (100,), (39, 32)):
        save_file({**broken, "lm_head.weight": torch.ones(shape)}, folder / "model.safetensors")
        with pytest.raises(RemaskError, match=r"lm_head\.weight is"):
            load(folder, overrides=Overrides(family="Masked"))


def test_files_that_cannot_grow_leave_nothing(tmp_path: Path) -> None:
    """A real failure in the middle of writing: the system refuses files beyond 20 kB."""
    folder = publish(tmp_path / "theirs", "smdm")
    code = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from remask.checkpoints.convert import convert
from remask.errors import RemaskError
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    convert(sys.argv[1], sys.argv[2])
except RemaskError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert "cannot write" in done.stdout and "out" in done.stdout, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["theirs"]
