"""What is written at a chosen position: temperature, cuts, and the inverse of the cumulative distribution."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, rng

from remask.sampling.drawing import invert, log_prob, log_probs

LOGITS = st.lists(st.floats(-8, 8, width=32, allow_subnormal=False), min_size=2, max_size=9)
NEARLY_ONE = 1 - 2**-53


def draw(found: torch.Tensor, uniform: float) -> int:
    """The token that (1, V) log-probabilities and a uniform give."""
    return int(invert(found, torch.tensor([uniform], dtype=torch.float64)))


@UNHURRIED
@given(logits=LOGITS, temperature=st.floats(0.05, 5), top_p=st.floats(0.01, 1), top_k=st.integers(0, 12))
def test_a_distribution_over_the_most_probable_that_keep_their_odds(
    logits: list[float], temperature: float, top_p: float, top_k: int
) -> None:
    raw = torch.tensor([logits])
    found = log_probs(raw, temperature, top_p, top_k)[0]
    p = found.exp()
    assert found.dtype == torch.float64
    assert float(p.sum()) == pytest.approx(1)
    assert raw[0][p.argmax()] == raw[0].max()
    kept, left = raw[0][p > 0].double(), raw[0][p == 0].double()
    if len(left) and float((raw[0].double() / temperature).log_softmax(-1).min()) > -700:
        assert float(kept.min()) >= float(left.max())
    ratio = (found[p > 0] - found[p > 0][0]) - (kept - kept[0]) / temperature
    assert float(ratio.abs().max()) < 1e-6


@UNHURRIED
@given(logits=LOGITS, top_p=st.floats(0.01, 1, exclude_max=True))
def test_top_p_keeps_the_fewest_that_reach_it(logits: list[float], top_p: float) -> None:
    raw = torch.tensor([logits], dtype=torch.float64)
    p, kept = raw.softmax(-1)[0], log_probs(raw, top_p=top_p)[0] > -torch.inf
    assert float(p[kept].sum()) >= top_p - 1e-9
    assert float(p[kept].sum() - p[kept].min()) < top_p + 1e-9


@UNHURRIED
@given(logits=st.lists(st.integers(-20, 20), min_size=2, max_size=9, unique=True), top_k=st.integers(0, 12))
def test_top_k_keeps_k(logits: list[int], top_k: int) -> None:
    kept = log_probs(torch.tensor([logits]).float(), top_k=top_k) > -torch.inf
    assert int(kept.sum()) == (min(top_k, len(logits)) if top_k else len(logits))


@UNHURRIED
@given(logits=LOGITS)
def test_temperature_zero_leaves_the_most_probable(logits: list[float]) -> None:
    found, best = log_probs(torch.tensor([logits]), temperature=0), torch.tensor(logits).argmax()
    assert found.exp()[0].tolist() == torch.nn.functional.one_hot(best, len(logits)).tolist()
    assert draw(found, 0.0) == draw(found, NEARLY_ONE) == best


@UNHURRIED
@given(
    logits=LOGITS,
    dead=st.sets(st.integers(0, 8), max_size=8),
    uniform=st.one_of(st.floats(0, 1, exclude_max=True), st.sampled_from([0.0, NEARLY_ONE])),
)
def test_a_draw_inverts_the_cumulative_distribution(logits: list[float], dead: set[int], uniform: float) -> None:
    """And never gives what has no probability, at either end of the unit interval."""
    row = torch.tensor([logits])
    dead = {i for i in dead if i < len(logits)}
    if len(dead) == len(logits):
        dead.pop()
    row[0, list(dead)] = -torch.inf
    found = log_probs(row)
    token = draw(found, uniform)
    assert token not in dead
    edges = [0.0, *found[0].exp().cumsum(0).tolist()]
    assert edges[token] - 1e-9 <= uniform <= edges[token + 1] + 1e-9


OPTIONS: list[dict[str, Any]] = [
    {"temperature": t, "top_p": p, "top_k": k}
    for t, p, k in [
        (1.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 0.8, 0), (1.0, 1.0, 3), (0.0, 1.0, 0), (0.0, 0.5, 2), (3.0, 0.6, 4),
        (0.1, 0.999999, 0), (1.3, 0.9, 1), (1.0, 1.0, 50), (1e6, 0.3, 0), (1e-6, 1.0, 0), (2.0, 0.5, 5),
    ]
]  # fmt: skip


@pytest.mark.parametrize("sharpness", [1.0, 8.0, 60.0])
def test_options_that_differ_by_row_give_what_each_row_has_alone(sharpness: float) -> None:
    logits = sharpness * torch.randn(len(OPTIONS), 20, generator=rng(3))
    logits[:, 7] = -torch.inf  # as the mask is
    number = {
        name: torch.tensor([row[name] for row in OPTIONS], dtype=torch.int64 if name == "top_k" else torch.float64)
        for name in ("temperature", "top_p", "top_k")
    }
    tokens = torch.arange(len(OPTIONS)) % 20
    every, nats = log_probs(logits, **number), log_prob(logits, tokens, **number)
    for i, row in enumerate(OPTIONS):
        alone = log_probs(logits[i : i + 1], **row)
        torch.testing.assert_close(every[i : i + 1], alone, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(nats[i], alone[0, tokens[i]], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            log_prob(logits[i : i + 1], tokens[i : i + 1], **row)[0], alone[0, tokens[i]], rtol=1e-5, atol=1e-5
        )


def test_one_option_by_row_leaves_the_others_to_all() -> None:
    logits = torch.randn(2, 6, generator=rng(0))
    for name, values in (("temperature", [0.5, 2.0]), ("top_p", [0.4, 1.0]), ("top_k", [0, 2])):
        every = log_probs(logits, **{"temperature": 1.5, "top_k": 4, name: torch.tensor(values)})  # type: ignore[arg-type]
        for row, value in enumerate(values):
            alone = log_probs(logits[row : row + 1], **{"temperature": 1.5, "top_k": 4, name: value})  # type: ignore[arg-type]
            torch.testing.assert_close(every[row : row + 1], alone, rtol=1e-6, atol=1e-6)
        best = logits.argmax(-1)
        nats = log_prob(logits, best, **{name: torch.tensor(values)})  # type: ignore[arg-type]
        for row, value in enumerate(values):
            alone = log_prob(logits[row : row + 1], best[row : row + 1], **{name: value})  # type: ignore[arg-type]
            torch.testing.assert_close(nats[row : row + 1], alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("options", [{"top_k": 3}, {"top_p": 0.5}, {"temperature": 0.0}], ids=str)
def test_of_equal_predictions_the_first_are_kept_alone_and_by_row(options: dict[str, Any]) -> None:
    """Predictions in half precision are often equal, and a text may not depend on its neighbours' options."""
    logits = torch.zeros(1, 40)
    logits[0, [5, 11]] = 1.0
    alone = log_probs(logits, **options)
    ((name, value),) = options.items()
    beside = log_probs(logits.expand(2, -1), **{name: torch.tensor([value, 1])})[:1]
    assert torch.equal(alone > -torch.inf, beside > -torch.inf)
    torch.testing.assert_close(alone, beside, rtol=1e-6, atol=1e-6)


def test_nothing_is_cut_where_nothing_is_asked_to_be() -> None:
    """A top_p of 1 beside another row's smaller one: the most improbable token stays possible."""
    logits = torch.tensor([[0.0, -50.0, -60.0]]).expand(2, -1)
    found = log_probs(logits, top_p=torch.tensor([1.0, 0.5], dtype=torch.float64))
    assert found[0].tolist() == pytest.approx([0.0, -50.0, -60.0])
    assert found[1].tolist() == [0.0, -torch.inf, -torch.inf]
