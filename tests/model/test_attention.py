"""One predicate, every rendering: integer loops, boolean mask, is_causal, dense products, FlexAttention."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from remask.model.attention import CAUSAL, FULL, Attention, Both, Full, Padded, Segments
from remask.model.rendering import DENSE, Rendered, attend_densely, block_mask, is_dense_faster, render

B, L = 3, 21
CPU = torch.device("cpu")
LENGTHS = [21, 13, 1]
CUTS = [[0] * 21, [0] * 5 + [1] * 16, [0] * 7 + [1] * 7 + [2] * 7]
PADDED = Padded(torch.arange(L) < torch.tensor(LENGTHS)[:, None])
SEGMENTS = Segments(torch.tensor(CUTS))

Truth = Callable[[int, int, int], bool]
RULES: dict[str, tuple[Attention, Truth]] = {
    "full": (FULL, lambda b, q, k: True),
    "causal": (CAUSAL, lambda b, q, k: k <= q),
    "padded": (PADDED, lambda b, q, k: k < LENGTHS[b] or k == q),
    "segments": (SEGMENTS, lambda b, q, k: CUTS[b][q] == CUTS[b][k]),
    "causal segments": (CAUSAL & SEGMENTS, lambda b, q, k: k <= q and CUTS[b][q] == CUTS[b][k]),
    "padded causal": (PADDED & CAUSAL, lambda b, q, k: k <= q and (k < LENGTHS[b] or k == q)),
    "all three": (
        CAUSAL & SEGMENTS & PADDED,
        lambda b, q, k: k <= q and CUTS[b][q] == CUTS[b][k] and (k < LENGTHS[b] or k == q),
    ),
}
each_rule = pytest.mark.parametrize(("rule", "truth"), RULES.values(), ids=RULES)


def table(truth: Truth, queries: int = L) -> Tensor:
    """(B, 1, queries, L) bool, of the last `queries` positions."""
    rows = [[[truth(b, q, k) for k in range(L)] for q in range(L - queries, L)] for b in range(B)]
    return torch.tensor(rows)[:, None]


def heads(groups: int = 4, queries: int = L, grad: bool = False) -> list[Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = [(B, 4, queries, 8), (B, groups, L, 8), (B, groups, L, 8)]
    return [torch.randn(shape, generator=rng).requires_grad_(grad) for shape in shapes]


def by_hand(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Softmax attention in float64, each query by itself."""
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=torch.float64)
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            g = h * k.shape[1] // q.shape[1]
            for i in range(q.shape[2]):
                look = seen[b, 0, i].nonzero()[:, 0]
                score = k[b, g, look].double() @ q[b, h, i].double() / math.sqrt(q.shape[-1])
                out[b, h, i] = score.softmax(0) @ v[b, g, look].double()
    return out


@each_rule
def test_predicate_at_single_indices(rule: Attention, truth: Truth) -> None:
    for b in range(B):
        for q in range(L):
            for k in range(L):
                assert bool(rule.may_see(torch.tensor(b), torch.tensor(q), torch.tensor(k))) == truth(b, q, k)


@each_rule
@pytest.mark.parametrize("queries", [L, 5, 1])
def test_mask(rule: Attention, truth: Truth, queries: int) -> None:
    mask = rule.mask(B, torch.arange(L - queries, L), torch.arange(L))
    if mask is None:
        mask = torch.ones(1, 1, queries, L, dtype=torch.bool)
    assert mask.dtype == torch.bool and mask.shape[1:] == (1, queries, L)
    assert torch.equal(mask.expand(B, -1, -1, -1), table(truth, queries))


@each_rule
@pytest.mark.parametrize("groups", [4, 2, 1])
@pytest.mark.parametrize("queries", [L, 5, 1])
@pytest.mark.parametrize("grad", [False, True], ids=["fused", "dense"])
def test_every_cpu_rendering(rule: Attention, truth: Truth, groups: int, queries: int, grad: bool) -> None:
    q, k, v = heads(groups, queries, grad)
    assert is_dense_faster(q, k) == grad
    found = render(rule, B, torch.arange(L - queries, L), torch.arange(L), queries == L)(q, k, v).detach()
    wanted = by_hand(q.detach(), k.detach(), v.detach(), table(truth, queries))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@each_rule
def test_block_mask_predicate(rule: Attention, truth: Truth) -> None:
    blocks = block_mask(rule, B, L, CPU)
    found = create_mask(blocks.mask_mod, B, 1, L, L, device="cpu")
    assert torch.equal(found, table(truth))


@each_rule
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention(rule: Attention, truth: Truth) -> None:
    q, k, v = heads()
    found = flex_attention(q, k, v, block_mask=block_mask(rule, B, L, CPU))
    assert isinstance(found, Tensor)
    torch.testing.assert_close(found.double(), by_hand(q, k, v, table(truth)), rtol=1e-5, atol=1e-5)


