"""Psi sampling of masked families, which is remasking, against the law of its Markov chain, worked out by states."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tables import Counting, Table, random_joint, tiny

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.likelihood import Text, score
from remask.sampling import Canvas, Dice, Pen
from remask.sampling.ancestral import Ancestral
from remask.sampling.blockwise import Blockwise
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


def law(sampler: Psi) -> dict[tuple[int, int], float]:
    """Of the texts, by carrying the chance of every state from step to step."""
    now = {(2, 2): 1.0}
    for t, s in sampler.grid():
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
    "little": Psi(steps=5, kappa=0.9),
    "much": Psi(steps=4, kappa=0.2),
    "between": Psi(steps=6, kappa=0.3, high=0.7, low=0.3),
    "from a point of the grid to another": Psi(steps=4, kappa=0.3, high=0.75, low=0.25),
    "capped": Psi(steps=6, schedule="capped", eta=0.4),
    "rescaled": Psi(steps=6, schedule="rescaled", eta=0.7),
    "sigma": Psi(steps=6, schedule="sigma", eta=0.2),
    "loop": Psi(steps=12, schedule="sigma", eta=0.3, high=0.4, low=0.4, hold=0.5),
    "none": Psi(steps=5, kappa=1.0),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_texts_have_the_law_of_the_chain(name: str) -> None:
    rows, expected = 6000, law(SAMPLERS[name])
    assert set(expected) == set(itertools.product(range(2), repeat=2)), "at the end nothing is hidden"
    assert sum(expected.values()) == pytest.approx(1)
    *_, last = SAMPLERS[name].stream(TABLE, FAMILY, Canvas.of([[None] * 2] * rows), Dice(0, rows))
    counts = torch.bincount(last.tokens[:, 0] * 2 + last.tokens[:, 1], minlength=4).numpy()
    assert chisquare(counts, np.array([expected[k] for k in sorted(expected)]) * rows).pvalue > 1e-3
    assert not bool(last.masked.any())


def test_laws_differ() -> None:
    """So that the test above tells the schedules apart."""
    laws = [np.array([law(s)[k] for k in itertools.product(range(2), repeat=2)]) for s in SAMPLERS.values()]
    for one, two in itertools.combinations(laws, 2):
        assert np.abs(one - two).max() > 1e-4


def test_many_steps_keep_the_joint_law() -> None:
    oracle = Table.of(random_joint(3, 2, seed=1))
    rows = 4000
    sampler = Psi(steps=150, kappa=0.97)
    *_, last = sampler.stream(oracle, Masked().over(oracle.vocabulary), Canvas.of([[None] * 2] * rows), Dice(0, rows))
    counts = torch.bincount(last.tokens[:, 0] * 3 + last.tokens[:, 1], minlength=9).numpy()
    assert chisquare(counts, random_joint(3, 2, seed=1).flatten().numpy() * rows).pvalue > 1e-3


WORDS = Vocabulary(size=12, mask=11, end=0)


def test_what_is_given_stays_and_what_changed_is_told() -> None:
    model, family = tiny(12, 11, sharpness=3.0), Masked().over(WORDS)
    canvas = Canvas.of([[3, None, None, 4, None, None], [None] * 3])
    before, hid = canvas.tokens.masked_fill(canvas.open, 11), False
    for step in Psi(steps=20, kappa=0.5).stream(model, family, canvas, Dice(0, 2)):
        assert torch.equal(step.tokens[~step.changed & canvas.valid], before[~step.changed & canvas.valid])
        assert torch.equal(step.tokens[~canvas.open], canvas.tokens[~canvas.open])
        assert torch.equal(step.masked, (step.tokens == 11) & canvas.open)
        assert bool((step.confidence[step.masked] == 0).all())
        hid = hid or bool((step.changed & step.masked).any())
        before = step.tokens
    assert hid and not bool(step.masked.any())


def test_hiding_alone_costs_no_pass() -> None:
    model = Counting(tiny(12, 11))
    canvas = Canvas.of([[None] * 4])
    steps = list(Psi(steps=60, kappa=0.4).stream(model, Masked().over(WORDS), canvas, Dice(2, 1)))
    only_hid = [step for step in steps if not bool((step.changed & ~step.masked).any())]
    assert only_hid and model.calls == len(steps) - len(only_hid) == int(steps[-1].evaluations)


def test_a_text_that_has_ended_is_left_alone() -> None:
    model, family = tiny(12, 11), Masked().over(WORDS)
    with torch.no_grad():
        model.lm_head.weight *= 0.0
    canvas = Canvas(*(x.repeat(8, 1) for x in vars(Canvas.of([[None] * 12])).values() if x is not None), end=0)
    steps = list(Psi(steps=30, kappa=0.7).stream(model, family, canvas, Dice(0, 8)))
    left = 0
    for row in range(8):
        complete = [i for i, s in enumerate(steps) if not bool(s.masked[row].any()) and 0 in s.tokens[row].tolist()]
        left += len(steps) - complete[0] - 1 if complete else 0
        assert all(torch.equal(steps[i].tokens[row], steps[-1].tokens[row]) for i in complete)
    assert left > 8 and not bool(steps[-1].masked.any())


def test_it_corrects_from_high_on_and_not_at_low() -> None:
    """Steps begin at 1, 0.75, 0.5 and 0.25; with high 0.75 and low 0.25 the second and the third hide again."""
    model, family, canvas = tiny(12, 11), Masked().over(WORDS), Canvas.of([[None] * 12] * 30)
    steps = list(Psi(steps=4, kappa=0.0, high=0.75, low=0.25).stream(model, family, canvas, Dice(0, 30)))
    assert [bool((step.changed & step.masked).any()) for step in steps] == [False, True, True, False]


def test_the_greedy_tail() -> None:
    """In one step there is nothing but the tail."""
    model, family = tiny(12, 11, sharpness=3.0), Masked().over(WORDS)
    canvas = Canvas.of([[2, None, None, None]])
    *_, greedy = Psi(steps=1, tail="greedy").stream(model, family, canvas, Dice(0, 1))
    *_, best = Ancestral(steps=1, pen=Pen(temperature=0)).stream(model, family, canvas, Dice(5, 1))
    assert torch.equal(greedy.tokens, best.tokens)


def test_inside_blocks() -> None:
    """A block is final when it is written."""
    model, family = tiny(12, 11, sharpness=3.0), Masked().over(WORDS)
    canvas = Canvas.of([[None] * 8])
    steps = list(Blockwise(inner=Psi(steps=6, kappa=0.4), size=4).stream(model, family, canvas, Dice(1, 1)))
    first = [step for step in steps if bool(step.changed[0, :4].any())]
    behind = [i for i, step in enumerate(steps) if bool(step.changed[0, 4:].any())]
    assert len(first) <= min(behind) and not bool(steps[-1].masked.any())


@pytest.mark.parametrize("held", [0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("time", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_every_grid_goes_from_one_to_zero(held: float, time: float) -> None:
    for steps in (3, 4, 5, 8, 33):
        grid = Psi(steps=steps, high=time, low=time, hold=held).grid()
        assert len(grid) == steps and grid[0][0] == 1.0 and grid[-1][1] == 0.0
        assert all(t > s or t == s == time for t, s in grid)


def test_shares() -> None:
    """kappa, from what sigma is said to be."""
    assert Psi(schedule="rescaled", eta=0.5).share(0.9, 0.8) == pytest.approx(1 - 0.5 * (0.1 / 0.8) / 0.1)
    assert Psi(schedule="capped", eta=0.5).share(0.9, 0.8) == 0.0
    assert Psi(schedule="capped", eta=0.05).share(0.6, 0.5) == pytest.approx(1 - 0.05 / 0.4)
    assert Psi(schedule="sigma", eta=0.1).share(0.6, 0.0) == pytest.approx(1 - 0.1 / 0.4)
    assert Psi(schedule="sigma", eta=0.1).share(1.0, 0.9) == 1.0


def test_grids() -> None:
    assert Psi(steps=4).grid() == [(1.0, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0.0)]
    grid = Psi(steps=256, high=0.1, low=0.1, hold=0.5).grid()
    assert len(grid) == 256 and grid[0][0] == 1.0 and grid[-1][1] == 0.0
    assert sum(t == s for t, s in grid) == 128 and all(t == 0.1 for t, s in grid if t == s)
    assert sum(t > 0.1 for t, _ in grid) == 115, "as published: 45 % down to 0.1"


@pytest.mark.parametrize(
    ("options", "says"),
    [({"schedule": "loop"}, "unknown schedule 'loop'. Known: capped, constant, rescaled, sigma"),
     ({"eta": 2.0}, "eta is 2.0"), ({"hold": 1.0}, "hold is 1.0"), ({"hold": 0.5}, "needs low = high"),
     ({"hold": 0.5, "high": 0.0}, "between 0 and 1"),
     ({"hold": 0.5, "high": 0.5, "low": 0.5, "steps": 2}, "holding needs 3")],
)  # fmt: skip
def test_options(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Psi(**options)


def test_its_rule_has_no_likelihood() -> None:
    with pytest.raises(RemaskError, match="Psi writes positions more than once, so its rule has no likelihood"):
        score(tiny(12, 11), Masked().over(WORDS), [Text([1, 2])], estimator="rule", sampler=Psi())
    with pytest.raises(RemaskError, match="Blockwise writes positions more than once"):
        blocks = Blockwise(inner=Psi(), size=1)
        score(tiny(12, 11), Masked().over(WORDS), [Text([1, 2])], estimator="rule", sampler=blocks)
