"""Uniform-state diffusion against enumeration: two positions, three ids, and an oracle that knows the joint law."""

import itertools
import math
from pathlib import Path
from typing import Any

import killing
import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tables import random_joint, rng, steps_of
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.nelbo import Nelbo, nelbo
from remask.families.uniform import Uniform, posterior
from remask.sampling import Canvas, SamplingParams, start
from remask.sampling.ancestral import Ancestral
from remask.sampling.psi import Psi
from remask.vocabulary import Vocabulary

K, L = 3, 2
JOINT = random_joint(K, L, seed=3, sharpness=1.5)
FAMILY = Uniform().over(Vocabulary(size=K))
TEXTS = torch.tensor(list(itertools.product(range(K), repeat=L)))


def passage(alpha: Tensor) -> Tensor:
    """(B,) alpha -> (B, K, K): the chance that a clean id (row) is seen as another (column)."""
    return alpha[:, None, None] * torch.eye(K, dtype=torch.float64) + (1 - alpha[:, None, None]) / K


class Oracle:
    """The exact law of x_i given the noisy tokens: of the others alone, or of all (`ordinary`)."""

    def __init__(self, ordinary: bool = False) -> None:
        self.ordinary = ordinary

    def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, time: Tensor, **reading: Any) -> Tensor:
        alpha = 1 - (1 - FAMILY.eps) * time.double()
        seen = passage(alpha)  # (B, clean, noisy)
        rows = torch.arange(len(tokens))
        like = [seen[rows, :, tokens[:, i]] for i in range(L)]  # (B, clean)
        first = (JOINT[None] * like[1][:, None, :]).sum(2)
        second = (JOINT[None] * like[0][:, :, None]).sum(1)
        found = torch.stack([first, second], 1)  # leave-one-out
        if self.ordinary:
            found = found * torch.stack(like, 1)
        logits = (found / found.sum(-1, keepdim=True)).log()
        return logits if ask is None else logits[ask]


def expected(denoiser: Oracle) -> float:
    """Mean over texts, times and all noise of the bound, by enumeration and quadrature."""
    nodes, shares = np.polynomial.legendre.leggauss(48)
    total = 0.0
    for node, share in zip(nodes, shares, strict=True):
        u = (node + 1) / 2
        t, jacobian = torch.tensor(u**2), 2 * u  # finer where time is small
        alpha = 1 - (1 - FAMILY.eps) * t
        chance = passage(alpha[None])[0]
        for z in TEXTS:
            log = denoiser(z[None], time=t[None])[0]
            for x in TEXTS:
                weight = JOINT[tuple(x)] * chance[x[0], z[0]] * chance[x[1], z[1]]
                value = nelbo(log, x, z, alpha.expand(L), -(1 - FAMILY.eps)).sum()
                total += float(weight * value) * jacobian * share / 2
    return total


def test_the_bound_is_tight_for_the_leave_one_out_oracle_alone() -> None:
    """The entropy, to quadrature and to the prior at alpha = 1e-3; with the ordinary posterior it is above."""
    entropy = -float((JOINT * JOINT.log()).sum())
    assert expected(Oracle()) == pytest.approx(entropy, abs=2e-3)
    assert expected(Oracle(ordinary=True)) > entropy + 0.05


def test_a_draw_is_unbiased() -> None:
    """The mean of many draws of one text against the sum over noise."""
    draws = 60000
    x = torch.tensor([[2, 0]]).expand(draws, L)
    batch = Batch(x, torch.ones_like(x, dtype=torch.bool))
    values = FAMILY.bound(Oracle(), batch, rng(0))
    nodes, shares = np.polynomial.legendre.leggauss(48)
    truth = 0.0
    for node, share in zip(nodes, shares, strict=True):
        u = (node + 1) / 2
        t = torch.tensor(u**2)
        alpha = 1 - (1 - FAMILY.eps) * t
        chance = passage(alpha[None])[0]
        for z in TEXTS:
            value = nelbo(Oracle()(z[None], time=t[None])[0], x[0], z, alpha.expand(L), -(1 - FAMILY.eps)).sum()
            truth += float(value * chance[x[0, 0], z[0]] * chance[x[0, 1], z[1]]) * 2 * u * share / 2
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(draws)


