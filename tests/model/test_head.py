"""The head computes what the plain formula does, in whatever form."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import linear

from remask.model.head import CHUNKED, Head, nll, nll_in_chunks, round_up
from remask.model.sizes import size


@pytest.mark.skipif(not CHUNKED, reason="torch before 2.13 has no chunked head")
@pytest.mark.parametrize("bf16", [False, True])
def test_chunked_head_has_the_same_values_and_gradients(bf16: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    target, weight = torch.randint(0, 1000, (300,), generator=rng), torch.rand(300, generator=rng)
    results = []
    for head_loss in (nll, nll_in_chunks):
        hidden = torch.randn(300, 64, generator=torch.Generator().manual_seed(1), requires_grad=True)
        head = torch.randn(1000, 64, generator=torch.Generator().manual_seed(2), requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            values = head_loss(hidden, head, target)
        assert values.dtype == torch.float32
        (values * weight).sum().backward()
        results.append((values.detach(), hidden.grad, head.grad))
    tolerance = 0.05 if bf16 else 1e-5
    for plain, chunked in zip(*results, strict=True):
        torch.testing.assert_close(plain, chunked, rtol=tolerance, atol=tolerance * float(plain.abs().max()))


def test_few_sizes_each_at_most_an_eighth_larger() -> None:
    every = [round_up(rows) for rows in range(1, 4097)]
    assert all(rows <= size <= rows * 9 / 8 for rows, size in enumerate(every, start=1))
    assert len({size for size in every if size > 1024}) == 16 and every[:32] == [*range(1, 33)]


@pytest.mark.parametrize("rows", [1, 33, 100, 257])
def test_rows_that_are_added_change_nothing(rows: int) -> None:
    """Neither the logits and nats of the others, nor the gradients."""
    rng = torch.Generator().manual_seed(0)
    head = Head(replace(size("tiny"), predicted=99, rows=100))
    head.weight.data.normal_(generator=rng)
    hidden = torch.randn(rows, head.in_features, generator=rng, requires_grad=True)
    target = torch.randint(0, 99, (rows,), generator=rng)
    logits = linear(hidden, head.weight)
    torch.testing.assert_close(head(hidden), logits)
    torch.testing.assert_close(head(hidden, target), nll(hidden, head.weight, target))
    found = torch.autograd.grad(head(hidden, target).sum(), (hidden, head.weight))
    torch.testing.assert_close(
        found, torch.autograd.grad(nll(hidden, head.weight, target).sum(), (hidden, head.weight))
    )
