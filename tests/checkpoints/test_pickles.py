"""PyTorch files with and without code in them, of which none is run."""

import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from layouts import SHAPES, publish, same, state, weights
from safetensors.torch import save_file

from remask.checkpoints.checkpoint import load
from remask.checkpoints.contents import contents
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.checkpoints.pickles import plain
from remask.checkpoints.source import open_source
from remask.errors import RemaskError


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder in SMDM's form."""
    return publish(tmp_path / "theirs", "smdm")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "wrap", [lambda w: w, lambda w: {"model": w, "optimizer": {"lr": 1.0}, "iter_num": 3}], ids=["plain", "fabric"]
)
def test_pytorch_files(theirs: Path, tmp_path: Path, wrap: Callable, zipped: bool) -> None:
    path = tmp_path / "model.pth"
    torch.save(wrap(state(theirs)), path, _use_new_zipfile_serialization=zipped)
    assert same(path, theirs, overrides=Overrides(heads=4))
    compiled = {f"_orig_mod.{k}": v for k, v in state(theirs).items()}
    torch.save(wrap(compiled), path, _use_new_zipfile_serialization=zipped)
    assert same(path, theirs, overrides=Overrides(heads=4))


WRAPPERS = [
    ["module", "_orig_mod"],
    ["_orig_mod", "module"],
    ["module", "module"],
    ["state_dict", "denoiser", "_orig_mod"],
    ["_forward_module", "_orig_mod", "model"],
    ["_fsdp_wrapped_module", "backbone"],
    ["model", "model", "net"],
]


@pytest.mark.parametrize("wrappers", WRAPPERS, ids=".".join)
@pytest.mark.parametrize("name", ["smdm", "llada", "dit", "llama"])
def test_prefixes_of_wrappers_in_any_order_and_number(name: str, wrappers: list[str], tmp_path: Path) -> None:
    """Also inside a name, where each block was compiled, sharded or checkpointed by itself."""
    folder = publish(tmp_path / "theirs", name)
    prefix = ".".join(wrappers) + "."
    wrapped = {prefix + k.replace(".0.", ".0._checkpoint_wrapped_module."): v for k, v in state(folder).items()}
    torch.save(wrapped, folder / "wrapped.pt")
    assert same(folder / "wrapped.pt", folder)


class Node:
    """What OmegaConf leaves in a checkpoint: a node with a value or a content."""

    def __init__(self, **state: Any) -> None:
        self.__dict__ = state


@pytest.fixture
def omegaconf() -> Iterator[Callable[[Any], Any]]:
    """Pickles values as OmegaConf would: objects of a module that is not there when the file is read."""
    module = types.ModuleType("omegaconf.nodes")
    parent = types.ModuleType("omegaconf")
    kind = type("AnyNode", (Node,), {"__module__": "omegaconf.nodes"})
    module.AnyNode = kind  # type: ignore[attr-defined]
    sys.modules |= {"omegaconf": parent, "omegaconf.nodes": module}

    def node(value: Any) -> Any:
        if isinstance(value, dict):
            return kind(_content={k: node(v) for k, v in value.items()}, _metadata=None)
        return kind(_val=value, _metadata=None)

    yield node
    for name in ("omegaconf", "omegaconf.nodes"):
        sys.modules.pop(name, None)