def test_the_loss_is_the_bound_per_token() -> None:
    """But for the prior's term and the least time: the same noise gives the same sum."""
    x = TEXTS.repeat(5, 1)
    scored = torch.ones_like(x, dtype=torch.bool)
    scored[::3, 0] = False
    batch = Batch(x, scored)
    family = Uniform(t_min=0.0).over(FAMILY.vocabulary)
    loss, bound = family.loss(Oracle(), batch, rng(4)), family.bound(Oracle(), batch, rng(4))
    prior = FAMILY.last_term() * int(scored.sum())
    assert loss.tokens == int(scored.sum())
    assert float(loss.total) == pytest.approx(float(bound.sum()) - prior, rel=1e-5)
    late = Uniform(t_min=0.9).over(FAMILY.vocabulary).loss(Oracle(), batch, rng(4))
    assert float(late.per_token()) != pytest.approx(float(loss.per_token()), rel=1e-3)


def test_the_term_of_the_prior() -> None:
    law = passage(torch.tensor([FAMILY.eps], dtype=torch.float64))[0, 0]
    assert FAMILY.last_term() == pytest.approx(float((law * (K * law).log()).sum()))
    published = Uniform().over(Vocabulary(50258))
    assert published.last_term() == pytest.approx(0.0030, abs=1e-4)


def test_a_step_is_told_the_time_it_starts_from_and_adds_up_its_draws() -> None:
    told, asked = [], []

    class Recording(Oracle):
        def __call__(self, tokens: Tensor, *, ask: Tensor | None = None, time: Tensor, **reading: Any) -> Tensor:
            told.append(time.tolist())
            asked.append(tokens.clone())
            return super().__call__(tokens, ask=ask, time=time, **reading)

    steps = steps_of(Recording(), FAMILY, Canvas.of([[None] * L] * 2), Ancestral(), steps=4)
    assert told == [[1.0, 1.0], [0.75, 0.75], [0.5, 0.5], [0.25, 0.25]]
    total = torch.zeros(2, dtype=torch.float64)
    for before, step, (t, s) in zip(asked, steps, [(1, 0.75), (0.75, 0.5), (0.5, 0.25), (0.25, 0)], strict=True):
        p = Oracle()(before, time=torch.full((2,), float(t))).softmax(-1)
        q = posterior(before, p, FAMILY.alpha(s), FAMILY.alpha(t))
        total += q.gather(-1, step.tokens[..., None])[..., 0].log().sum(1)
        torch.testing.assert_close(step.log_prob, total, rtol=1e-6, atol=1e-9)


def test_sampling_starts_from_the_prior() -> None:
    rows, first = 6000, []

    class Recording(Oracle):
        def __call__(self, tokens: Tensor, **reading: Any) -> Tensor:
            first.append(tokens.clone())
            return super().__call__(tokens, **reading)

    steps_of(Recording(), FAMILY, Canvas.of([[None] * L] * rows), Ancestral(), steps=1)
    counts = torch.bincount(first[0][:, 0] * K + first[0][:, 1], minlength=K**L).numpy()
    assert chisquare(counts).pvalue > 1e-3


def test_no_text_can_be_forced_on_what_is_revised() -> None:
    canvas = Canvas.of([[None] * L])
    with pytest.raises(RemaskError, match=r"Uniform models revise what they have written.*leave forced out"):
        start(FAMILY, canvas, SamplingParams(sampler=Ancestral()), forced=torch.zeros(1, L, dtype=torch.int64))


def test_blocks_are_not_for_what_is_revised() -> None:
    with pytest.raises(RemaskError, match=r"Uniform models revise every position until the end.*leave block out"):
        steps_of(Oracle(), FAMILY, Canvas.of([[None] * L]), Ancestral(), block=1)


def test_noise_has_the_stated_law() -> None:
    rows = 40000
    x = torch.zeros(rows, L, dtype=torch.int64)
    batch = Batch(x, torch.tensor([True, False]).expand(rows, L))
    noisy = FAMILY.corrupt(batch, rng(1), torch.full((rows,), 0.4))
    alpha = FAMILY.alpha(0.4)
    counts = torch.bincount(noisy.tokens[:, 0], minlength=K).numpy()
    law = np.array([alpha + (1 - alpha) / K, (1 - alpha) / K, (1 - alpha) / K])
    assert chisquare(counts, law * rows).pvalue > 1e-3
    assert not bool(noisy.tokens[:, 1].any()), "what is not scored stays as it is"
    assert torch.equal(noisy.ask, batch.scored)


