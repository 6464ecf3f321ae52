"""Which file of a folder holds the weights, and what else may lie in its place."""

import json
from pathlib import Path

import pytest
import torch
from layouts import publish, same, state
from safetensors.torch import save_file

from remask.checkpoints.checkpoint import load
from remask.checkpoints.contents import contents
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.weight_files import PREFERRED, weight_files
from remask.errors import RemaskError


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder in SMDM's form."""
    return publish(tmp_path / "theirs", "smdm")


TRAINERS = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt", "rng_state.pth",
            "rng_state_0.pth", "mp_rank_00_optim_states.pt", "random_states_0.pt")  # fmt: skip


@pytest.mark.parametrize("weights", ["pytorch_model.bin", "anything.bin", "model.pt"])
def test_files_of_trainers_beside_the_weights(weights: str, theirs: Path, tmp_path: Path) -> None:
    other = tmp_path / "trainer"
    other.mkdir()
    (other / "config.json").write_text((theirs / "config.json").read_text())
    for name in TRAINERS:
        torch.save({"lr": 1.0}, other / name)
    torch.save(state(theirs), other / weights)
    assert same(other, theirs) and [f.name for f in weight_files(other)] == [weights]


def test_the_names_of_transformers_are_preferred(theirs: Path) -> None:
    """model.safetensors, its index, pytorch_model.bin, its index; then whatever is the only one."""
    save_file(state(theirs), theirs / "other.safetensors")
    torch.save(state(theirs), theirs / "pytorch_model.bin")
    for name in ("model.safetensors", "pytorch_model.bin"):
        (theirs / f"{name}.index.json").write_text(json.dumps({"weight_map": {"a": "other.safetensors"}}))
    names = []
    for gone in PREFERRED:
        names += [f.name for f in weight_files(theirs)]
        (theirs / gone).unlink()
    assert names == ["model.safetensors", "other.safetensors", "pytorch_model.bin", "other.safetensors"]
    assert [f.name for f in weight_files(theirs)] == ["other.safetensors"]


LOOKALIKES = {
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 1\n", "of Git LFS.*git lfs pull"),
    "page": (b"<!DOCTYPE html><html><head><title>404</title>", "a web page"),
    "message": (b"Entry not found", "holds text and no weights; it begins 'Entry not found'"),
    "json": (b'{"error": "Repository not found"}', "holds text and no weights; it begins"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "GGUF form of llama.cpp"),
}  # fmt: skip


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("kind", LOOKALIKES)
def test_what_stands_in_place_of_weights_is_named(kind: str, name: str, theirs: Path) -> None:
    content, says = LOOKALIKES[kind]
    (theirs / "model.safetensors").unlink()
    (theirs / name).write_bytes(content)
    for use in (load, contents):
        with pytest.raises(RemaskError, match=says) as caught:
            use(theirs)
        assert name in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_pointers_in_place_of_small_files(theirs: Path) -> None:
    pointer, _ = LOOKALIKES["pointer"]
    (theirs / "model.safetensors.index.json").write_bytes(pointer)
    (theirs / "model.safetensors").unlink()
    with pytest.raises(RemaskError, match=r"index\.json is a pointer of Git LFS"):
        load(theirs)
    (theirs / "config.json").write_bytes(pointer)
    with pytest.raises(RemaskError, match=r"config\.json is a pointer of Git LFS"):
        load(theirs)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        (
            "model-q4.gguf",
            r"model-q4\.gguf is a GGUF of llama\.cpp, which remask does not read; take the",
        ),
        ("tf_model.h5", "TensorFlow's weights"),
        ("flax_model.msgpack", "Flax's weights"),
        ("__0_0.distcp", "dcp_to_torch"),
    ],
)
def test_weights_in_forms_that_are_not_read(name: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"GGUF\x03" if "gguf" in name else b"\x01\x02")
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(RemaskError, match=says if source is tmp_path else "does not read|dcp_to_torch|GGUF"):
            load(source)


def test_an_adapter_is_no_model(tmp_path: Path, theirs: Path) -> None:
    """PEFT's adapters, in a folder, as a file, or under another name; beside whole weights they are passed over."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    lora = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 4)}
    save_file(lora, folder / "adapter_model.safetensors")
    says = "is an adapter .*LoRA.* and no whole model: merge it into its base with peft's merge_and_unload"
    for source in (folder, folder / "adapter_model.safetensors"):
        with pytest.raises(RemaskError, match=says):
            load(source)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    with pytest.raises(RemaskError, match="of org/base and no whole model"):
        contents(folder)
    (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
    with pytest.raises(RemaskError, match=says.replace(" and no", ".* and no")):
        load(folder)
    save_file(lora, theirs / "adapter_model.safetensors")
    (theirs / "model.safetensors").rename(theirs / "weights.safetensors")
    assert load(theirs).model.architecture.layers == 2


def test_the_content_decides_and_not_the_suffix(theirs: Path, tmp_path: Path) -> None:
    save_file(state(theirs), tmp_path / "model.bin")
    assert same(tmp_path / "model.bin", theirs, overrides=Overrides(heads=4))
    torch.save(state(theirs), tmp_path / "model.safetensors")
    with pytest.raises(RemaskError, match=r"is a PyTorch file and no safetensors: rename it to end with \.bin"):
        load(tmp_path / "model.safetensors")


def test_quantised_weights_are_named(theirs: Path) -> None:
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "gptq"}}))
    with pytest.raises(RemaskError, match=r"weights are quantised \(gptq\), which remask does not read"):
        load(theirs)