def lightning(tmp_path: Path, node: Callable[[Any], Any], ema: bool = True) -> tuple[Path, Path, Path]:
    """A Lightning checkpoint like MDLM's, and the raw and averaged weights in it as folders."""
    raw, averaged = publish(tmp_path / "raw", "dit"), publish(tmp_path / "averaged", "dit", weights(SHAPES["dit"], 1))
    order = registration_order()
    weights_ = {name: state(raw)[name] for name in order}
    weights_["backbone.rotary_emb.inv_freq"] = torch.ones(4)
    weights_["teacher.vocab_embed.embedding"] = torch.ones(3)
    config = {"algo": {"name": "mdlm", "time_conditioning": False}, "model": {"n_heads": 4, "length": 64}}
    checkpoint = {"state_dict": weights_, "hyper_parameters": {"config": node(config), "tokenizer": node("gpt2")}}
    if ema:
        checkpoint["ema"] = {"decay": 0.9999, "num_updates": 9, "shadow_params": [state(averaged)[n] for n in order]}
    torch.save(checkpoint, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt", raw, averaged


def registration_order() -> list[str]:
    """The order of the published network's parameters (`param_order` of its recorded settings)."""
    block = ["norm1.weight", "attn_qkv.weight", "attn_out.weight", "norm2.weight", "mlp.0.weight", "mlp.0.bias",
             "mlp.2.weight", "mlp.2.bias", "adaLN_modulation.weight", "adaLN_modulation.bias"]  # fmt: skip
    names = ["vocab_embed.embedding", *(f"sigma_map.mlp.{i}.{x}" for i in (0, 2) for x in ("weight", "bias"))]
    names += [f"blocks.{i}.{name}" for i in range(2) for name in block]
    names += ["output_layer.norm_final.weight", "output_layer.linear.weight", "output_layer.linear.bias",
              "output_layer.adaLN_modulation.weight", "output_layer.adaLN_modulation.bias"]  # fmt: skip
    return [f"backbone.{name}" for name in names]


def test_a_lightning_checkpoint_gives_its_moving_average(tmp_path: Path, omegaconf: Any) -> None:
    """And its configuration, though the module that wrote it is not there."""
    path, raw, averaged = lightning(tmp_path, omegaconf)
    del sys.modules["omegaconf"], sys.modules["omegaconf.nodes"]
    source = open_source(path)
    assert source.averaged and source.config["model"] == {"n_heads": 4, "length": 64}
    assert same(path, averaged) and not same(path, raw)
    assert contents(path)["weights"] == "the moving average (EMA)"


def test_a_lightning_checkpoint_without_one(tmp_path: Path, omegaconf: Any) -> None:
    path, raw, _ = lightning(tmp_path, omegaconf, ema=False)
    assert same(path, raw) and not open_source(path).averaged


def test_a_moving_average_that_does_not_match(tmp_path: Path, omegaconf: Any) -> None:
    path, _, _ = lightning(tmp_path, omegaconf)
    checkpoint = torch.load(path, weights_only=False)
    for wrong in (checkpoint["ema"]["shadow_params"][:-1], [1, 2]):
        checkpoint["ema"]["shadow_params"] = wrong
        torch.save(checkpoint, path)
        with pytest.raises(RemaskError, match=r"its moving average of \d+ tensors does not match its 30 weights"):
            load(path)


class Runs:
    """A pickle that runs a command when it is opened."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["beside", "inside"])
def test_a_pickle_with_code_is_refused_and_not_run(theirs: Path, tmp_path: Path, where: str, zipped: bool) -> None:
    mark = tmp_path / "was run"
    bomb = Runs(f"touch '{mark}'")
    content = (
        {**state(theirs), "bomb": bomb} if where == "inside" else {"model": state(theirs), "hyper_parameters": bomb}
    )
    torch.save(content, tmp_path / "bad.ckpt", _use_new_zipfile_serialization=zipped)
    for use in (load, contents, lambda path: convert(path, tmp_path / "out")):
        with pytest.raises(RemaskError, match=r"bad\.ckpt asks to run (posix|os)\.system.*not opened.*safetensors"):
            use(tmp_path / "bad.ckpt")
    assert not mark.exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_whole_module_is_named_by_its_class(tmp_path: Path, zipped: bool) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "bad.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(RemaskError, match=r"bad\.pt asks to run torch\.nn\.modules\.linear\.Linear when"):
        load(tmp_path / "bad.pt")


def test_code_hidden_behind_a_name_that_is_let_pass(theirs: Path, tmp_path: Path) -> None:
    """Objects of known modules become inert data: the function that is named is never called."""

    class Sneaky:
        def __reduce__(self) -> Any:
            return subprocess.getoutput, (f"touch '{tmp_path / 'was run'}'",)

    class As(pickle._Pickler):  # type: ignore[misc, name-defined]
        """Writes the function under the name of a module that is let pass."""

        def save_global(self, obj: Any, name: str | None = None) -> None:
            if obj is subprocess.getoutput:
                self.write(b"cnumpy\ngetoutput\n")
                self.memoize(obj)
            else:
                super().save_global(obj, name)

        dispatch: ClassVar[Any] = {**pickle._Pickler.dispatch, types.FunctionType: save_global}  # type: ignore[attr-defined]

    module = types.SimpleNamespace(Pickler=As, dump=pickle.dump, __name__="pickle")
    torch.save({"model": state(theirs), "extra": Sneaky()}, tmp_path / "model.pth", pickle_module=module)
    assert same(tmp_path / "model.pth", theirs, overrides=Overrides(heads=4))
    assert not (tmp_path / "was run").exists()


def test_compressed_files_are_read_and_not_mapped(theirs: Path, tmp_path: Path) -> None:
    torch.save(state(theirs), tmp_path / "model.pth")
    with zipfile.ZipFile(tmp_path / "model.pth") as old, zipfile.ZipFile(tmp_path / "packed.pth", "w") as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part.filename), zipfile.ZIP_DEFLATED)
    try:
        assert same(tmp_path / "packed.pth", theirs, overrides=Overrides(heads=4))
    except RemaskError as error:  # where torch cannot read it, it says so
        assert "packed.pth is damaged" in str(error)


@pytest.mark.parametrize(
    ("tensor", "says"),
    [
        (torch.ones(40, 32, dtype=torch.bool), "is of torch.bool"),
        (torch.ones(40, 32, dtype=torch.complex64), "is of torch.complex64"),
        (torch.ones(40, 32).to_sparse(), "is of torch.sparse_coo"),
        (torch.ones(40, 32).to(torch.float8_e4m3fn), "is of torch.float8_e4m3fn"),
        (torch.ones(40, 32, device="meta"), "on meta"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_tensors_that_are_no_weights(theirs: Path, tmp_path: Path, tensor: torch.Tensor, says: str) -> None:
    torch.save({**state(theirs), "lm_head.weight": tensor}, tmp_path / "model.pth")
    for use in (load, contents, lambda path: convert(path, tmp_path / "out")):
        with pytest.raises(RemaskError, match=rf"lm_head\.weight {says}|lm_head\.weight is of .*{says}"):
            use(tmp_path / "model.pth")


def test_two_tensors_of_one_name(theirs: Path, tmp_path: Path) -> None:
    all_ = state(theirs)
    torch.save({**all_, "module.lm_head.weight": all_["lm_head.weight"] + 1}, tmp_path / "model.pth")
    with pytest.raises(RemaskError, match=r"two tensors lm_head\.weight, which differ only in the name of a wrapper"):
        load(tmp_path / "model.pth", overrides=Overrides(heads=4))


def test_configurations_without_an_end() -> None:
    """Cyclic, deep and shared data take no time and no stack."""
    cyclic: dict = {}
    cyclic["a"] = cyclic
    deep: list = []
    for _ in range(5000):
        deep = [deep]
    shared: list = [1]
    for _ in range(40):
        shared = [shared, shared]
    assert plain({"x": 1, "b": cyclic})["x"] == 1
    assert plain([deep, shared]) is not None


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"hello", "holds text and no weights; it begins 'hello'"),
        (pickle.dumps([1, 2]), "holds a list|damaged"),
        (pickle.dumps({}), "no weights|damaged"),
    ],
    ids=["empty", "text", "list", "nothing"],
)
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x.pth").write_bytes(content)
    with pytest.raises(RemaskError, match=says):
        load(tmp_path / "x.pth")


def test_archives_that_are_no_checkpoints(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("a/data.txt", "hello")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    torch.save({"a": 1}, tmp_path / "numbers.pth")
    for name, says in (("x", "damaged"), ("list", "holds a list"), ("numbers", "no weights by name; its keys are 'a'")):
        with pytest.raises(RemaskError, match=says):
            load(tmp_path / f"{name}.pth")


def test_integers_are_no_weights(theirs: Path) -> None:
    save_file({**state(theirs), "lm_head.weight": torch.ones(40, 32, dtype=torch.int64)}, theirs / "model.safetensors")
    with pytest.raises(RemaskError, match=r"tensor lm_head\.weight is of I64"):
        load(theirs)
    torch.save({"lm_head.weight": torch.ones(4, 3, dtype=torch.int64)}, theirs / "x.pth")
    with pytest.raises(RemaskError, match=r"tensor lm_head\.weight is of torch\.int64"):
        convert(theirs / "x.pth", theirs / "out")


def test_plain_data_of_configurations(omegaconf: Any) -> None:
    assert plain({"a": (1, "x", None, 2.5), "b": object()}) == {"a": [1, "x", None, 2.5], "b": None}
