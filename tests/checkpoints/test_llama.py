"""The layout of Hugging Face's Llama: against `transformers`, and as the beginning of a masked model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import GROUPED, IDS, PLAIN, config_of, publish, reference, weights
from safetensors.torch import load_file, save_file

from remask.checkpoints.checkpoint import load
from remask.checkpoints.contents import contents
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.model.transformer import Transformer


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
        shifted = model(IDS[:, :6], positions=positions)
        plain = reference(replace(a, shifted=False), weights(a))(IDS[:, :6], positions=positions)
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


def test_a_head_of_another_width_is_seen_behind_padding(tmp_path: Path) -> None:
    folder = publish(tmp_path / "theirs", "llama")
    broken = load_file(folder / "model.safetensors")
    for shape in ((41, 7), (100,), (39, 32)):
        save_file({**broken, "lm_head.weight": torch.ones(shape)}, folder / "model.safetensors")
        with pytest.raises(RemaskError, match=r"lm_head\.weight is"):
            load(folder, overrides=Overrides(family="Masked"))
