"""The layout of the DiT: which family it is, and whether it is conditioned on time."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import DIT, OWT, empty, publish
from safetensors.torch import load_file, save_file

import remask
from remask.checkpoints.checkpoint import load
from remask.checkpoints.format import formats
from remask.checkpoints.overrides import Overrides
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform


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


def test_the_silent_id_of_a_uniform_model() -> None:
    """scaling-dllms keeps the mask as noise and never predicts it; duo has no mask."""
    for rows, silent in ((32001, 32000), (50258, None)):
        source = empty("dit", replace(OWT, rows=rows, predicted=rows))
        read = formats()["dit"].read(source, Overrides(family="Uniform"))
        assert read.architecture.silent == silent  # type: ignore[attr-defined]
