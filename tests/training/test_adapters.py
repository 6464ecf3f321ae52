"""Low-rank adapters: merged and apart they are the same model, and nothing but them is trained."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_same_run
from safetensors.torch import load_file, save_file
from tables import tiny

import remask
from remask.checkpoints.adapters import fingerprint, open_adapter
from remask.checkpoints.checkpoint import open_checkpoint
from remask.checkpoints.contents import contents
from remask.checkpoints.convert import convert
from remask.checkpoints.folder import save
from remask.conversation import trained_template
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.masked import Masked
from remask.model.attention import CAUSAL
from remask.model.sizes import SizeOverrides
from remask.training.adapters import LowRank, merged, write_adapters
from remask.training.states import list_states

Fit = Callable[..., Path]
LORA = LowRank(rank=2, alpha=6.0, targets=("q_proj", "down_proj"))
LAYER = "model.layers.0.self_attn.q_proj"


def adapted(base: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a network with adapters, named as peft names them."""
    found, draw = {}, torch.Generator().manual_seed(1)
    for name, weight in base.items():
        part = name.removesuffix(".weight")
        if part.endswith(LORA.targets):
            found[f"{part}.base_layer.weight"] = weight
            found[f"{part}.lora_A.default.weight"] = torch.randn(2, weight.shape[1], generator=draw)
            found[f"{part}.lora_B.default.weight"] = torch.randn(weight.shape[0], 2, generator=draw)
        else:
            found[name] = weight
    return found


def test_merging_adds_the_product() -> None:
    base = dict(tiny(12, 11).state_dict())
    weights = adapted(base)
    found = merged(weights, LORA)
    assert found.keys() == base.keys()
    product = weights[f"{LAYER}.lora_B.default.weight"] @ weights[f"{LAYER}.lora_A.default.weight"]
    torch.testing.assert_close(found[f"{LAYER}.weight"], base[f"{LAYER}.weight"] + 3 * product)
    assert torch.equal(found["lm_head.weight"], base["lm_head.weight"])


def test_apart_from_their_base_they_are_the_same_model(masked_run: Path, tmp_path: Path) -> None:
    base = open_checkpoint(masked_run)
    weights = adapted(dict(base.tensors))
    write_adapters(tmp_path / "adapter", weights, LORA, str(masked_run))
    m, ids = remask.load(tmp_path / "adapter", device="cpu"), torch.arange(16)[None]
    whole = merged(weights, LORA)
    for name, weight in m.model.state_dict().items():
        torch.testing.assert_close(weight, whole[name])
    assert not torch.allclose(m.logits(ids), remask.load(masked_run, device="cpu").logits(ids), atol=1e-2)
    assert m.about["adapter"] == str(tmp_path / "adapter") and type(m.family) is Masked
    shown = contents(tmp_path / "adapter")  # remask info
    assert shown["form"] == f"low-rank adapters (peft) of {masked_run}" and shown["parameters"] == 37_632
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert f"base_model.model.{LAYER}.lora_A.weight" in names and len(names) == 2 * 2 * 2


def test_the_fingerprint_knows_the_weights(masked_run: Path) -> None:
    weights = dict(open_checkpoint(masked_run).tensors)
    assert fingerprint(weights) == fingerprint({name: weight.clone() for name, weight in weights.items()})
    changed = {**weights, "model.norm.weight": weights["model.norm.weight"] + 1e-3}
    assert fingerprint(changed) != fingerprint(weights)


