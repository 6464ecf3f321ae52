"""Batches are pure functions of (seed, index); shares fit together; no token is lost."""

import numpy as np
import pytest
import torch

from remask.data.batches import Batches, Rows, in_order
from remask.data.tokens import Tokens
from remask.errors import RemaskError


def rows_of(tokens: int, length: int) -> Rows:
    ids = np.arange(tokens, dtype=np.uint16)
    return Rows(Tokens(ids, (ids % 5).astype(np.uint16)), length)


def test_rows_cover_the_tokens_in_order() -> None:
    rows = rows_of(103, 10)
    assert len(rows) == 10
    assert np.concatenate(list(rows)).tolist() == list(range(100))
    assert rows[3].dtype == np.int64
    assert rows.bytes_of(3) == sum(i % 5 for i in range(30, 40))
    with pytest.raises(IndexError):
        rows[10]
    with pytest.raises(RemaskError, match="200 is longer than the 103 tokens"):
        rows_of(103, 200)


def test_each_epoch_has_every_row_once_in_a_new_order() -> None:
    batches = Batches(rows_of(640, 8), batch=16, seed=3)
    epochs = [torch.cat([batches.share(5 * e + i).tokens for i in range(5)]) for e in range(3)]
    for epoch in epochs:
        assert epoch.flatten().sort().values.tolist() == list(range(640))
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[1], epochs[2])


def test_a_batch_only_depends_on_seed_and_index() -> None:
    rows = rows_of(600, 6)
    used = Batches(rows, batch=8, seed=1, random_length=0.5)
    for i in range(30):
        used.share(i)
    fresh = Batches(rows, batch=8, seed=1, random_length=0.5)
    for i in (29, 3, 17):
        a, b = used.share(i), fresh.share(i)
        assert torch.equal(a.tokens, b.tokens)
        assert a.segments is not None
        assert torch.equal(a.segments, b.segments)  # type: ignore[arg-type]
    assert not torch.equal(fresh.share(0).tokens, Batches(rows, batch=8, seed=2).share(0).tokens)


def test_neighbouring_seeds_do_not_repeat_each_other() -> None:
    rows = rows_of(640, 8)
    second_epoch = Batches(rows, batch=80, seed=0).share(1).tokens
    assert not torch.equal(second_epoch, Batches(rows, batch=80, seed=1).share(0).tokens)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_shares_make_up_the_global_batch(processes: int) -> None:
    batches = Batches(rows_of(600, 6), batch=8, seed=5, random_length=0.3)
    each = 8 // processes
    for index in range(20):
        whole = batches.share(index)
        shares = [batches.share(index, p * each, each) for p in range(processes)]
        assert torch.equal(torch.cat([s.tokens for s in shares]), whole.tokens)
        assert [(s.offset, s.global_rows) for s in shares] == [(p * each, 8) for p in range(processes)]
        assert all(s.global_tokens == int(whole.scored.sum()) for s in shares)
        assert all(bool(s.scored.all()) for s in shares)
        if whole.segments is None:
            assert all(s.segments is None for s in shares)
        else:
            assert torch.equal(torch.cat([s.segments for s in shares]), whole.segments)  # type: ignore[misc]


def test_random_length_cuts_its_share_of_rows_into_two() -> None:
    batches = Batches(rows_of(6000, 10), batch=100, seed=0, random_length=0.3)
    segments = torch.cat([batches.share(i).segments for i in range(20)])  # type: ignore[misc]
    assert segments.dtype == torch.int64
    assert (segments.diff(dim=1) >= 0).all()
    assert (segments[:, 0] == 0).all()
    cut = segments[:, -1] == 1
    assert cut.float().mean().item() == pytest.approx(0.3, abs=0.04)
    assert set((10 - segments[cut].sum(1)).tolist()) == set(range(1, 10))
    assert Batches(rows_of(600, 6), batch=4, seed=0).share(0).segments is None


def test_in_order_takes_evenly_spaced_rows() -> None:
    rows = rows_of(100, 10)
    found = list(in_order(rows, 4, 3))
    assert [batch.tokens[:, 0].tolist() for batch, _ in found] == [[0, 20, 50], [70]]
    assert [b for _, each in found for b in each] == [rows.bytes_of(i) for i in (0, 2, 5, 7)]
    assert sum(len(batch.tokens) for batch, _ in in_order(rows, None, 3)) == 10
    assert sum(len(batch.tokens) for batch, _ in in_order(rows, 99, 3)) == 10


def test_options_out_of_range_are_named() -> None:
    rows = rows_of(100, 10)
    with pytest.raises(RemaskError, match="random_length=2"):
        Batches(rows, 4, 0, random_length=2)
    with pytest.raises(RemaskError, match="batch of 0"):
        Batches(rows, 0, 0)
    with pytest.raises(RemaskError, match="seed=-1"):
        Batches(rows, 4, -1)
    with pytest.raises(ValueError, match="rows 2 to 6"):
        Batches(rows, 4, 0).share(0, 2, 4)
