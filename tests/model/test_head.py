"""The memory-saving head computes what the plain one does."""

import pytest
import torch

from remask.model.head import CHUNKED, nll, nll_in_chunks


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
