"""Convolutions combine exactly the neighbours that the attention rule shows, in every form of a call."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.model.attention import CAUSAL, FULL, Attention, Front, Padded, Ranked, Segments, TwoStreams
from remask.model.convolution import Convolution, find_neighbours, offsets
from remask.model.sizes import size
from tests.model.test_attention import RULES, B, L, Truth
from tests.model.test_transformer import ids, made, small

WIDTH = 5
DRAW = torch.Generator().manual_seed(5)
ORDER = torch.stack([torch.randperm(12, generator=DRAW) for _ in range(2)])
"""(2, 12) places on the text in the order in which the network reads them."""
RANK = torch.randint(4, (2, 12), generator=DRAW)
"""(2, 12) groups of positions, of which later ones see earlier ones, as in block diffusion."""

READINGS: dict[str, tuple[Attention, Tensor | None]] = {
    "causal": (CAUSAL, None),
    "segments": (Segments(torch.tensor([[0] * 5 + [1] * 7, [0] * 2 + [1] * 3 + [2] * 7])), None),
    "causal segments": (CAUSAL & Segments(torch.tensor([[0] * 5 + [1] * 7] * 2)), None),
    "padded": (Padded(torch.arange(12) < torch.tensor([[12], [7]])), None),
    "prefix": (Front(torch.tensor([4, 7])), None),
    "blocks": (Ranked(torch.arange(12).div(3, rounding_mode="floor").expand(2, -1)), None),
    "any order": (Ranked(RANK), None),
    "causal in a drawn order": (CAUSAL, ORDER),
    "prefix in a drawn order": (Front(torch.tensor([4, 7])), ORDER),
    "segments in a drawn order": (CAUSAL & Segments(torch.tensor([[0] * 5 + [1] * 7] * 2)).at(ORDER), ORDER),
    "clean and noisy blocks": (TwoStreams(6, 2), torch.arange(6).repeat(2, 2)),
    "clean and noisy tokens in a drawn order": (
        TwoStreams(6),
        ORDER.argsort(1).argsort(1)[:, :6].argsort(1).repeat(1, 2),
    ),
}
each_reading = pytest.mark.parametrize(("rule", "places"), READINGS.values(), ids=READINGS)


@each_reading
def test_a_token_that_may_not_be_seen_moves_nothing(rule: Attention, places: Tensor | None) -> None:
    """And one that may be seen moves the logits, through attention and neighbours together."""
    model, tokens = made(convolution=WIDTH), ids(2, 12)
    before = model(tokens, attention=rule, positions=places)
    seen = rule.mask(2, torch.arange(12))
    assert seen is not None
    for j in range(12):
        other = tokens.clone()
        other[:, j] = (other[:, j] + 1) % 11
        moved = (model(other, attention=rule, positions=places) - before).abs().amax(-1) > 0
        assert torch.equal(moved, seen.expand(2, -1, -1, -1)[:, 0, :, j]), j


@each_reading
def test_neighbours_by_hand(rule: Attention, places: Tensor | None) -> None:
    conv = Convolution(WIDTH, 3, 0).requires_grad_(False)
    conv.weight.normal_(generator=torch.Generator().manual_seed(1))
    x, along = torch.randn(2, 12, 3, generator=torch.Generator().manual_seed(2)), torch.arange(12)
    where = along.expand(2, -1) if places is None else places
    wanted = x.clone()
    for b in range(2):
        for i in range(12):
            for j in range(12):
                apart = int(where[b, j] - where[b, i])
                if apart in offsets(WIDTH) and bool(rule.may_see(torch.tensor(b), torch.tensor(i), torch.tensor(j))):
                    wanted[b, i] += conv.weight[offsets(WIDTH).index(apart)] * x[b, j]
    found = conv(x, find_neighbours(rule, WIDTH, 2, along, None, along if places is None else places))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(("rule", "truth"), RULES.values(), ids=RULES)
def test_neighbours_of_every_rule(rule: Attention, truth: Truth) -> None:
    """By the truth of the rule in integers, and equal for the forms with and without a mask."""
    x, along = torch.arange(1.0, 1 + B * L).view(B, L, 1), torch.arange(L)
    for number, offset in enumerate(offsets(WIDTH)):
        conv = Convolution(WIDTH, 1, 0).requires_grad_(False)
        conv.weight.zero_()[number] = 1.0
        found = conv(x, find_neighbours(rule, WIDTH, B, along, None, along))
        again = conv(x, find_neighbours(rule, WIDTH, B, along, None, along.clone()))
        for b in range(B):
            for i in range(L):
                j = i + offset
                there = 0 <= j < L and truth(b, i, j)
                assert found[b, i, 0] - x[b, i, 0] == again[b, i, 0] - x[b, i, 0] == (x[b, j, 0] if there else 0.0)


def test_without_weights_nothing_changes() -> None:
    plain, model = made(), made(convolution=WIDTH)
    for name, weight in model.named_parameters():
        weight.copy_(torch.zeros_like(weight) if "conv" in name else plain.get_parameter(name))
    tokens = ids(2, 9)
    for rule in (FULL, CAUSAL):
        torch.testing.assert_close(model(tokens, attention=rule), plain(tokens, attention=rule))


def test_gradients_of_the_two_forms_agree() -> None:
    x = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0))
    along, grads = torch.arange(9), []
    for places in (along, along.clone()):  # the second is not known to be in order, and is looked up
        conv, y = Convolution(WIDTH, 4, 0), x.clone().requires_grad_()
        torch.nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(1))
        conv(y, find_neighbours(FULL, WIDTH, 2, along, None, places)).square().sum().backward()
        assert y.grad is not None and conv.weight.grad is not None
        grads.append((y.grad, conv.weight.grad))
    torch.testing.assert_close(grads[0], grads[1])


@pytest.mark.parametrize("width", [-1, 1, 2, 4, 65])
def test_widths_that_cannot_be(width: int) -> None:
    with pytest.raises(RemaskError, match=rf"architecture\.convolution is {width}; it must be 0, for none, or an odd"):
        small(convolution=width)


def test_parameters_and_flops() -> None:
    shape, plain = (replace(size("tiny"), convolution=width) for width in (WIDTH, 0))
    weights = 4 * 2 * 4 * 128  # layers, convolutions in each, neighbours, channels
    assert shape.non_embedding - plain.non_embedding == weights
    assert shape.flops(256) - plain.flops(256) == 3 * 2 * weights
