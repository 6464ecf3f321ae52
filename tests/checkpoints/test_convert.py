"""Conversions: identical tensors in and out, and destinations that are written whole or not at all."""

import json
from pathlib import Path

import killing
import pytest
import torch
from layouts import SHAPES, form_of, publish
from safetensors.torch import load_file, save_file
from torch import Tensor

from remask.checkpoints.checkpoint import Checkpoint, load
from remask.checkpoints.convert import convert
from remask.checkpoints.format import written_formats
from remask.checkpoints.overrides import Overrides
from remask.errors import RemaskError


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


def test_the_model_of_a_run_goes_out_and_comes_back(plain_runs: dict[str, Path], tmp_path: Path) -> None:
    for kind, to in (("left", "llama"), ("masked", "llada")):
        run = plain_runs[kind]
        one, two = load(run), load(convert(run, tmp_path / to, to=to))
        state, found = one.model.state_dict(), two.model.state_dict()
        for key, value in found.items():
            assert torch.equal(value, state[key][: len(value)]), key  # an exported Llama has no row for the mask
        text = "abcabc"
        assert one.tokenizer.encode(text) == two.tokenizer.encode(text)
        assert (tmp_path / to / "tokenizer_config.json").is_file()
    theirs = load(plain_runs["left"])
    ids = one_ids(theirs)
    torch.testing.assert_close(theirs.logits(ids), load(tmp_path / "llama").logits(ids))


@pytest.mark.parametrize("to", ["llama", "llada"])
def test_convolutions_stay_here(autoregressive_run: Path, masked_run: Path, tmp_path: Path, to: str) -> None:
    run = autoregressive_run if to == "llama" else masked_run
    with pytest.raises(
        RemaskError, match=r"or\s+convolutions; one trained with --architecture\.convolution 0 goes out"
    ):
        convert(run, tmp_path / "out", to=to)
    assert not (tmp_path / "out").exists()


def one_ids(m: Checkpoint) -> Tensor:
    return torch.tensor([m.tokenizer.encode("abcdefgh")])


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


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    """Converting reads a tensor, writes it and lets it go: the peak grows with the largest shard, not the whole."""
    form, a = form_of("llada"), SHAPES["llada"]
    wide = type(a)(**{**vars(a), "width": 1024, "ffn": 4096, "head_width": 256, "layers": 6})
    folder = tmp_path / "theirs"
    folder.mkdir()
    layout, index = form.layout(wide), {}
    for i in range(6):
        part = {n: torch.ones(s) for n, s in layout.items() if f"blocks.{i}." in n or (i == 0 and "blocks" not in n)}
        save_file(part, folder / f"{i}.safetensors")
        index |= dict.fromkeys(part, f"{i}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    config = {"n_heads": 4, "mask_token_id": 39, "eos_token_id": 3}
    (folder / "config.json").write_text(json.dumps(config))
    code = """
import resource, sys
from remask.checkpoints.convert import convert
from remask.checkpoints.format import formats
import safetensors.torch
formats()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
convert(sys.argv[1], sys.argv[2])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    printed = killing.output_of(code, tmp_path / "log", folder, tmp_path / "ours").splitlines()[-1]
    largest = max(f.stat().st_size for f in folder.glob("*.safetensors")) / 2**20
    whole = sum(f.stat().st_size for f in folder.glob("*.safetensors")) / 2**20
    assert whole > 5 * largest > 250
    assert int(printed) < 2 * largest, f"{printed} MiB for shards of {largest:.0f} MiB"
