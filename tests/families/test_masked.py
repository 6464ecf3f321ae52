"""Masked diffusion against enumeration: the bound is the mean over all orders, whatever form it is drawn in."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, Counting, Table, any_order, chain, masked_nats, random_joint, rng, subsets, tiny
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families import Denoiser, build, describe
from remask.families.base import per_row
from remask.families.masked import Masked, Objective
from remask.vocabulary import Vocabulary

SHAPES = [(2, 1), (3, 2), (2, 4), (3, 3), (4, 3), (4, 4)]
OBJECTIVES: tuple[Objective, ...] = ("bound", "low_variance", "count")
NODES, SHARES = (a / 2 for a in np.polynomial.legendre.leggauss(24))
NODES = NODES + 0.5
"""Gauss-Legendre on the unit interval: exact for the polynomials in p that masks give."""


def tables(symbols: int, length: int) -> Iterator[Table]:
    """A perfect denoiser and an imperfect one."""
    yield Table.of(random_joint(symbols, length, seed=symbols * 10 + length, sharpness=1.5))
    yield Table.random(symbols, length, seed=symbols * 10 + length, sharpness=1.5)


def some_texts(table: Table, count: int = 6) -> list[tuple[int, ...]]:
    """A few of the texts of a table."""
    picked = torch.randperm(len(table.texts), generator=rng(1))[:count]
    return [tuple(row) for row in table.texts[picked].tolist()]


def in_mean(objective: Objective, eps: float, k: int, length: int) -> float:
    """The mean of weight * [mask is exactly S] for one set S of k positions, from the formulas.

    count: k uniform in 1..L, the set uniform, weight L/k. Else p = (1 - eps) t + eps with t uniform, so p is
    uniform in (eps, 1), tokens masked independently, weight 1/p or 1.
    """
    if objective == "count":
        return 1 / length / math.comb(length, k) * length / k
    p = eps + (1 - eps) * NODES
    power = k - 1 if objective == "bound" else k
    return float((SHARES * p**power * (1 - p) ** (length - k)).sum())


def in_mean_of_package(family: Masked, table: Table, text: tuple[int, ...]) -> float:
    """The same mean, over the masks and weights that the family makes from given levels and uniforms."""
    length, total = table.length, 0.0
    if family.objective == "count":
        orders = [torch.tensor(order) for order in itertools.permutations(range(length))]
        uniform = torch.stack([(order + 0.5) / length for order in orders])
        levels = [(torch.full((len(orders),), (k + 0.5) / length), 1 / length / len(orders)) for k in range(length)]
        cases = [(level, uniform, torch.full((len(orders),), share)) for level, share in levels]
    else:
        chosen = [(), *subsets(length)]
        uniform = torch.ones(len(chosen), length)
        for row, some in enumerate(chosen):
            uniform[row, list(some)] = 0.0
        size = torch.tensor([len(some) for some in chosen])
        cases = []
        for node, share in zip(NODES, SHARES, strict=True):
            p = family.eps + (1 - family.eps) * float(node)
            probability = float(share) * p**size * (1 - p) ** (length - size)
            cases.append((torch.full((len(chosen),), float(node)), uniform, probability))
    for level, uniform, probability in cases:
        batch = whole(torch.tensor([text] * len(level)))
        hidden, weight = family.masks(batch.scored, level, uniform)
        noisy = family.inputs_for(batch, hidden, weight)
        total += float((per_row(family.token_loss(table, noisy), noisy.ask) * probability).sum())
    return total


def whole(tokens: Tensor, **more: int) -> Batch:
    """A batch in which every token is scored."""
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), **more)  # type: ignore[arg-type]


def expected(table: Table, text: tuple[int, ...], objective: Objective, eps: float) -> float:
    """Nats of one text under an objective, summed over all masks."""
    sets = subsets(table.length)
    return math.fsum(in_mean(objective, eps, len(s), table.length) * masked_nats(table, text, s) for s in sets)


@pytest.mark.parametrize(("symbols", "length"), SHAPES)
def test_both_forms_of_the_bound_equal_the_mean_over_all_orders(symbols: int, length: int) -> None:
    for table in tables(symbols, length):
        for text in some_texts(table):
            truth = any_order(table, text)
            assert expected(table, text, "count", 0.0) == pytest.approx(truth, rel=1e-12)
            assert expected(table, text, "bound", 0.0) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("k", range(1, 7))
def test_weight_of_a_mask_is_the_beta_integral(k: int) -> None:
    beta = math.factorial(k - 1) * math.factorial(6 - k) / math.factorial(6)
    assert in_mean("bound", 0.0, k, 6) == pytest.approx(beta, rel=1e-12)
    assert in_mean("count", 0.0, k, 6) == pytest.approx(beta, rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("eps", [0.0, 1e-3, 0.2])
def test_masks_and_weights_of_the_family_have_the_enumerated_mean(objective: Objective, eps: float) -> None:
    for table in tables(3, 3):
        family = Masked(objective=objective, eps=eps).over(table.vocabulary)
        for text in some_texts(table, 3):
            enumerated = expected(table, text, objective, eps)
            assert in_mean_of_package(family, table, text) == pytest.approx(enumerated, rel=2e-6)


@pytest.mark.parametrize(("symbols", "length"), SHAPES)
def test_bound_is_above_the_truth_of_the_random_order_sampler(symbols: int, length: int) -> None:
    """-log of the mean over orders of p(x) is what a sampler in random order gives; Jensen puts it below."""
    orders = list(itertools.permutations(range(length)))
    gaps = []
    for table in tables(symbols, length):
        gap = 0.0
        for text in some_texts(table):
            mixture = -math.log(math.fsum(math.exp(-chain(table, text, o)) for o in orders) / len(orders))
            gap += expected(table, text, "count", 0.0) - mixture
            assert gap > -1e-12
        gaps.append(gap)
    assert gaps[0] < 1e-9  # to an oracle all orders are one
    assert gaps[1] > 1e-3 or length == 1


@pytest.mark.parametrize(("symbols", "length"), SHAPES)
def test_an_oracle_is_exact_in_every_order(symbols: int, length: int) -> None:
    joint = random_joint(symbols, length, seed=5)
    table = Table.of(joint)
    for text in some_texts(table):
        truth = -math.log(float(joint[text]))
        for order in itertools.permutations(range(length)):
            assert chain(table, text, order) == pytest.approx(truth, rel=1e-12)
        assert expected(table, text, "bound", 0.0) == pytest.approx(truth, rel=1e-12)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_monte_carlo_agrees_with_enumeration(objective: Objective) -> None:
    """The bound of every objective is the exact-count form; the loss is that of the objective itself."""
    eps = 0.05
    for table in tables(3, 4):
        family = Masked(objective=objective, eps=eps).over(table.vocabulary)
        text = some_texts(table)[0]
        batch = whole(torch.tensor([text] * 64))
        draw = rng(3)
        bounds = torch.stack([family.bound(table, batch, draw).mean() for _ in range(100)])
        losses = torch.stack([family.loss(table, batch, draw).per_token().double() for _ in range(100)])
        assert bounds.dtype == torch.float64
        for values, truth in (
            (bounds, any_order(table, text)),
            (losses, expected(table, text, objective, eps) / table.length),
        ):
            error = float(values.std()) / math.sqrt(len(values))
            assert 0 < error < 0.1 * truth
            assert abs(float(values.mean()) - truth) < 5 * error


def test_draws_are_of_the_level_that_is_given() -> None:
    table = Table.random(3, 4, seed=2)
    family = Masked(objective="count").over(table.vocabulary)
    text = some_texts(table)[0]
    levels = torch.tensor([0.0, 0.25, 0.5, 0.75, 1 - 2**-24])
    noisy = family.corrupt(whole(torch.tensor([text] * 5)), rng(0), levels)
    assert noisy.ask.sum(1).tolist() == [1, 2, 3, 4, 4]
    full = family.bound(table, whole(torch.tensor([text])), rng(0), torch.tensor([0.99]))
    assert float(full) == pytest.approx(masked_nats(table, text, range(4)), rel=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_prompts_are_never_masked_and_never_in_the_loss(objective: Objective) -> None:
    table = Table.random(3, 4, seed=8)
    family = Masked(objective=objective).over(table.vocabulary)
    tokens = table.texts[:40]
    scored = torch.rand(tokens.shape, generator=rng(0)) < 0.6
    scored[:, 1] = True
    batch = Batch(tokens, scored)
    draw = rng(1)
    masked = torch.zeros_like(scored)
    for _ in range(50):
        noisy = family.corrupt(batch, draw)
        assert not bool((noisy.ask & ~scored).any())
        assert torch.equal(noisy.tokens == table.symbols, noisy.ask)
        assert torch.equal(noisy.tokens[~noisy.ask], tokens[~noisy.ask])
        assert torch.equal(noisy.target, tokens[noisy.ask])
        masked |= noisy.ask
    assert torch.equal(masked, scored)
    assert family.loss(table, batch, draw).tokens == int(scored.sum())


def test_bound_of_a_response_is_conditional_on_its_prompt() -> None:
    joint = random_joint(3, 4, seed=11)
    table = Table.of(joint)
    family = Masked().over(table.vocabulary)
    text = (2, 0, 1, 1)
    batch = Batch(torch.tensor([text]), torch.tensor([[True, False, True, False]]))
    truth = math.log(float(joint[:, 0, :, 1].sum())) - math.log(float(joint[text]))
    draws = family.bound(table, Batch(batch.tokens.expand(4000, -1), batch.scored.expand(4000, -1)), rng(0))
    error = float(draws.std()) / math.sqrt(len(draws))
    assert abs(float(draws.mean()) - truth) < 5 * error


def test_loss_divides_by_all_scored_tokens() -> None:
    """B=1, L=4, t=.5, so p=.5005; tokens 0 and 2 masked with nats 1 and 3: (1 + 3) / .5005 / 4 (SMDM)."""
    log_probs = torch.log(torch.tensor([math.exp(-1), 1 - math.exp(-1)], dtype=torch.float64)).expand(3**4, 4, 2)
    log_probs = log_probs.clone()
    log_probs[:, 2] = torch.log(torch.tensor([math.exp(-3), 1 - math.exp(-3)], dtype=torch.float64))
    table = Table(log_probs)
    family = Masked(objective="bound").over(table.vocabulary)
    batch = whole(torch.zeros(1, 4, dtype=torch.long))
    uniform = torch.tensor([[0.1, 0.9, 0.5004, 0.5006]])
    hidden, weight = family.masks(batch.scored, torch.tensor([0.5]), uniform)
    assert hidden.tolist() == [[True, False, True, False]]
    assert float(weight) == pytest.approx(1 / 0.5005)
    noisy = family.inputs_for(batch, hidden, weight)
    assert float(family.token_loss(table, noisy).sum()) / 4 == pytest.approx(1.998002, abs=1e-6)
    seen = [family.corrupt(batch, rng(seed)) for seed in range(200)]
    for seed, noisy in enumerate(seen):
        whole_sum = float(family.token_loss(table, noisy).sum())
        assert float(family.loss(table, batch, rng(seed)).per_token()) == pytest.approx(whole_sum / 4, rel=1e-6)


# Levels


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000])
def test_levels_hit_every_stratum_once(n: int) -> None:
    for seed in range(20):
        levels = whole(torch.zeros(n, 2, dtype=torch.long)).levels(rng(seed))
        assert bool((levels >= 0).all() and (levels < 1).all())
        # a level may be rounded up to the next stratum's edge by float32
        strata = ((levels.double() - 1e-7) * n).floor().clamp(min=0).long()
        assert torch.equal(strata.sort().values, torch.arange(n))


def test_levels_of_a_row_are_uniform_and_in_random_order() -> None:
    batch = whole(torch.zeros(8, 2, dtype=torch.long))
    draw = rng(0)
    levels = torch.stack([batch.levels(draw) for _ in range(4000)])  # (4000, 8)
    first = levels[:, 0]
    assert abs(float(first.mean()) - 0.5) < 5 * math.sqrt(1 / 12 / 4000)
    counts = torch.bincount((first * 8).long(), minlength=8).double()
    assert float(((counts - 500) ** 2 / 500).sum()) < 30  # chi-square, 7 degrees of freedom
    assert abs(float(torch.corrcoef(levels[:, :2].T)[0, 1]) + 1 / 7) < 0.1


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("ranks", [2, 3, 6])
def test_ranks_draw_their_share_of_what_one_process_draws(objective: Objective, ranks: int) -> None:
    family = Masked(objective=objective).over(Vocabulary(size=11, mask=10))
    tokens = torch.randint(10, (6, 9), generator=rng(0))
    scored = torch.ones_like(tokens, dtype=torch.bool)
    one = family.corrupt(Batch(tokens, scored), rng(4))
    size = 6 // ranks
    shares = [
        family.corrupt(Batch(tokens[r : r + size], scored[r : r + size], offset=r, global_rows=6), rng(4))
        for r in range(0, 6, size)
    ]
    assert torch.equal(torch.cat([s.tokens for s in shares]), one.tokens)
    assert torch.equal(torch.cat([s.ask for s in shares]), one.ask)
    assert torch.equal(torch.cat([s.weight for s in shares]), one.weight)
    assert torch.equal(torch.cat([s.target for s in shares]), one.target)
    noise = [Batch(tokens[:size], scored[:size], offset=r, global_rows=6).draw((9,), rng(4)) for r in range(0, 6, size)]
    levels = [Batch(tokens[:size], scored[:size], offset=r, global_rows=6).levels(rng(4)) for r in range(0, 6, size)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(noise, 2))
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(levels, 2))


# Laws of the masks


@UNHURRIED
@given(
    level=st.floats(0, 1, exclude_max=True, width=32, allow_subnormal=False),
    scored=st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    seed=st.integers(0, 2**31),
)
def test_count_masks_are_exactly_k_of_the_scored(level: float, scored: list[bool], seed: int) -> None:
    family = Masked(objective="count").over(Vocabulary(size=5, mask=4))
    uniform = torch.rand(1, len(scored), generator=rng(seed))
    hidden, weight = family.masks(torch.tensor([scored]), torch.tensor([level]), uniform)
    length = sum(scored)
    k = 1 + math.floor(level * length)
    assert int(hidden.sum()) == k
    assert 1 <= k <= length
    assert not bool((hidden & ~torch.tensor([scored])).any())
    assert float(weight) == pytest.approx(length / k)


@UNHURRIED
@given(
    level=st.floats(0, 1, exclude_max=True, width=32, allow_subnormal=False),
    eps=st.sampled_from([0.0, 1e-3, 0.3]),
    low=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_independent_masks_are_those_below_p(level: float, eps: float, low: bool, seed: int) -> None:
    family = Masked(objective="low_variance" if low else "bound", eps=eps)
    scored = torch.rand(1, 10, generator=rng(seed)) < 0.7
    uniform = torch.rand(1, 10, generator=rng(seed + 1))
    hidden, weight = family.masks(scored, torch.tensor([level]), uniform)
    p = (1 - eps) * level + eps
    clear = (uniform - p).abs() > 1e-6
    assert torch.equal(hidden[clear], ((uniform < p) & scored)[clear])
    assert float(weight) == (1.0 if low else pytest.approx(1 / p if p else math.inf, rel=1e-5))


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 10])
@pytest.mark.parametrize("rows", [2, 4, 8, 16])
def test_every_count_and_every_set_is_equally_likely(length: int, rows: int) -> None:
    """Integrated over the offset of the strata: the rounding of published code favours even counts here."""
    family = Masked(objective="count")
    grid = (torch.arange(40 * length, dtype=torch.float64) + 0.5) / (40 * length)
    levels = ((torch.arange(rows)[None] + grid[:, None]) / rows).flatten().float()
    scored = torch.ones(len(levels), length, dtype=torch.bool)
    hidden, _ = family.masks(scored, levels, torch.rand(len(levels), length, generator=rng(0)))
    counts = torch.bincount(hidden.sum(1), minlength=length + 1)[1:].double() * length / len(levels)
    assert counts.tolist() == pytest.approx([1.0] * length, abs=0.03)


def test_every_set_of_k_is_equally_likely() -> None:
    family = Masked(objective="count")
    n = 20_000
    hidden, _ = family.masks(
        torch.ones(n, 5, dtype=torch.bool), torch.full((n,), 0.3), torch.rand(n, 5, generator=rng(7))
    )
    seen = torch.unique(hidden, dim=0, return_counts=True)[1].double()
    assert len(seen) == 10  # 5 choose 2
    assert float(((seen - n / 10) ** 2 / (n / 10)).sum()) < 34  # chi-square, 9 degrees of freedom


def test_alpha_is_one_minus_t() -> None:
    assert [Masked().alpha(t) for t in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]


# Segments: pieces of a row do not see each other


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_row_in_two_pieces_has_the_loss_of_the_pieces_apart(objective: Objective) -> None:
    vocabulary = Vocabulary(size=8, mask=7)
    model = tiny(8, 7, seed=1)
    family = Masked(objective=objective).over(vocabulary)
    tokens = torch.randint(7, (3, 10), generator=rng(2))
    cut = torch.tensor([4, 1, 10])
    segments = (torch.arange(10) >= cut[:, None]).long()
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool), segments)
    noisy = family.corrupt(batch, rng(3))
    with torch.no_grad():
        together = per_row(family.token_loss(model, noisy), noisy.ask)
        for row in range(3):
            apart = 0.0
            for part in (slice(0, int(cut[row])), slice(int(cut[row]), 10)):
                piece = whole(tokens[row : row + 1, part])
                hidden = noisy.ask[row : row + 1, part]
                if not bool(hidden.any()):
                    continue
                weight = noisy.weight[noisy.ask.nonzero()[:, 0] == row][:1]
                apart += float(family.token_loss(model, family.inputs_for(piece, hidden, weight)).sum())
            assert float(together[row]) == pytest.approx(apart, rel=1e-5)
        plain = family.inputs_for(whole(tokens), noisy.ask, torch.ones(3))
        unlike = (
            family.token_loss(model, plain).sum()
            - family.token_loss(model, family.inputs_for(batch, noisy.ask, torch.ones(3))).sum()
        )
    assert abs(float(unlike)) > 1e-2  # the pieces would see each other, and it would show


def test_positions_start_anew_in_each_segment() -> None:
    batch = whole(torch.zeros(2, 6, dtype=torch.long))
    assert batch.positions() is None
    cut = Batch(batch.tokens, batch.scored, torch.tensor([[0, 0, 1, 1, 1, 2], [0, 0, 0, 0, 0, 0]]))
    positions = cut.positions()
    assert positions is not None
    assert positions.tolist() == [[0, 1, 0, 1, 2, 0], [0, 1, 2, 3, 4, 5]]


# What is asked of the network, and how families are found


def test_only_masked_positions_are_asked() -> None:
    table = Counting(Table.random(3, 4, seed=1))
    family = Masked(objective="count").over(Vocabulary(size=4, mask=3))
    batch = whole(torch.zeros(5, 4, dtype=torch.long))
    asked = int(family.corrupt(batch, rng(0)).ask.sum())
    family.bound(table, batch, rng(0))
    assert (table.calls, table.sizes, table.asked) == (1, [5], [asked])


def test_the_fused_head_gives_the_same_loss() -> None:
    model = tiny(8, 7, seed=4)
    family = Masked().over(Vocabulary(size=8, mask=7))
    batch = whole(torch.randint(7, (4, 9), generator=rng(0)))
    plain: Denoiser = Counting(model)  # offers no `nll`
    with torch.no_grad():
        fused, spelled = family.loss(model, batch, rng(1)), family.loss(plain, batch, rng(1))
    assert float(fused.per_token()) == pytest.approx(float(spelled.per_token()), rel=1e-6)


def test_time_is_the_share_of_scored_tokens_that_is_masked() -> None:
    family = Masked(objective="count").over(Vocabulary(size=5, mask=4))
    scored = torch.tensor([[True] * 6, [False, False, True, True, True, True]])
    noisy = family.corrupt(Batch(torch.zeros(2, 6, dtype=torch.long), scored), rng(0), torch.tensor([0.5, 0.5]))
    assert noisy.time is not None
    assert noisy.time.tolist() == pytest.approx([4 / 6, 3 / 4])


def test_a_row_without_scored_tokens_costs_nothing_and_spoils_nothing() -> None:
    """In fine-tuning a prompt may fill its row; the network may be conditioned on time."""
    model = tiny(6, 5, time=True)
    for objective in OBJECTIVES:
        family = Masked(objective=objective).over(Vocabulary(size=6, mask=5))
        scored = torch.tensor([[True] * 4, [False] * 4])
        batch = Batch(torch.zeros(2, 4, dtype=torch.long), scored)
        model.zero_grad()
        loss = family.loss(model, batch, rng(1))
        loss.per_token().backward()
        assert bool(loss.per_token().isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None), objective


def test_a_family_is_described_and_built_again() -> None:
    family = Masked(objective="count", eps=0.01)
    assert build(describe(family)) == family
    with pytest.raises(RemaskError, match="vocabulary"):
        _ = family.mask
    with pytest.raises(RemaskError, match="mask id"):
        _ = family.over(Vocabulary(size=4)).mask
    with pytest.raises(RemaskError, match="Masked"):
        build({"name": "Nothing"})


def test_certainty_forcing_adds_the_entropy_of_what_is_predicted_right() -> None:
    """The sum over the masked positions, recomputed from the logits; and a step along its gradient lowers it."""
    model = tiny(8, 7, seed=3, sharpness=2.0)
    vocabulary = Vocabulary(size=8, mask=7)
    batch = whole(torch.randint(7, (6, 9), generator=rng(0)))
    plain, forced = (Masked(forcing=f).over(vocabulary) for f in (0.0, 2.0))
    noisy = forced.corrupt(batch, rng(1))
    with torch.no_grad():
        p = model(noisy.inputs, ask=noisy.ask, **noisy.conditions).softmax(-1)
        added = sum(
            -2.0 * float((row * row.log()).sum())
            for row, target in zip(p, noisy.target, strict=True)
            if int(row.argmax()) == int(target)
        )
        of_plain, of_forced = (float(f.loss(model, batch, rng(1)).total) for f in (plain, forced))
    assert added > 0.1 and math.isclose(of_forced, of_plain + added, rel_tol=1e-5)
    assert float(forced.bound(model, batch, rng(2)).sum()) == float(plain.bound(model, batch, rng(2)).sum())
    with pytest.raises(RemaskError, match=r"forcing is -1\.0"):
        Masked(forcing=-1.0)