def test_sampling_with_many_steps_gives_the_joint_law() -> None:
    rows = 4000
    canvas = Canvas.of([[None] * L] * rows)
    *_, last = steps_of(Oracle(), FAMILY, canvas, Ancestral(), steps=96)
    counts = torch.bincount(last.tokens[:, 0] * K + last.tokens[:, 1], minlength=K**L).numpy()
    assert chisquare(counts, JOINT.flatten().numpy() * rows).pvalue > 1e-3


@pytest.mark.parametrize("sampler", [Psi(kappa=0.98), Psi(kappa=0.97, high=0.8, low=0.2)], ids=["all along", "between"])
def test_little_correction_keeps_the_joint_law(sampler: Psi) -> None:
    """Exact as kappa goes to 1 with the steps; far from it the positions of a step lose what ties them."""
    rows = 3000
    *_, last = steps_of(Oracle(), FAMILY, Canvas.of([[None] * L] * rows), sampler, seed=1, steps=200)
    counts = torch.bincount(last.tokens[:, 0] * K + last.tokens[:, 1], minlength=K**L).numpy()
    assert chisquare(counts, JOINT.flatten().numpy() * rows).pvalue > 1e-3


def test_without_correction_psi_is_ancestral_and_its_greedy_tail_takes_the_most_probable() -> None:
    canvas = Canvas.of([[None] * L] * 50)
    plain = steps_of(Oracle(), FAMILY, canvas, Ancestral(), steps=6)
    same = steps_of(Oracle(), FAMILY, canvas, Psi(kappa=1.0), steps=6)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(plain, same, strict=True))
    greedy = steps_of(Oracle(), FAMILY, canvas, Psi(kappa=1.0, tail="greedy"), steps=6)
    best = Oracle()(greedy[-2].tokens, time=torch.full((50,), 1 / 6)).argmax(-1)
    assert torch.equal(greedy[-1].tokens, best) and not bool(greedy[-1].masked.any())
    assert torch.equal(greedy[-1].log_prob, greedy[-2].log_prob), "what is not drawn has probability 1"
    assert bool((greedy[-1].confidence == 1).all())