def test_blocks_that_flex_attention_visits() -> None:
    """Longer than a block of 128: what is left out holds nothing that is seen, what stays holds something."""
    length, size = 300, 128
    cut = (torch.arange(length) >= 128).long()
    segments = Segments(torch.stack([torch.zeros(length, dtype=torch.int64), cut]))
    padded = Padded(torch.arange(length) < torch.tensor([[300], [100]]))
    for rule in (FULL, CAUSAL, segments, CAUSAL & segments, padded):
        seen = rule.mask(2, torch.arange(length))
        seen = torch.ones(2, length, length, dtype=torch.bool) if seen is None else seen[:, 0].expand(2, -1, -1)
        visited = block_mask(rule, 2, length, CPU).to_dense()[:, 0].bool()
        for b in range(2):
            for i in range(3):
                for j in range(3):
                    part = seen[b, i * size : (i + 1) * size, j * size : (j + 1) * size]
                    assert bool(visited[b, i, j]) == bool(part.any()), (rule, b, i, j)


def test_cheapest_rendering() -> None:
    along = torch.arange(L)
    assert render(FULL, B, along, in_order=True) == Rendered()
    assert render(FULL, B, along[5:], along) == Rendered()
    assert render(CAUSAL, B, along, in_order=True) == Rendered(causal=True)
    assert render(CAUSAL, B, along[-4:], along).mask is not None
    assert render(PADDED, B, along, in_order=True).mask is not None


@each_rule
@pytest.mark.parametrize("cached", [False, True])
def test_mask_of_scattered_positions_with_holes(rule: Attention, truth: Truth, cached: bool) -> None:
    """Rows that read other positions, in any order, some of them none: what is no hole sees what the rule says."""
    index = torch.tensor([[20, 3, 7, 0], [5, 12, -1, -1], [0, -1, -1, -1]])
    keys = torch.arange(L) if cached else index
    mask = rule.mask(B, index, None if not cached else keys)
    assert mask is not None and mask.shape == (B, 1, 4, keys.shape[-1])
    for b in range(B):
        for i, q in enumerate(index[b].tolist()):
            for j, k in enumerate((keys if cached else keys[b]).tolist()):
                assert bool(mask[b, 0, i, j]) == (q < 0 or (k >= 0 and truth(b, q, k)))


def test_and_leaves_full_out() -> None:
    assert FULL & FULL is FULL
    assert FULL & PADDED is PADDED
    assert PADDED & FULL is PADDED
    assert isinstance(CAUSAL & PADDED, Both)
    assert isinstance(Full() & CAUSAL, type(CAUSAL))


@each_rule
@pytest.mark.parametrize("chosen", [[2], [2, 0], [1, 1, 0, 2]], ids=str)
def test_rows_of_a_rule(rule: Attention, truth: Truth, chosen: list[int]) -> None:
    mask = rule.rows(torch.tensor(chosen)).mask(len(chosen), torch.arange(L))
    found = torch.ones(1, 1, L, L, dtype=torch.bool) if mask is None else mask
    assert torch.equal(found.expand(len(chosen), -1, -1, -1), table(truth)[chosen])


@pytest.mark.parametrize("case", ["full", "causal", "mask"])
@pytest.mark.parametrize("groups", [4, 2])
def test_dense_attention_has_the_values_and_gradients_of_sdpa(case: str, groups: int) -> None:
    mask, causal = (table(RULES["all three"][1]) if case == "mask" else None), case == "causal"
    one, two = heads(groups, grad=True), heads(groups, grad=True)
    direction = torch.randn(B, 4, L, 8, generator=torch.Generator().manual_seed(1))
    spelled = attend_densely(*one, mask, causal)
    fused = scaled_dot_product_attention(*two, attn_mask=mask, is_causal=causal, enable_gqa=groups != 4)
    torch.testing.assert_close(spelled, fused, rtol=1e-5, atol=1e-5)
    (spelled * direction).sum().backward()
    (fused * direction).sum().backward()
    for a, b in zip(one, two):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


def test_where_dense_attention_is_used() -> None:
    q, k, _ = heads(grad=True)
    assert is_dense_faster(q, k)
    with torch.no_grad():
        assert not is_dense_faster(q, k)
    assert not is_dense_faster(q.detach(), k)
    assert not is_dense_faster(q, torch.empty(1, 1, DENSE + 1, 8))


def test_dense_attention_in_bfloat16_normalises_in_float32() -> None:
    q, k, v = (x.bfloat16() for x in heads())
    found = attend_densely(q, k, v, None, False)
    assert found.dtype == torch.bfloat16
    wanted = by_hand(q, k, v, table(RULES["full"][1]))
    torch.testing.assert_close(found.double(), wanted, rtol=0.03, atol=0.03)