def test_an_adapter_of_another_base_is_named(masked_run: Path, plain_runs: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    write_adapters(folder, adapted(dict(open_checkpoint(masked_run).tensors)), LORA, str(masked_run))
    config = json.loads((folder / "adapter_config.json").read_text())

    def says(pattern: str, other: bool = False, **changes: object) -> None:
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        with pytest.raises(RemaskError, match=pattern) as error:
            remask.load(folder)
        assert other or f"in {folder / 'adapter_config.json'} (base_model_name_or_path)" in str(error.value)

    says(r"adapter of another base than .*masked holds now", base_model_name_or_path=str(plain_runs["masked"]))
    says(r"adapter of .*such: ", base_model_name_or_path=str(tmp_path / "none/such"))
    says(r"has use_dora, which remask does not read; merge it", other=True, use_dora=True)
    tensors = load_file(folder / "adapter_model.safetensors")
    low = f"base_model.model.{LAYER}.lora_A.weight"
    save_file(tensors | {low: torch.zeros(2, 5)}, folder / "adapter_model.safetensors")
    says(r"another base than .*q_proj.weight is \(\d+, \d+\) there, and it is for \(\d+, 5\)")
    save_file({low.replace("layers.0", "layers.9"): tensors[low]}, folder / "adapter_model.safetensors")
    says(r"layers.9.self_attn.q_proj.weight is not there")
    with pytest.raises(RemaskError, match="holds no low-rank adapter"):
        save_file({"other": torch.zeros(1)}, folder / "adapter_model.safetensors")
        open_adapter(folder, open_checkpoint)


def test_what_adapters_do_not_go_with(fit: Fit, masked_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match="tiny is a named size: adapters need a checkpoint"):
        fit(tmp_path / "run", lora=LORA)
    other = {"model": str(masked_run), "architecture": SizeOverrides(), "lora": LORA}
    with pytest.raises(RemaskError, match="is Masked, to go on as Autoregressive: adapters keep the family"):
        fit(tmp_path / "run", family=Autoregressive(), **other)
    with pytest.raises(RemaskError, match="adapters are not sharded"):
        fit(tmp_path / "run", strategy="fsdp", lora=LORA)
    for options, says in (({"rank": -1}, "lora.rank is -1"), ({"rank": 1, "alpha": 0.0}, "lora.alpha is 0.0")):
        with pytest.raises(RemaskError, match=says):
            LowRank(**options)


def test_a_run_trains_adapters_alone_and_resumes(fit: Fit, masked_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    options = {"model": str(masked_run), "architecture": SizeOverrides(), "lora": LORA, "save_every": 3}
    with pytest.raises(RemaskError, match=r"lora.targets has 'query'; this network has .*q_proj"):
        fit(tmp_path / "bad", **options | {"lora": LowRank(rank=1, targets=("query",))})
    fit(tmp_path / "whole", steps=6, **options)
    before, after = open_checkpoint(masked_run).tensors, open_checkpoint(tmp_path / "whole").tensors
    changed = {name.split(".")[-2] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"q_proj", "down_proj"}
    apart = remask.load(tmp_path / "whole" / "adapter").model.state_dict()
    for name in after:
        torch.testing.assert_close(apart[name], after[name])
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    list_states(tmp_path / "again")[0].unlink()  # that of step 3 is left
    fit(tmp_path / "again", steps=6, **options)
    assert_same_run(tmp_path / "whole", tmp_path / "again")


def test_adapters_keep_the_template_of_their_conversations(masked_run: Path, tmp_path: Path) -> None:
    """Also where their base was fine-tuned under another one."""
    learnt = {"conversations": {"templates": {"vicuna": 3}}}
    write_adapters(tmp_path / "one", adapted(dict(open_checkpoint(masked_run).tensors)), LORA, str(masked_run), learnt)
    assert trained_template(remask.load(tmp_path / "one")) == "vicuna"
    base = save_again(masked_run, tmp_path / "base", learnt)
    for name, own, expected in (("plain", {}, "vicuna"), ("other", {"templates": {"none": 1}}, "none")):
        about = {"conversations": own} if own else {}
        write_adapters(tmp_path / name, adapted(dict(open_checkpoint(base).tensors)), LORA, str(base), about)
        assert trained_template(remask.load(tmp_path / name)) == expected


def save_again(run: Path, folder: Path, about: dict[str, Any]) -> Path:
    """A published folder of a model, with something else noted about it."""
    m = remask.load(run)
    save(folder, m.model.state_dict(), m.model.architecture, m.family, m.tokenizer, about, "# card\n")
    return folder


def test_peft_itself_reads_them(plain_runs: dict[str, Path], tmp_path: Path) -> None:
    """Beside the same base, opened by transformers, it computes what we do with the folder of adapters."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base, folder = tmp_path / "llama", tmp_path / "adapter"
    convert(str(plain_runs["left"]), base, to="llama")
    write_adapters(folder, adapted(dict(open_checkpoint(base).tensors)), LORA, str(base))
    plain = transformers.LlamaForCausalLM.from_pretrained(base)
    ids = torch.arange(40, 60)[None]
    with torch.no_grad():
        before = plain(ids).logits[:, :-1]
        theirs = peft.PeftModel.from_pretrained(plain, folder).eval()(ids).logits[:, :-1]
    m = remask.load(folder, device="cpu")
    with torch.no_grad():
        ours = m.model(ids, attention=CAUSAL)[:, :-1]
    torch.testing.assert_close(ours, theirs[..., : ours.shape[-1]], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(before, theirs, atol=1e-2)
