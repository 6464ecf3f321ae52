"""The operations of `model.eager` against their plain formulas, whose gradients autograd finds."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, pad, rms_norm, silu

from remask.model import eager
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


def same(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor, **within: float) -> None:
    """The same values, and the same gradients of each input for a random gradient of the result."""
    found = []
    for function in (fast, plain):
        y = function(*inputs)
        found.append((y, *torch.autograd.grad(y, inputs, draw(*y.shape, dtype=y.dtype, seed=7).detach())))
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, **(within or {"rtol": 1e-9, "atol": 1e-9}))


@pytest.fixture(params=[1, 50, 2**17], ids="block of {}".format, autouse=True)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row at a time, several blocks of which the last is smaller, and all rows in one."""
    monkeypatch.setattr(eager, "IN_CACHE", request.param)


@pytest.mark.parametrize("positions", [(Q,), (B, 1, Q)], ids=["one table", "a table for each row"])
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


def test_gated_product() -> None:
    same(GatedProduct.apply, lambda gate, up: silu(gate) * up, draw(B, Q, d), draw(B, Q, d, seed=1))


def test_negative_log_likelihood() -> None:
    target = torch.randint(0, 11, (Q,), generator=torch.Generator().manual_seed(0))

    def plain(hidden: Tensor, weight: Tensor) -> Tensor:
        return cross_entropy(linear(hidden, weight), target, reduction="none").float()

    within = {"rtol": 1e-5, "atol": 1e-6}  # the nats are float32
    fast = lambda hidden, weight: NegativeLogLikelihood.apply(hidden, weight, target)  # noqa: E731
    same(fast, plain, draw(Q, d), draw(11, d), **within)
    same(fast, plain, draw(Q, d, dtype=torch.bfloat16), draw(11, d, dtype=torch.bfloat16), rtol=0.03, atol=0.03)


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


def test_gradients_under_autocast_are_those_of_float32_but_for_rounding() -> None:
    network = Transformer(replace(size("tiny"), layers=2, rows=50, predicted=49, convolution=5))
    initialise(network, "smdm", torch.Generator().manual_seed(0))
    tokens = torch.randint(0, 49, (16, 64), generator=torch.Generator().manual_seed(0))
    ask = tokens % 3 == 0
    found = []
    for enabled in (False, True):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            network(tokens, ask=ask, target=tokens[ask]).mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]))
    exact, rounded = found
    assert 0 < (rounded - exact).norm() < 0.03 * exact.norm()
