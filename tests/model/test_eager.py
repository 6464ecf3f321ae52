"""The operations of `model.eager` against their plain formulas, whose gradients autograd finds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, pad, rms_norm, silu

from remask.model import eager
from remask.model.attention import CAUSAL, FULL, Attention, Padded
from remask.model.eager import (
    DenseAttention,
    GatedProduct,
    NegativeLogLikelihood,
    Normalisation,
    Rotation,
    ShortConvolution,
)
from remask.model.sizes import size
from remask.model.transformer import Transformer, initialise

B, H, Q, d, R = 3, 2, 7, 4, 2


def draw(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()


def same(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, within: float = 1e-9) -> None:
    """The same values, and the same gradients of each input for a random gradient of the result."""
    found = []
    for function in (fast, plain):
        y = function(*inputs)
        found.append((y, *torch.autograd.grad(y, inputs, draw(*y.shape, dtype=y.dtype, seed=7).detach())))
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=within, atol=within)


@pytest.fixture(params=[1, 50, 2**17], ids="block of {}".format, autouse=True)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time, several blocks of which the last is smaller, and all rows in one."""
    monkeypatch.setattr(eager, "IN_CACHE", request.param)


@pytest.mark.parametrize("positions", [(Q,), (B, 1, Q), (1, 1, Q)])
def test_rotation(positions: tuple[int, ...]) -> None:
    angle = draw(*positions, d // 2).detach()
    cos, sin = angle.cos(), angle.sin()

    def plain(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def fast(x: Tensor) -> Tensor:
        return Rotation.apply(x, cos, sin)

    same(fast, plain, draw(B, H, Q, d))
    same(lambda x: fast(x.transpose(1, 2)), lambda x: plain(x.transpose(1, 2)), draw(B, Q, H, d))


@pytest.mark.parametrize("shape", [(B, Q, d), (Q, d), (B, H, Q, d)])
def test_normalisation(shape: tuple[int, ...]) -> None:
    same(
        lambda x, gain: Normalisation.apply(x, gain, 1e-3),
        lambda x, gain: rms_norm(x, (d,), gain, 1e-3),
        draw(*shape),
        draw(d),
    )


@pytest.mark.parametrize("causal", [False, True], ids=["both sides", "causal"])
@settings(max_examples=10)
@given(length=st.integers(1, 9), reach=st.integers(1, 4))
def test_convolution(causal: bool, length: int, reach: int) -> None:
    """Also of rows that are shorter than the convolution reaches."""

    def plain(x: Tensor, weight: Tensor) -> Tensor:
        y, padded = x, pad(x, (0, 0, reach, reach))
        for number, offset in enumerate([*range(-reach, 0), *range(1, reach + 1)]):
            if offset < 0 or not causal:
                y = y + weight[number] * padded[:, reach + offset : reach + offset + length]
        return y

    same(lambda x, w: ShortConvolution.apply(x, w, causal), plain, draw(B, length, d), draw(2 * reach, d))


@pytest.mark.parametrize("mask", ["none", "of all rows", "of each row"])
def test_attention(mask: str) -> None:
    see = {
        "none": None,
        "of all rows": torch.ones(1, 1, Q, Q, dtype=torch.bool).tril(),
        "of each row": (draw(B, 1, Q, Q) > 0) | torch.eye(Q, dtype=torch.bool),
    }[mask]

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = q @ k.transpose(-1, -2) * d**-0.5
        return (scores if see is None else scores.masked_fill(~see, -torch.inf)).softmax(-1) @ v

    inputs = [draw(B, H, Q, d, seed=seed) for seed in (0, 1, 2)]
    same(lambda *x: DenseAttention.apply(*x, see), plain, *inputs)


@pytest.mark.parametrize("kind", ["norm", "convolution"])
def test_sums_of_bfloat16_are_those_of_float32(kind: str) -> None:
    """The gradients of many positions add up in the gain of a norm, and in the weights of a convolution."""
    found = []
    for dtype in (torch.bfloat16, torch.float64):
        x, given = (draw(2, 300, d, seed=seed).bfloat16().to(dtype) for seed in (0, 7))
        part = draw(*((d,) if kind == "norm" else (2 * R, d))).bfloat16().to(dtype)
        y = Normalisation.apply(x, part, 1e-3) if kind == "norm" else ShortConvolution.apply(x, part, False)
        found += torch.autograd.grad(y, part, given)
    assert found[0].dtype == torch.bfloat16 and (found[0] - found[1]).norm() < 2**-8 * found[1].norm()


def test_gated_product() -> None:
    same(GatedProduct.apply, lambda gate, up: silu(gate) * up, draw(B, Q, d), draw(B, Q, d, seed=1))


def test_negative_log_likelihood() -> None:
    target = torch.randint(0, 11, (Q,), generator=torch.Generator().manual_seed(0))

    def plain(hidden: Tensor, weight: Tensor) -> Tensor:
        return cross_entropy(linear(hidden, weight), target, reduction="none").float()

    fast = lambda hidden, weight: NegativeLogLikelihood.apply(hidden, weight, target)  # noqa: E731
    same(fast, plain, draw(Q, d), draw(11, d), within=1e-5)  # the nats are float32
    same(fast, plain, draw(Q, d, dtype=torch.bfloat16), draw(11, d, dtype=torch.bfloat16), within=0.03)


def test_gradient_at_a_target_that_is_nearly_certain_is_not_rounded_away() -> None:
    """1 - p = 5e-4 is less than bfloat16 can tell from 0 near 1."""
    hidden = torch.tensor([[1.0]], dtype=torch.bfloat16).requires_grad_()
    weight = torch.tensor([[7.625], [0.0]], dtype=torch.bfloat16).requires_grad_()
    NegativeLogLikelihood.apply(hidden, weight, torch.tensor([0])).sum().backward()
    assert weight.grad is not None
    assert weight.grad[0, 0].item() == pytest.approx(-torch.tensor(-7.625).sigmoid().item(), rel=0.01)


def test_frozen_weights_get_no_gradient() -> None:
    """As with adapters, where the convolutions and the head are not trained."""
    x, hidden = draw(B, Q, d), draw(Q, d)
    ShortConvolution.apply(x, draw(2 * R, d).detach(), False).sum().backward()
    NegativeLogLikelihood.apply(hidden, draw(5, d).detach(), torch.zeros(Q, dtype=torch.long)).sum().backward()
    assert x.grad is not None and hidden.grad is not None


SHAPES = {
    "a plain network": {},
    "grouped queries, normalised": {"kv_heads": 2, "qk_norm": True},
    "with a noise level": {"time": True},
}
VALID = torch.arange(9) < torch.tensor([9, 5, 7, 2])[:, None]
RULES: dict[str, Attention] = {
    "full": FULL,
    "causal": CAUSAL,
    "rows of unlike lengths": Padded(VALID),
}


def gradients(shape: dict[str, Any], rule: Attention, autocast: str = "off") -> tuple[Tensor, Tensor]:
    """The nats of asked tokens, and all gradients of a small network one after another. Under autocast, "inside" and
    "outside" say where the backward pass is."""
    network = Transformer(replace(size("tiny"), layers=2, rows=50, predicted=49, convolution=5, **shape))
    initialise(network, "smdm", torch.Generator().manual_seed(0))
    rng = torch.Generator().manual_seed(1)
    tokens, time = torch.randint(0, 49, (4, 9), generator=rng), torch.rand(4, generator=rng)
    ask = (tokens > 9) & VALID
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast != "off"):
        nats = network(tokens, ask=ask, target=tokens[ask], time=time if shape.get("time") else None, attention=rule)
        if autocast == "inside":
            nats.mean().backward()
    if autocast != "inside":
        nats.mean().backward()
    return nats.detach(), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_network_learns_as_by_the_plain_formulas(
    shape: dict[str, Any], rule: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eager, "LEAST", 10**12)
    plain = gradients(shape, rule)
    monkeypatch.setattr(eager, "LEAST", 1)
    for found, wanted in zip(gradients(shape, rule), plain, strict=True):
        assert (found - wanted).norm() < 1e-5 * wanted.norm()


@pytest.mark.parametrize("backward", ["inside", "outside"])
def test_under_autocast_only_rounding_differs(backward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By blocks no more is rounded away than by the plain formulas, but for a half."""
    monkeypatch.setattr(eager, "LEAST", 1)
    exact = gradients({}, FULL)
    by_blocks = gradients({}, FULL, backward)
    monkeypatch.setattr(eager, "LEAST", 10**12)
    plain = gradients({}, FULL, backward)
    for found, usual, wanted in zip(by_blocks, plain, exact, strict=True):
        assert 0 < (found - wanted).norm() < 1.5 * (usual - wanted).norm() < 0.05 * wanted.norm()