@pytest.mark.parametrize(
    ("options", "says"),
    [({"kappa": 1.1}, "kappa is 1.1"), ({"low": 0.6, "high": 0.5}, "low and high are"),
     ({"tail": "cut"}, "unknown tail 'cut'. Known: ancestral, greedy")],
)  # fmt: skip
def test_options_of_psi(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Psi(**options)


@pytest.mark.parametrize(("s", "t"), [(0.9, 0.2), (0.5, 0.49), (1.0, 0.3), (0.3, 0.001)])
def test_posterior_is_bayes_rule(s: float, t: float) -> None:
    """q(z_s | z_t, x) from the two passages, for known x; and it sums to one for any prediction."""
    a_s, ratio = torch.tensor([s], dtype=torch.float64), torch.tensor([t / s], dtype=torch.float64)
    to_s, on_to_t = passage(a_s)[0], passage(ratio)[0]
    for x, z in itertools.product(range(K), repeat=2):
        joint = to_s[x] * on_to_t[:, z]
        one = torch.nn.functional.one_hot(torch.tensor([x]), K).double()
        found = posterior(torch.tensor([z]), one, s, t)[0]
        torch.testing.assert_close(found, joint / joint.sum())
    p = torch.rand(5, K, dtype=torch.float64, generator=rng(0))
    p = p / p.sum(1, keepdim=True)
    found = posterior(torch.randint(0, K, (5,), generator=rng(1)), p, s, t)
    torch.testing.assert_close(found.sum(1), torch.ones(5, dtype=torch.float64))
    assert bool((found >= 0).all())


@pytest.mark.parametrize(("s", "t"), [(0.0, 0.3), (0.5, 0.6), (0.2, 1.0)])
def test_the_mixture_is_the_posterior(s: float, t: float) -> None:
    p = torch.rand(6, K, dtype=torch.float64, generator=rng(2))
    p, z = p / p.sum(1, keepdim=True), torch.arange(6) % K
    keep, fresh, predicted = FAMILY.posterior_weights(p.gather(1, z[:, None])[:, 0], s, t)
    found = fresh[:, None] / K + predicted[:, None] * p
    found = found.scatter_add(1, z[:, None], keep[:, None])
    torch.testing.assert_close(found, posterior(z, p, FAMILY.alpha(s), FAMILY.alpha(t)))
    torch.testing.assert_close(keep + fresh + predicted, torch.ones(6, dtype=torch.float64))


def test_no_noise_taken_away_changes_nothing() -> None:
    p = torch.full((K, K), 1 / K, dtype=torch.float64)
    torch.testing.assert_close(posterior(torch.arange(K), p, 0.4, 0.4), torch.eye(K, dtype=torch.float64))


@pytest.mark.parametrize(("rows", "symbols"), [(7, 5), (1, 2), (40, 30000)])
def test_the_gradient_by_hand(rows: int, symbols: int) -> None:
    """Value and gradient of the form that trains against the plain formula and torch's own gradient of it."""
    logits = 2 * torch.randn(rows, symbols, dtype=torch.float64, generator=rng(0))
    x = torch.randint(0, symbols, (rows,), generator=rng(1))
    z = torch.where(torch.rand(rows, generator=rng(2)) < 0.5, x, torch.randint(0, symbols, (rows,), generator=rng(3)))
    alpha = torch.rand(rows, dtype=torch.float64, generator=rng(4)).clamp(1e-3, 1 - 2**-24)
    share = torch.randn(rows, dtype=torch.float64, generator=rng(5))
    one, two = (logits.clone().requires_grad_() for _ in range(2))
    plain, fused = nelbo(one, x, z, alpha, -0.999), Nelbo.apply(two, x, z, alpha, -0.999)
    torch.testing.assert_close(fused, plain)
    (plain * share).sum().backward()
    (fused * share).sum().backward()
    torch.testing.assert_close(two.grad, one.grad)
    with pytest.raises(TypeError):
        fused.sum().backward()


def test_the_loss_keeps_one_tensor_beside_the_logits(tmp_path: Path) -> None:
    """Peak memory of a process that takes the loss and its gradient, with 256 MiB of logits."""
    program = """
import resource, torch
from remask.families.nelbo import Nelbo
rows, k = 2048, 32768
logits = torch.zeros(rows, k).normal_().requires_grad_()
x, z, alpha = torch.arange(rows), torch.arange(rows) + torch.arange(rows) % 2, torch.full((rows,), 0.5)
Nelbo.apply(logits[:8], x[:8], z[:8], alpha[:8], -1.0).sum().backward()
logits.grad = None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
Nelbo.apply(logits, x, z, alpha, -1.0).sum().backward()
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (rows * k * 4))
"""
    printed = killing.output_of(program, tmp_path / "log").splitlines()[-1]
    assert 0 < float(printed) < 1.2, "tensors of the size of the logits beside them"


def test_a_perfect_prediction_costs_nothing() -> None:
    logits = 60.0 * torch.eye(K, dtype=torch.float64)
    x, z = TEXTS.T
    alpha = torch.full((len(x),), 0.6, dtype=torch.float64)
    assert float(nelbo(logits[x], x, z, alpha, -1.0).abs().max()) < 1e-12


@pytest.mark.parametrize("t", [0.0, 1e-8, 3e-8, 1e-4])
def test_the_loss_is_finite_where_there_is_no_noise(t: float) -> None:
    x = TEXTS.clone()
    batch = Batch(x, torch.ones_like(x, dtype=torch.bool))
    noisy = FAMILY.corrupt(batch, rng(0), torch.full((len(x),), t))
    logits = torch.randn(len(x), L, K, generator=rng(1))
    found = FAMILY.token_loss(lambda tokens, *, ask, **reading: logits[ask], noisy)  # type: ignore[arg-type]
    assert bool(found.isfinite().all()) and bool((found >= 0).all())


def test_recorded_numbers() -> None:
    """From the reference sheet of the published formula."""
    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0]], dtype=torch.float64).expand(5, 4)
    x, z = torch.tensor([2, 1, 0, 2, 3]), torch.tensor([2, 2, 3, 2, 3])
    alpha = torch.tensor([0.3, 0.3, 0.7, 0.7, 0.05], dtype=torch.float64)
    truth = [0.11047186051339802, 1.7488099749927908, 5.361008346614395, 0.10820439047709968, 0.43449049253280647]
    assert nelbo(logits, x, z, alpha, -0.999).tolist() == pytest.approx(truth, rel=1e-12)
    q = posterior(z[:1], logits[:1].softmax(-1), 0.5, 0.3)[0]
    assert q.tolist() == pytest.approx([0.04578597, 0.06612124, 0.84978775, 0.03830504], abs=1e-8)


@pytest.mark.parametrize("eps", [0.0, 1.0, -1.0, math.nan])
def test_eps_is_checked(eps: float) -> None:
    with pytest.raises(RemaskError, match="eps is"):
        Uniform(eps=eps)
