"""Psi sampling of masked families, which is remasking, against the law of its Markov chain, worked out by states."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tables import Counting, Table, random_joint, tiny
from writing import begin, fill, how, written

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.likelihood import Request, score
from remask.sampling import Canvas
from remask.sampling.ancestral import Ancestral
from remask.sampling.psi import Psi
from remask.vocabulary import Vocabulary

TABLE = Table.random(2, 2, seed=4, sharpness=1.5)
FAMILY = Masked().over(TABLE.vocabulary)


def kappa_of(sampler: Psi, a_s: float, a_t: float) -> float:
    """As ReMDM has it, in its own terms: the chance sigma that a written token is hidden again."""
    most = 1.0 if a_t == 0 else min(1.0, (1 - a_s) / a_t)
    eta = sampler.eta
    if sampler.schedule == "constant" or a_s == 1:
        return sampler.kappa if sampler.schedule == "constant" else 1.0
    sigma = {"sigma": eta, "capped": eta if eta < most else most, "rescaled": eta * most}[sampler.schedule]
    return max(0.0, 1 - sigma / (1 - a_s))


def law(sampler: Psi, steps: int) -> dict[tuple[int, int], float]:
    """Of the texts, by carrying the chance of every state from step to step."""
    now = {(2, 2): 1.0}
    for t, s in sampler.grid(steps):
        a_s, a_t = 1 - s, 1 - t
        held = sampler.hold and s == t
        kappa = kappa_of(sampler, a_s, a_t) if held or (not sampler.hold and sampler.low < t <= sampler.high) else 1.0
        hide = (1 - kappa) * (1 - a_s)
        shown = (a_s - a_t + hide * a_t) / (1 - a_t)  # ReMDM, with sigma = hide
        then: dict[tuple[int, int], float] = {}
        for state, p in now.items():
            given = TABLE.given(tuple(None if x == 2 else x for x in state))
            ways = []
            for i, x in enumerate(state):
                if x == 2:
                    ways.append([(2, 1 - shown), *((v, shown * math.exp(given[i][v])) for v in range(2))])
                else:
                    ways.append([(2, hide), (x, 1 - hide)])
            for (a, p_a), (b, p_b) in itertools.product(*ways):
                then[a, b] = then.get((a, b), 0.0) + p * p_a * p_b
        now = then
    return {state: p for state, p in now.items() if p > 1e-15}


SAMPLERS = {
    "little": (Psi(kappa=0.9), 5),
    "much": (Psi(kappa=0.2), 4),
    "between": (Psi(kappa=0.3, high=0.7, low=0.3), 6),
    "from a point of the grid to another": (Psi(kappa=0.3, high=0.75, low=0.25), 4),
    "capped": (Psi(schedule="capped", eta=0.4), 6),
    "rescaled": (Psi(schedule="rescaled", eta=0.7), 6),
    "sigma": (Psi(schedule="sigma", eta=0.2), 6),
    "loop": (Psi(schedule="sigma", eta=0.3, high=0.4, low=0.4, hold=0.5), 12),
    "none": (Psi(kappa=1.0), 5),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_texts_have_the_law_of_the_chain(name: str) -> None:
    rows, (sampler, steps) = 4000, SAMPLERS[name]
    expected = law(sampler, steps)
    assert set(expected) == set(itertools.product(range(2), repeat=2)), "at the end nothing is hidden"
    assert sum(expected.values()) == pytest.approx(1)
    last = fill(sampler, TABLE, [[None] * 2] * rows, family=FAMILY, steps=steps)[-1]
    counts = torch.bincount(last.tokens[:, 0] * 2 + last.tokens[:, 1], minlength=4).numpy()
    assert chisquare(counts, np.array([expected[k] for k in sorted(expected)]) * rows).pvalue > 1e-3
    assert not bool(last.masked.any())


def test_laws_differ() -> None:
    """So that the test above tells the schedules apart."""
    laws = [np.array([law(*s)[k] for k in itertools.product(range(2), repeat=2)]) for s in SAMPLERS.values()]
    for one, two in itertools.combinations(laws, 2):
        assert np.abs(one - two).max() > 1e-4


def test_many_steps_keep_the_joint_law() -> None:
    oracle = Table.of(random_joint(3, 2, seed=1))
    rows, family = 2000, Masked().over(oracle.vocabulary)
    tokens = written(oracle, family, Psi(kappa=0.97), rows, 2, steps=150)
    counts = torch.bincount(tokens[:, 0] * 3 + tokens[:, 1], minlength=9).numpy()
    assert chisquare(counts, random_joint(3, 2, seed=1).flatten().numpy() * rows).pvalue > 1e-3


WORDS = Masked().over(Vocabulary(size=12, mask=11, end=0))


def test_what_is_given_stays_and_what_changed_is_seen() -> None:
    rows, hid = [[3, None, None, 4, None, None], [None] * 3], False
    canvas = Canvas.of(rows)
    before = canvas.tokens.masked_fill(canvas.open, 11)
    steps = fill(Psi(kappa=0.5), tiny(12, 11, sharpness=3.0), rows, family=WORDS, steps=20)
    for step in steps:
        assert torch.equal(step.tokens[~step.changed & canvas.valid], before[~step.changed & canvas.valid])
        assert torch.equal(step.tokens[~canvas.open], canvas.tokens[~canvas.open])
        assert torch.equal(step.masked, (step.tokens == 11) & canvas.open)
        assert bool((step.confidence[step.masked] == 0).all())
        hid = hid or bool((step.changed & step.masked).any())
        before = step.tokens
    assert hid and not bool(steps[-1].masked.any())


def test_hiding_alone_costs_no_pass() -> None:
    model = Counting(tiny(12, 11))
    steps = fill(Psi(kappa=0.4), model, [[None] * 4], family=WORDS, seed=2, steps=60)
    only_hid = [step for step in steps if not bool((step.changed & ~step.masked).any())]
    assert only_hid and model.calls == len(steps) - len(only_hid) == int(steps[-1].calls)


def test_a_text_that_has_ended_is_left_alone() -> None:
    model = tiny(12, 11)
    with torch.no_grad():
        model.lm_head.weight *= 0.0
    steps = fill(Psi(kappa=0.7), model, [[None] * 12] * 8, family=WORDS, steps=30, stop=True)
    left = 0
    for row in range(8):
        complete = [i for i, s in enumerate(steps) if not bool(s.masked[row].any()) and 0 in s.tokens[row].tolist()]
        left += len(steps) - complete[0] - 1 if complete else 0
        assert all(torch.equal(steps[i].tokens[row], steps[-1].tokens[row]) for i in complete)
    assert left > 8 and not bool(steps[-1].masked.any())


def test_it_corrects_from_high_on_and_not_at_low() -> None:
    """Steps begin at 1, 0.75, 0.5 and 0.25; with high 0.75 and low 0.25 the second and the third hide again."""
    steps = fill(Psi(kappa=0.0, high=0.75, low=0.25), tiny(12, 11), [[None] * 12] * 30, family=WORDS, steps=4)
    assert [bool((step.changed & step.masked).any()) for step in steps] == [False, True, True, False]


def test_the_greedy_tail() -> None:
    """In one step there is nothing but the tail."""
    model, rows = tiny(12, 11, sharpness=3.0), [[2, None, None, None]]
    greedy = fill(Psi(tail="greedy"), model, rows, family=WORDS, steps=1)[-1]
    best = fill(Ancestral(), model, rows, family=WORDS, steps=1, temperature=0, seed=5)[-1]
    assert torch.equal(greedy.tokens, best.tokens)


def test_inside_blocks() -> None:
    """A block is final when it is written."""
    model = tiny(12, 11, sharpness=3.0)
    steps = fill(Psi(kappa=0.4), model, [[None] * 8], family=WORDS, seed=1, steps=12, block=4)
    first = [i for i, step in enumerate(steps) if bool(step.changed[0, :4].any())]
    behind = [i for i, step in enumerate(steps) if bool(step.changed[0, 4:].any())]
    assert max(first) < min(behind) and not bool(steps[-1].masked.any())
    assert any(bool((step.changed & step.masked).any()) for step in steps)


def test_every_grid_goes_from_one_to_zero() -> None:
    shares, times = (0.05, 0.3, 0.5, 0.9, 0.99), (0.01, 0.1, 0.5, 0.9, 0.99)
    for held, time, steps in itertools.product(shares, times, (3, 4, 5, 8, 33)):
        grid = Psi(high=time, low=time, hold=held).grid(steps)
        assert len(grid) == steps and grid[0][0] == 1.0 and grid[-1][1] == 0.0
        assert all(t > s or t == s == time for t, s in grid)


def test_shares() -> None:
    """kappa, from what sigma is said to be."""
    assert Psi(schedule="rescaled", eta=0.5).corrected_kappa(0.9, 0.8) == pytest.approx(1 - 0.5 * (0.1 / 0.8) / 0.1)
    assert Psi(schedule="capped", eta=0.5).corrected_kappa(0.9, 0.8) == 0.0
    assert Psi(schedule="capped", eta=0.05).corrected_kappa(0.6, 0.5) == pytest.approx(1 - 0.05 / 0.4)
    assert Psi(schedule="sigma", eta=0.1).corrected_kappa(0.6, 0.0) == pytest.approx(1 - 0.1 / 0.4)
    assert Psi(schedule="sigma", eta=0.1).corrected_kappa(1.0, 0.9) == 1.0


def test_grids() -> None:
    assert Psi().grid(4) == [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    grid = Psi(high=0.1, low=0.1, hold=0.5).grid(256)
    assert len(grid) == 256 and grid[0][0] == 1.0 and grid[-1][1] == 0.0
    assert sum(t == s for t, s in grid) == 128 and all(t == 0.1 for t, s in grid if t == s)
    assert sum(t > 0.1 for t, _ in grid) == 115, "as published: 45 % down to 0.1"


def test_options() -> None:
    for options, says in [
        ({"schedule": "loop"}, "unknown schedule 'loop'. Known: capped, constant, rescaled, sigma"),
        ({"eta": 2.0}, "eta is 2.0"),
        ({"hold": 1.0}, "hold is 1.0"),
        ({"hold": 0.5}, "needs low = high"),
        ({"kappa": -0.1}, "kappa is -0.1"),
        ({"low": 0.5, "high": 0.4}, "low and high are 0.5 and 0.4"),
        ({"tail": "gready"}, "unknown tail 'gready'. Did you mean 'greedy'"),
        ({"hold": 0.5, "high": 0.0}, "between 0 and 1"),
    ]:
        with pytest.raises(RemaskError, match=says):
            Psi(**options)


def test_holding_needs_three_steps() -> None:
    with pytest.raises(RemaskError, match="holding time still needs at least 3 steps"):
        begin(Psi(hold=0.5, high=0.5, low=0.5), [[None] * 4], family=WORDS, steps=2)


def test_its_rule_has_no_likelihood() -> None:
    for params in (how(Psi()), how(Psi(), block=1)):
        with pytest.raises(RemaskError, match="Psi writes positions more than once, so its rule has no likelihood"):
            score(tiny(12, 11), WORDS, [Request([1, 2])], estimator="rule", params=params)
