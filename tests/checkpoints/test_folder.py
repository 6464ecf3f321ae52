"""Published folders: whole, mapped, and named file by file where something is wrong."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from remask.checkpoints.checkpoint import Checkpoint, load
from remask.checkpoints.contents import contents
from remask.checkpoints.folder import find, save, write_safetensors
from remask.checkpoints.source import Tensors
from remask.data.tokenizer import Tokenizer
from remask.errors import RemaskError
from remask.families import Family, describe
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import Architecture
from remask.model.transformer import Transformer, initialise

TOKENIZER = Tokenizer.bytes()
SHAPE = Architecture(layers=2, width=16, heads=4, kv_heads=2, head_width=4, ffn=24, context=32, rows=258, predicted=257)
IDS = torch.arange(20).view(2, 10) + 97


def publish(folder: Path, shape: Architecture = SHAPE, family: Family | None = None) -> Transformer:
    model = Transformer(shape)
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    bound = (family or Masked(objective="count")).over(TOKENIZER.vocabulary)
    save(folder, model.state_dict(), shape, bound, TOKENIZER, {"data": "none", "step": 3, "steps": 9}, "# card\n")
    return model.eval().requires_grad_(False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("more", [{}, {"tied": True}, {"time": True}, {"rope_bf16": True, "rope_base": 5e5}], ids=str)
@pytest.mark.parametrize("family", [Masked(objective="low_variance", eps=0.01), Autoregressive()], ids=str)
def test_round_trip(tmp_path: Path, more: dict, family: Family) -> None:
    shape = replace(SHAPE, **more)
    model = publish(tmp_path / "model", shape, family)
    found = load(tmp_path / "model")
    assert found.model.architecture == shape
    assert describe(found.family) == describe(family) and found.family.vocabulary == TOKENIZER.vocabulary
    assert found.tokenizer.fingerprint == TOKENIZER.fingerprint
    assert found.about == {"data": "none", "step": 3, "steps": 9}
    assert found.model.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(found.model.state_dict()[k], v) for k, v in model.state_dict().items())
    assert not found.model.training and not any(p.requires_grad for p in found.model.parameters())
    time = torch.tensor([0.2, 0.7]) if shape.time else None
    assert torch.equal(found.model(IDS, time=time), model(IDS, time=time))
    assert (tmp_path / "model" / "README.md").read_text() == "# card\n"


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    publish(tmp_path / "tied", replace(SHAPE, tied=True))
    publish(tmp_path / "untied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert "lm_head.weight" in load_file(tmp_path / "untied" / "model.safetensors")
    model = load(tmp_path / "tied").model
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_logits_of_a_checkpoint(tmp_path: Path) -> None:
    """An autoregressive one predicts at i the token i of the row, from those before."""
    publish(tmp_path / "masked")
    publish(tmp_path / "causal", family=Autoregressive())
    masked, causal = load(tmp_path / "masked"), load(tmp_path / "causal")
    assert masked.logits(IDS).shape == causal.logits(IDS).shape == (2, 10, 257)
    assert torch.equal(masked.logits(IDS), masked.model(IDS))
    other = IDS.clone()
    other[:, 4] = 0
    before, after = causal.logits(IDS), causal.logits(other)
    assert torch.equal(before[:, :5], after[:, :5]) and not torch.equal(before[:, 5:], after[:, 5:])


@pytest.mark.parametrize("tied", [False, True])
def test_weights_are_mapped_not_copied(tmp_path: Path, tied: bool) -> None:
    publish(tmp_path / "model", replace(SHAPE, tied=tied))
    model = load(tmp_path / "model").model
    file = str((tmp_path / "model" / "model.safetensors").resolve())
    regions = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        where, *_, path = line.split(maxsplit=5)
        if path == file:
            regions.append([int(end, 16) for end in where.split("-")])
    assert regions, "the file is not mapped"
    for name, weight in model.named_parameters():
        assert any(start <= weight.data_ptr() < end for start, end in regions), name


def test_dtype(folder: Path) -> None:
    assert {p.dtype for p in load(folder, dtype=torch.bfloat16).model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load(folder).model.parameters()} == {torch.float32}


def test_saving_again_replaces_the_whole_folder(folder: Path) -> None:
    (folder / "stray").write_text("old")
    publish(folder, replace(SHAPE, layers=1))
    assert load(folder).model.architecture.layers == 1
    assert not (folder / "stray").exists()
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_where_a_checkpoint_is_found(folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert find(run) is None
    with pytest.raises(RemaskError, match=r"no checkpoint in .*run: found neither"):
        load(run)
    with pytest.raises(RemaskError, match=r"no checkpoint at .*nowhere"):
        load(tmp_path / "nowhere")
    for name in ("best", "latest.old", "latest"):  # the later, the preferred
        shutil.copytree(folder, run / name)
        assert find(run) == run / name
    assert find(run / "best") == run / "best"


def test_contents(folder: Path) -> None:
    found = contents(folder)
    assert found["parameters"] == SHAPE.parameters and found["non_embedding"] == SHAPE.non_embedding
    assert found["dtype"] == "float32" and "step 3 of 9" in found["trained"]
    assert json.dumps(found)


def edited(change: Callable[[dict], None]) -> Callable[[Path], None]:
    """A damage to config.json."""

    def do(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return do


def retensored(change: Callable[[dict[str, Tensor]], None]) -> Callable[[Path], None]:
    """A damage to model.safetensors."""

    def do(folder: Path) -> None:
        weights = {k: v.clone() for k, v in load_file(folder / "model.safetensors").items()}
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return do


def shortened(name: str, size: int) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return do


def other_vocabulary(folder: Path) -> None:
    Tokenizer.train(["one two three"] * 9, 260).save(folder / "tokenizer.json")


NORM = "model.norm.weight"
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "half the weights": (shortened("model.safetensors", 5000), r"model\.safetensors is missing or damaged"),
    "no weights": (shortened("model.safetensors", 0), r"model\.safetensors is missing or damaged"),
    "weights removed": (lambda f: (f / "model.safetensors").unlink(), r"model\.safetensors is missing or damaged"),
    "weights are text": (lambda f: (f / "model.safetensors").write_text("x" * 999), r"model\.safetensors holds text"),
    "tensor missing": (
        retensored(lambda w: w.__delitem__(NORM)), r"model\.safetensors: tensor model\.norm\.weight is missing",
    ),
    "head missing, not tied": (
        retensored(lambda w: w.__delitem__("lm_head.weight")), r"tensor lm_head\.weight is missing",
    ),
    "tensor too many": (
        retensored(lambda w: w.update(extra=torch.ones(2))), r"model\.safetensors: tensor extra is not of this model",
    ),
    "tensor misshapen": (
        retensored(lambda w: w.update({NORM: torch.ones(15)})),
        r"tensor model\.norm\.weight is \(15,\), expected \(16,\)",
    ),
    "other tokenizer": (other_vocabulary, r"tokenizer\.json has 2[56]\d ids, and the model reads 258 and predicts 257"),
    "tokenizer removed": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json"),
    "tokenizer damaged": (shortened("tokenizer.json", 99), r"tokenizer\.json is not a tokenizer"),
    "config not JSON": (shortened("config.json", 99), r"config\.json is damaged"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), r"config\.json is damaged"),
    "config not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), r"config\.json is damaged"),
    "later format": (edited(lambda c: c.update(format=2)), r"config\.json has format 2; this version reads 1"),
    "no family": (edited(lambda c: c.__delitem__("family")), r"config\.json is damaged.*family"),
    "no layers": (edited(lambda c: c["architecture"].__delitem__("layers")), r"config\.json is damaged.*layers"),
    "layers is text": (edited(lambda c: c["architecture"].update(layers="two")), r"config\.json is damaged"),
    "family is text": (edited(lambda c: c.update(family="Masked")), r"config\.json"),
    "unknown family": (
        edited(lambda c: c["family"].update(name="os.system")), r"config\.json.*unknown family 'os\.system'.*Masked",
    ),
    "unknown option": (edited(lambda c: c["family"].update(colour=1)), r"config\.json.*family Masked.*colour"),
    "more ids than can be": (
        edited(lambda c: c["vocabulary"].update(size=10**30)), r"config\.json is damaged: a vocabulary has 1000",
    ),
    "more rows than can be": (
        edited(lambda c: c["architecture"].update(rows=10**30)), r"config\.json is damaged: [^\n]*\Z",
    ),
    "no heads": (edited(lambda c: c["architecture"].update(heads=0)), r"config\.json.*heads"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_with_its_file(folder: Path, damage: Callable[[Path], None], says: str) -> None:
    damage(folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(RemaskError, match=says):
        load(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_loading_runs_no_code(folder: Path) -> None:
    """A family can be named only if it is one of this package's, even when it is one elsewhere."""

    class Foreign(Masked):
        pass

    edited(lambda c: c["family"].update(name="Foreign"))(folder)
    with pytest.raises(RemaskError, match="unknown family 'Foreign'"):
        load(folder)
    assert isinstance(Foreign(), Family)


