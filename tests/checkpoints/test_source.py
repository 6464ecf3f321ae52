"""Files as others leave them: shards with an index, folders with several files or none, damage."""

import json
from pathlib import Path

import pytest
import torch
from layouts import publish, same, state
from safetensors.torch import load_file, save_file

from remask.checkpoints.checkpoint import load
from remask.checkpoints.contents import contents
from remask.checkpoints.convert import convert
from remask.errors import RemaskError


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder in SMDM's form."""
    return publish(tmp_path / "theirs", "smdm")


def test_shards_with_an_index(theirs: Path, tmp_path: Path) -> None:
    sharded, all_ = tmp_path / "sharded", state(theirs)
    sharded.mkdir()
    names, index = sorted(all_), {}
    for i in range(3):
        save_file({n: all_[n] for n in names[i::3]}, sharded / f"model-{i}.safetensors")
        index |= {n: f"model-{i}.safetensors" for n in names[i::3]}
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    (sharded / "config.json").write_text((theirs / "config.json").read_text())
    assert same(sharded, theirs) and contents(sharded)["files"] == 3
    assert same(convert(sharded, tmp_path / "ours"), theirs)
    (sharded / "model-1.safetensors").unlink()
    with pytest.raises(RemaskError, match=r"index\.json names model-1\.safetensors, which is missing"):
        load(sharded)
    for bad in ("../theirs/model.safetensors", "/etc/passwd", 3):
        (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": bad}}))
        with pytest.raises(RemaskError, match="names a shard outside its folder"):
            load(sharded)
    (sharded / "model.safetensors.index.json").write_text("{")
    with pytest.raises(RemaskError, match=r"index\.json is damaged"):
        load(sharded)


def test_names_that_cannot_be_printed(theirs: Path) -> None:
    save_file({**state(theirs), "a\nb\x1b[2J": torch.ones(1)}, theirs / "model.safetensors")
    with pytest.raises(RemaskError, match="is no name of a tensor") as caught:
        load(theirs)
    assert "\x1b" not in str(caught.value) and len(str(caught.value).splitlines()) == 1


def truncated(path: Path, share: float) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_files_that_are_cut_off(theirs: Path, tmp_path: Path, share: float) -> None:
    torch.save(state(theirs), tmp_path / "model.pth")
    truncated(tmp_path / "model.pth", share)
    truncated(theirs / "model.safetensors", share)
    for path in (theirs, tmp_path / "model.pth"):
        with pytest.raises(RemaskError, match=r"damaged|no file of weights"):
            load(path)
        with pytest.raises(RemaskError):
            convert(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_with_several_files_or_none(theirs: Path, tmp_path: Path) -> None:
    (theirs / "model.safetensors").rename(theirs / "a.safetensors")
    assert load(theirs).model.architecture.layers == 2
    save_file(state_of(theirs / "a.safetensors"), theirs / "b.safetensors")
    with pytest.raises(RemaskError, match=r"several weight files and no index; name one of a\.safetensors, b\.safe"):
        load(theirs)
    assert load(theirs / "b.safetensors").model.architecture.layers == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(RemaskError, match=r"no checkpoint in .*found neither"):
        load(tmp_path / "empty")


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in load_file(path).items()}
