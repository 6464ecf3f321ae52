"""A cache by canvas position gives what a call without one gives, in whatever order and pieces positions are read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from remask.model.attention import CAUSAL, Padded, Ranked
from remask.model.cache import KeyValueCache
from tests.model.test_transformer import ids, made


def close(found: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6), st.sampled_from([4, 2]), st.booleans(), st.sampled_from([0, 5])
)
@settings(max_examples=25, deadline=None)
def test_cached_pieces_are_the_whole(pieces: list[int], kv_heads: int, shifted: bool, convolution: int) -> None:
    model, length = made(kv_heads=kv_heads, shifted=shifted, convolution=convolution), sum(pieces)
    tokens, along = ids(2, length), torch.arange(length).expand(2, -1)
    cache = KeyValueCache(model.architecture.layers, 2, length + 3)
    parts = zip(tokens.split(pieces, 1), along.split(pieces, 1), strict=True)
    found = [model(part, index=index, attention=CAUSAL, cache=cache) for part, index in parts]
    close(torch.cat(found, 1), model(tokens, attention=CAUSAL))


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from([0, 5]))
@settings(max_examples=25, deadline=None)
def test_any_order_of_reading_with_rows_at_different_stages(seed: int, shifted: bool, convolution: int) -> None:
    """Rows of unlike lengths, each read in an order of its own, so many positions at a time, the rest holes."""
    draw = torch.Generator().manual_seed(seed)
    model, lengths = made(shifted=shifted, convolution=convolution), [9, 6, 1]
    tokens = ids(3, 9, seed)
    rank = torch.full((3, 9), 99)
    for row, length in enumerate(lengths):
        rank[row, :length] = torch.arange(length) if shifted else torch.randperm(length, generator=draw)
    rule = Ranked(rank) & Padded(torch.arange(9) < torch.tensor(lengths)[:, None])
    wanted = model(tokens, attention=rule)
    cache, done = KeyValueCache(2, 3, 9), torch.zeros(3, dtype=torch.int64)
    found = torch.full_like(wanted, torch.nan)
    while bool((done < torch.tensor(lengths)).any()):
        count = torch.randint(0, 4, (3,), generator=draw)
        index = torch.full((3, 4), -1)
        for row, length in enumerate(lengths):
            mine = [p for p in range(9) if done[row] <= rank[row, p] < min(length, int(done[row] + count[row]))]
            index[row, : len(mine)] = torch.tensor(mine, dtype=torch.int64)
            done[row] += len(mine)
        read = tokens.gather(1, index.clamp(min=0))
        seen = rule & Padded(rank < done[:, None])
        logits = model(read, index=index, attention=seen, cache=cache)
        for row in range(3):
            real = index[row] >= 0
            found[row, index[row][real]] = logits[row][real]
    for row, length in enumerate(lengths):
        close(found[row, :length], wanted[row, :length])


@pytest.mark.parametrize("shifted", [False, True])
def test_a_partial_read_without_cache_is_a_shorter_canvas(shifted: bool) -> None:
    model, tokens = made(shifted=shifted), ids(2, 8)
    index = torch.tensor([[0, 1, 4, 5], [2, 3, -1, -1]])
    found = model(tokens.gather(1, index.clamp(min=0)), index=index)
    for row, places in enumerate(([0, 1, 4, 5], [2, 3])):
        alone = model(tokens[row : row + 1, places], positions=torch.tensor([places]))
        if not shifted:
            close(found[row, : len(places)], alone[0])
        else:
            close(
                found[row, [j for j, p in enumerate(places) if p - 1 in places or p == 0]],
                alone[0, [j for j, p in enumerate(places) if p - 1 in places or p == 0]],
            )


def test_rows_leave_join_and_are_reordered() -> None:
    model, tokens = made(shifted=True), ids(4, 7)
    along = torch.arange(7)
    wanted = model(tokens, attention=CAUSAL)
    long, short = KeyValueCache(2, 3, 7), KeyValueCache(2, 1, 4)
    model(tokens[:3, :4], index=along[:4].expand(3, -1), attention=CAUSAL, cache=long)
    model(tokens[3:, :2], index=along[:2].expand(1, -1), attention=CAUSAL, cache=short)
    order = torch.tensor([2, 0])
    cache = long.rows(order).join(short)
    rest = torch.stack([torch.cat([torch.arange(4, 7), torch.tensor([-1, -1])])] * 2 + [torch.arange(2, 7)])
    which = torch.tensor([2, 0, 3])
    read = tokens[which].gather(1, rest.clamp(min=0))
    found = model(read, index=rest, attention=CAUSAL, cache=cache)
    close(found[:2, :3], wanted[[2, 0], 4:])
    close(found[2], wanted[3, 2:])


def test_a_call_for_some_rows_and_two_branches() -> None:
    model, tokens = made(), ids(4, 5)
    cache, along = KeyValueCache(2, 2, 5, branches=2), torch.arange(5)
    model(tokens[:, :3], index=along[:3].expand(4, -1), attention=CAUSAL, cache=cache)
    chosen = torch.tensor([1, 3])  # row 1 of either branch
    index = along[3:].expand(2, -1)
    found = model(tokens[chosen, 3:], index=index, attention=CAUSAL, cache=cache.choose(chosen))
    close(found, model(tokens[chosen], attention=CAUSAL)[:, 3:])
    left = cache.rows(torch.tensor([1]))
    again = model(tokens[chosen, 3:], index=index, attention=CAUSAL, cache=left)
    close(again, found)
    plain = KeyValueCache(2, 1, 5)
    model(tokens[:1, :3], index=along[:3].expand(1, -1), attention=CAUSAL, cache=plain)
    both = plain.join(left)
    rows = torch.tensor([0, 1, 3])
    found = model(tokens[rows, 3:], index=along[3:].expand(3, -1), attention=CAUSAL, cache=both.choose(rows))
    close(found, model(tokens[[0, 1, 3]], attention=CAUSAL)[:, 3:])


def test_what_is_read_again_replaces_what_was_kept() -> None:
    model, tokens = made(), ids(1, 4)
    other = tokens.clone()
    other[0, 1] = (other[0, 1] + 1) % 11
    cache, along = KeyValueCache(2, 1, 4), torch.arange(4)[None]
    model(other, index=along, attention=CAUSAL, cache=cache)
    model(tokens[:, 1:2], index=along[:, 1:2], attention=CAUSAL, cache=cache)
    found = model(
        tokens[:, 2:3], index=along[:, 2:3], attention=CAUSAL & Padded(torch.tensor([[1, 1, 1, 0]]).bool()), cache=cache
    )
    close(found, model(tokens, attention=CAUSAL)[:, 2:3])
