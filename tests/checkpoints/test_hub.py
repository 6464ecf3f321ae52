"""Checkpoints by their names on the Hub."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from layouts import publish, state

from remask.checkpoints.checkpoint import load
from remask.errors import RemaskError


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder in SMDM's form."""
    return publish(tmp_path / "theirs", "smdm")


def test_the_hub_by_its_cache(theirs: Path, tmp_path: Path) -> None:
    """Hub names, whole repositories and single files of them, in a process that sees a cache and no network."""
    snapshot = tmp_path / "hub" / "models--nieshen--SMDM" / "snapshots" / "abc"
    (snapshot / "mdm_safetensors").mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    for name in ("model.safetensors", "config.json"):
        (snapshot / name).write_bytes((theirs / name).read_bytes())
        (snapshot / "mdm_safetensors" / name.replace("model", "mdm-1M-1e18")).write_bytes((theirs / name).read_bytes())
    code = """
import sys, torch, remask
from remask.errors import RemaskError
ids = torch.arange(24).view(2, 12) % 37
truth = remask.load(sys.argv[1]).logits(ids)
from remask.checkpoints.source import open_source
source = open_source("nieshen/SMDM:mdm_safetensors/mdm-1M-1e18.safetensors")
print(source.config["n_head"], len(source.tensors), open_source("nieshen/SMDM@main").config["n_head"])
for name in ("nieshen/SMDM:nothing.safetensors", "nieshen/other", "nieshen/SMDM"):
    try:
        print(torch.equal(remask.load(name).logits(ids), truth))
    except RemaskError as error:
        print(error)
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code, str(theirs)], capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    assert lines[0] == f"4 {len(state(theirs))} 4", done.stdout + done.stderr
    assert "has no file nothing.safetensors" in lines[1]
    assert "nieshen/other is neither a local file or folder nor in the Hub's cache" in lines[2]
    assert "TinyLlama" in lines[3] and "nor in the Hub's cache" in lines[3]  # its tokenizer is another repository


def test_a_misspelled_path_is_not_looked_for_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(RemaskError, match="no checkpoint at runs/frist: there is no such file or folder"):
        load("runs/frist")