def test_a_family_from_an_older_config_gets_its_defaults(folder: Path) -> None:
    edited(lambda c: c["family"].__delitem__("eps"))(folder)
    found: Checkpoint = load(folder)
    assert isinstance(found.family, Masked) and found.family.eps == Masked().eps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_our_writer_is_read_by_the_library(tmp_path: Path, dtype: torch.dtype) -> None:
    made = {
        "b": torch.randn(3, 4).to(dtype),
        "a": torch.randn(5).to(dtype),
        "none": torch.zeros(0, 2, dtype=dtype),
        "one": torch.tensor(2.0).to(dtype),
    }
    shapes = {k: (v.dtype, tuple(v.shape)) for k, v in made.items()}
    write_safetensors(tmp_path / "x.safetensors", Tensors({k: (lambda v=v: v) for k, v in made.items()}, shapes))
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == made.keys() and all(torch.equal(found[k], made[k]) for k in made)


def test_a_checkpoint_of_the_previous_version(tmp_path: Path) -> None:
    """Its config.json names options of families and special ids as they were called then."""
    publish(tmp_path / "model", replace(SHAPE, time=True), Uniform(t_min=0.2, soft_top_k=5))

    def rename(config: dict) -> None:
        config["family"]["least"] = config["family"].pop("t_min")
        config["family"]["top_k"] = config["family"].pop("soft_top_k")
        config["vocabulary"]["turn"] = config["vocabulary"].pop("end_of_turn")

    edited(rename)(tmp_path / "model")
    family = load(tmp_path / "model").family
    assert isinstance(family, Uniform) and (family.t_min, family.soft_top_k) == (0.2, 5)
