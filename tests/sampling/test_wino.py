"""WINO: what the second reading of a block sees, the rule against its definition, and rows that always get on."""

from dataclasses import dataclass

import pytest
import torch
from tables import rng, tiny
from torch import Tensor
from writing import MASK, MASKED, V, begin, fill

from remask.errors import RemaskError
from remask.model.attention import Attention
from remask.sampling.asking import read_shadow
from remask.sampling.sampler import Query
from remask.sampling.wino import WINO

ROW = [3, 1, *[None] * 10]


@dataclass(frozen=True)
class Given(Attention):
    """A rule that is written out."""

    seen: Tensor

    def may_see(self, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return self.seen[query, key] & (row >= 0)


def test_a_token_in_hindsight_is_not_looked_at() -> None:
    """In a network of one layer, where no other token can have looked at it before."""
    model = tiny(V + 1, V, layers=1, seed=1, sharpness=2.0)
    state = begin(WINO(), [[None] * 8, [2, *[None] * 5]], block=5)
    state.tokens[:, 1:3] = torch.randint(V, (2, 2), generator=rng(0))
    state.masked[:, 1:3] = False
    shadow = state.open & (state.blocks == 0)
    query, rows = Query(state.active, shadow=shadow), torch.tensor([0, 1])
    with torch.inference_mode():
        plain, before = read_shadow(model, MASKED, state, query, rows)
        for row in (0, 1):
            alone = model(state.tokens[row : row + 1, : [8, 6][row]])[0][state.active[row, : [8, 6][row]]]
            own = plain[query.ask.nonzero()[:, 0] == row]
            torch.testing.assert_close(own, alone, rtol=1e-4, atol=1e-4)
        for row, column in ((0, 1), (0, 2), (1, 2)):
            kept = state.tokens[row, column].clone()
            state.tokens[row, column] = (kept + 1) % V
            _, after = read_shadow(model, MASKED, state, query, rows)
            state.tokens[row, column] = kept
            moved = (before - after).abs().amax(-1) > 1e-5
            same_row = shadow.nonzero()[:, 0] == row
            own_place = same_row & (shadow.nonzero()[:, 1] == column)
            assert not moved[own_place].any() and not moved[~same_row].any()
            assert moved[same_row & ~own_place].all()


def by_definition(model: object, row: list[int | None], rule: WINO, block: int) -> list[int]:
    """WINO on one row, the shadow written out as a table of what sees what."""
    tokens = [MASK if i is None else i for i in row]
    open_ = [i for i, token in enumerate(row) if token is None]
    size = len(row)
    for start in range(0, len(open_), block):
        inside = open_[start : start + block]
        while left := [i for i in inside if tokens[i] == MASK]:
            written = [i for i in inside if tokens[i] != MASK]
            behind = inside if written else []
            seen = torch.zeros(size + len(behind), size + len(behind), dtype=torch.bool)
            seen[:, :size] = True
            seen[size:, size:] = True
            for number, i in enumerate(behind):
                seen[size + number, i] = False
            read = torch.tensor([tokens + [MASK] * len(behind)])
            positions = torch.tensor([[*range(size), *behind]])
            with torch.inference_mode():
                p = model(read, attention=Given(seen), positions=positions)[0].double().softmax(-1)  # type: ignore[operator]
            sure = {i: float(p[i].max()) for i in left}
            ranked = sorted(left, key=lambda i: (-sure[i], i))
            most = min(max(int(0.7 * len(left)), 5), 20)
            new = [i for i in ranked if sure[i] >= rule.threshold][:most] or ranked[:1]
            hindsight = {i: float(p[size + n, tokens[i]]) for n, i in enumerate(behind) if tokens[i] != MASK}
            for i in new:
                tokens[i] = int(p[i].argmax())
            doubtful = sorted((i for i in hindsight if hindsight[i] < rule.keep), key=lambda i: (hindsight[i], i))
            for i in doubtful[: len(new) - 1]:
                tokens[i] = MASK
    return tokens


@pytest.mark.parametrize("seed", [0, 1, 3, 4])
def test_wino(seed: int) -> None:
    model = tiny(V + 1, V, seed=seed, sharpness=3.0, convolution=3)
    rule = WINO(threshold=0.5, keep=0.97)
    rows = [[None] * 14, ROW, [None] * 5]
    steps = fill(rule, model, rows, block=7, temperature=0)
    for row, given in enumerate(rows):
        assert steps[-1].tokens[row, : len(given)].tolist() == by_definition(model, given, rule, 7)


def test_what_is_taken_back_is_less_than_what_is_written() -> None:
    model = tiny(V + 1, V, seed=4, sharpness=3.0)
    left, taken_back = 24, 0
    for step in fill(WINO(threshold=0.2, keep=1.0), model, [[None] * 24]):
        assert int(step.masked.sum()) < left
        taken_back += int((step.changed & step.masked).sum())
        left = int(step.masked.sum())
    assert left == 0 and taken_back > 0


def test_what_it_refuses() -> None:
    for options in ({"cache": "Dual"}, {"block": 3, "window": 2}, {"guidance": 1.0}):
        with pytest.raises(RemaskError, match="leave cache, window, grow and guidance out"):
            begin(WINO(), [ROW], **options)  # type: ignore[arg-type]
    with pytest.raises(RemaskError, match="leave finish out"):
        WINO(finish=1.0)
    with pytest.raises(RemaskError, match=r"keep is 2\.0"):
        WINO(keep=2.0)
    shifted = tiny(V + 1, V, shifted=True)
    with pytest.raises(RemaskError, match="at the one before"):
        fill(WINO(threshold=0.0), shifted, [ROW], block=8)
