"""Muon steps as torch's own, its states go on to the bit, and it trains what it is for."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from remask.errors import RemaskError
from remask.model.sizes import Architecture, size
from remask.model.transformer import Transformer, initialise
from remask.training import muon
from remask.training.muon import Muon, orthogonalise
from remask.training.optim import Optimizer


def network(**more: int) -> Transformer:
    shape = Architecture(
        layers=2, width=32, heads=2, kv_heads=2, ffn=48, head_width=16, rows=12, predicted=11, time=True, **more
    )
    model = Transformer(shape)
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    return model


def set_gradients(model: nn.Module, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.grad = torch.randn(weight.shape, generator=rng)


@given(st.integers(1, 4), st.integers(1, 40), st.integers(1, 40), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_singular_values_become_alike(count: int, rows: int, columns: int, seed: int) -> None:
    """Those of the quintic's fixed band, and the singular vectors stay."""
    x = torch.randn(count, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, before, v = torch.linalg.svd(x, full_matrices=False)
    after = u.transpose(1, 2) @ orthogonalise(x) @ v.transpose(1, 2)
    values = after.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(after, torch.diag_embed(values), atol=1e-6, rtol=0)
    clear = before > 0.05 * before.norm(dim=1, keepdim=True)
    assert bool(((values > 0.3) & (values < 1.3))[clear].all())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("together", [1, 10**9])
def test_steps_are_those_of_torch(dtype: torch.dtype, together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the rounding of bfloat16, in which torch's own orthogonalises, for matrices of any shape, one or many."""
    monkeypatch.setattr(muon, "MOST", together)
    weights = [nn.Parameter(torch.randn(shape)) for shape in ((8, 8), (8, 8), (24, 8), (8, 24))]
    theirs = [nn.Parameter(weight.detach().clone()) for weight in weights]
    ours = Muon([{"params": weights, "momentum": 0.9, "weight_decay": 0.1}], lr=0.05, betas=(0.9, 0.95), dtype=dtype)
    torchs = torch.optim.Muon(theirs, lr=0.05, momentum=0.9, weight_decay=0.1)
    for step in range(4):
        for one, two in zip(weights, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(step))
            two.grad = one.grad.clone()
        ours.step()
        torchs.step()
    for one, two in zip(weights, theirs, strict=True):
        torch.testing.assert_close(one, two, atol=4 * 0.05 * 0.02, rtol=0)


def test_what_muon_trains() -> None:
    """The matrices of attention and SwiGLU; embedding, head, gains, convolutions and modulations are AdamW's."""
    model = network(convolution=5)
    made = Optimizer().for_size(32, 512).build(model)
    names = {weight: name for name, weight in model.named_parameters()}
    groups = {bool(group["momentum"]): [names[w] for w in group["params"]] for group in made.param_groups}
    assert all(name.endswith("_proj.weight") for name in groups[True]) and len(groups[True]) == 2 * 7
    assert sum(len(group["params"]) for group in made.param_groups) == len(names)
    assert {group["lr"] for group in made.param_groups if group["momentum"]} == {0.02}


@pytest.mark.parametrize(("given", "rate"), [(0.02, 3e-4), (2e-4, 2e-4)])
def test_what_conditions_on_the_noise_level_learns_slowly(given: float, rate: float) -> None:
    model = network()
    made = Optimizer(lr=given).for_size(32, 512).build(model)
    rates = {weight: group["lr"] for group in made.param_groups for weight in group["params"]}
    found = {name: rates[weight] for name, weight in model.named_parameters()}
    level = {name: lr for name, lr in found.items() if "modulation" in name or "time_embed" in name}
    assert len(level) == 2 * 2 + 4 and set(level.values()) == {rate}
    assert found["model.embed_tokens.weight"] == found["model.norm.weight"] == given


def test_other_groups_step_as_adamw_alone() -> None:
    model, plain = network(), network()
    made = Optimizer(lr=2e-4, weight_decay=0.1).build(model)
    adamw = Optimizer(kind="adamw", lr=2e-4, weight_decay=0.1).build(plain)
    for step in range(3):
        set_gradients(model, step)
        set_gradients(plain, step)
        made.step()
        adamw.step()
    moved = [name for name, weight in model.named_parameters() if not torch.equal(weight, plain.get_parameter(name))]
    assert moved and all(name.endswith("_proj.weight") for name in moved)


def test_a_saved_state_goes_on_to_the_bit() -> None:
    model = network()
    made = Optimizer().for_size(32, 512).build(model)
    for step in range(3):
        set_gradients(model, step)
        made.step()
    other = copy.deepcopy(model)
    again = Optimizer().for_size(32, 512).build(other)
    again.load_state_dict(copy.deepcopy(made.state_dict()))
    for step in range(3, 6):
        for one, optimizer in ((model, made), (other, again)):
            set_gradients(one, step)
            optimizer.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_closure_zeroes_all_gradients() -> None:
    """As Lightning's does, which also runs the backward pass."""
    model, plain = network(), network()
    made, again = (Optimizer().for_size(32, 512).build(one) for one in (model, plain))
    for step in range(3):

        def closure(step: int = step) -> None:
            made.zero_grad()
            for name, weight in model.named_parameters():
                assert weight.grad is None, name
            set_gradients(model, step)

        made.step(closure)
        set_gradients(plain, step)
        again.step()
    for one, two in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_weight_without_gradient_stays() -> None:
    model = network()
    made = Optimizer().for_size(32, 512).build(model)
    before = copy.deepcopy(model.state_dict())
    made.step()
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


def test_what_is_no_matrix() -> None:
    group = {"params": [nn.Parameter(torch.zeros(2, 3, 4))], "momentum": 0.9, "weight_decay": 0.0}
    with pytest.raises(RemaskError, match="Muon is for matrices, and a weight has 3 dimensions; use adamw"):
        Muon([group], lr=0.1, betas=(0.9, 0.95), dtype=torch.float32)
    with pytest.raises(RemaskError, match="the network has no matrices inside blocks; use adamw"):
        Optimizer(lr=0.1).build(nn.Linear(3, 3))


def test_rates_follow_the_size() -> None:
    assert Optimizer().for_size(128, 4096).lr == 2e-2 and Optimizer().for_size(512, 4096).lr == pytest.approx(1e-2)
    assert Optimizer().for_size(128, 10**6).lr == 2e-2, "never more"
    assert Optimizer(lr=0.5).for_size(128, 4096).lr == 0.5
    published = Optimizer(kind="adamw").for_size(size("10M").width, 8192)
    assert (published.lr, published.weight_decay) == (1e-3, 0.1)
    with pytest.raises(RemaskError, match="follows the size"):
        Optimizer().rate(1, 10)
