"""The Gaussian noise behind uniform diffusion, against brute force: whole vectors of noise, and quadrature by scipy."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import chisquare, kstest, norm
from tables import rng, tiny
from torch import Tensor

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.latent import Latent, Operator, distinct, gamma_of, operator, operator_of, soft_and_label
from remask.families.uniform import Uniform
from remask.model.soft import Soft
from remask.vocabulary import Vocabulary


def uniforms(rows: int, n: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, 1, 2 * n + 1, generator=rng(seed), dtype=torch.float64)


@pytest.mark.parametrize("k", [2, 7, 300])
@pytest.mark.parametrize("gamma", [-4.0, -1.0, 2.0])
def test_operator_against_brute_force(k: int, gamma: float) -> None:
    """The argmax of whole blurred vectors, and scipy's quadrature."""
    rows = 40000
    alpha = float(operator(torch.tensor(gamma), k)[0])
    normal = torch.randn(rows, 1, k, generator=rng(1))
    _, label = soft_and_label(torch.zeros(rows, 1, dtype=torch.int64), k, torch.full((rows,), gamma), 1.0, normal)
    counts = torch.bincount(label[:, 0], minlength=k).numpy()
    law = (1 - alpha) / k + alpha * (np.arange(k) == 0)
    enough = law * rows > 5
    if enough.all():
        assert chisquare(counts, law * rows).pvalue > 1e-3
    chance = (alpha * (k - 1) + 1) / k
    assert abs(counts[0] / rows - chance) < 4 * math.sqrt(chance * (1 - chance) / rows) + 1e-9
    mu = math.exp(-gamma / 2)
    truth = quad(lambda z: norm.pdf(z - mu) * norm.cdf(z) ** (k - 1), mu - 12, mu + 12, epsabs=1e-12, limit=500)[0]
    assert chance == pytest.approx(truth, abs=1e-9)


@pytest.mark.parametrize("k", [2, 8192, 131072])
def test_slope_is_the_derivative(k: int) -> None:
    gamma, step = torch.linspace(-6, 3, 40, dtype=torch.float64), 1e-5
    slope = (operator(gamma + step, k)[0] - operator(gamma - step, k)[0]) / (2 * step)
    torch.testing.assert_close(operator(gamma, k)[1], slope, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(Operator(k, -6.0, 3.0)(gamma)[1], slope, rtol=1e-6, atol=1e-9)


def test_outside_its_table_the_operator_is_computed() -> None:
    table = Operator(50257, -3.5, -1.75)
    gamma = torch.tensor([-9.0, -3.5001, -3.0, -1.7, 6.0])
    for found, truth in zip(table(gamma), operator(gamma, 50257), strict=True):
        torch.testing.assert_close(found, truth, rtol=1e-10, atol=1e-12)
    alpha = table(gamma)[0]
    assert float(alpha[0]) > 0.9999999 and float(alpha[4]) < 1e-4


def test_tables_are_made_once_for_each_vocabulary_and_range() -> None:
    assert operator_of(100, -3.0, -1.0) is operator_of(100, -3.0, -1.0)
    one, two, three = operator_of(100, -3.0, -1.0), operator_of(101, -3.0, -1.0), operator_of(100, -3.0, -1.5)
    assert one is not two and one is not three
    at = torch.tensor(-2.0)
    assert float(one(at)[0]) != float(two(at)[0]) and float(one(at)[0]) == pytest.approx(float(three(at)[0]), abs=1e-12)


@pytest.mark.parametrize("k", [2, 100, 50257])
@pytest.mark.parametrize("alpha", [0.99, 0.5, 0.01])
def test_gamma_of_alpha_is_its_inverse(alpha: float, k: int) -> None:
    assert float(operator(torch.tensor(gamma_of(alpha, k), dtype=torch.float64), k)[0]) == pytest.approx(
        alpha, abs=1e-9
    )


def test_published_values() -> None:
    """Of the reference sheet."""
    for k, gamma, alpha in (
        (50257, -3.55, 0.945474),
        (50257, -1.85, 0.049318),
        (30522, -3, 0.637881),
        (131072, -2, 0.047412),
    ):
        assert float(operator(torch.tensor(float(gamma)), k)[0]) == pytest.approx(alpha, abs=2e-6)


def test_a_range_too_wide_for_a_series_is_computed() -> None:
    gamma = torch.linspace(-30, 30, 200, dtype=torch.float64)
    alpha, slope = Operator(50257, -30.0, 30.0)(gamma)
    torch.testing.assert_close(alpha, operator(gamma, 50257)[0], rtol=0, atol=1e-12)
    assert float(slope.max()) < 1e-9 and float(alpha.min()) > -1e-12


@pytest.mark.parametrize("eps", [1e-3, 0.04])
def test_weight_and_time_belong_to_the_schedule(eps: float) -> None:
    """Whatever the schedule, the weight times its slope is the slope in gamma, and the time has the alpha of gamma."""
    family = Uniform(curriculum=1.0, eps=eps, gamma=(-3.0, -1.6)).over(Vocabulary(size=K))
    batch = batch_of(64, 0.0)
    noisy = family.blur(batch, rng(3))
    gamma = -3.0 + 1.4 * batch.levels(rng(3)).double()
    alpha, slope = operator(gamma, K)
    assert noisy.time is not None
    torch.testing.assert_close(1 - (1 - eps) * noisy.time.double(), alpha, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(noisy.weight.view(64, 4)[:, 0].double() * -(1 - eps), slope * 1.4, rtol=1e-5, atol=1e-6)


# What is drawn of a blurred vector


@pytest.mark.parametrize("n", [1, 3])
def test_the_largest_have_the_law_of_the_largest(n: int) -> None:
    k, rows = 40, 4000
    latent = Latent.draw(torch.zeros(rows, 1, dtype=torch.int64), k, uniforms(rows, n))
    every = torch.randn(rows, k - 1, generator=rng(3), dtype=torch.float64).sort(1, descending=True).values
    for i in range(n):
        assert kstest(latent.others[:, 0, i].numpy(), every[:, i].numpy()).pvalue > 1e-3
        power = norm.cdf(latent.others[:, 0, 0].numpy()) ** (k - 1)
        assert kstest(power, "uniform").pvalue > 1e-3
    assert bool((latent.others.diff(dim=-1) <= 0).all())
    assert kstest(latent.own[:, 0].numpy(), "norm").pvalue > 1e-3


def test_ids_are_distinct_and_every_choice_is_equally_likely() -> None:
    rows = 20000
    x = torch.full((rows,), 2)
    found = distinct(torch.rand(rows, 2, generator=rng(0), dtype=torch.float64), x, 4)
    pairs = list(itertools.permutations([0, 1, 3, 4], 2))
    counts = [int((found == torch.tensor(pair)).all(1).sum()) for pair in pairs]
    assert sum(counts) == rows and chisquare(counts).pvalue > 1e-3
    every = distinct(torch.rand(50, 4, generator=rng(1), dtype=torch.float64), torch.zeros(50, dtype=torch.int64), 4)
    assert every.sort(1).values.tolist() == [[1, 2, 3, 4]] * 50


@pytest.mark.parametrize("n", [1, 2])
def test_labels_are_those_of_whole_vectors(n: int) -> None:
    k, rows, gamma = 6, 30000, -1.5
    x = torch.full((rows, 1), 4)
    label = Latent.draw(x, k, uniforms(rows, n)).label(torch.full((rows,), gamma))
    alpha = float(operator(torch.tensor(gamma), k)[0])
    law = np.full(k, (1 - alpha) / k)
    law[4] += alpha
    assert chisquare(torch.bincount(label[:, 0], minlength=k).numpy(), law * rows).pvalue > 1e-3


def test_all_of_the_others_are_the_whole_vector() -> None:
    """With every entry drawn nothing is left over, and the softmax is that of w."""
    k, rows = 5, 300
    x = torch.randint(0, k, (rows, 1), generator=rng(2))
    latent, gamma = Latent.draw(x, k, uniforms(rows, k - 1)), torch.linspace(-4, 2, rows)
    soft = latent.soft(gamma, 0.4, k)
    normal = torch.zeros(rows, 1, k, dtype=torch.float64)
    assert soft.ids is not None
    normal.scatter_(-1, soft.ids, torch.cat([latent.own[..., None], latent.others], -1))
    truth, label = soft_and_label(x, k, gamma.double(), 0.4, normal)
    torch.testing.assert_close(
        torch.zeros_like(truth.weights).scatter(-1, soft.ids, soft.weights.double()),
        truth.weights,
        rtol=1e-5,
        atol=1e-7,
    )
    assert torch.equal(label, latent.label(gamma))
    torch.testing.assert_close(soft.weights.sum(-1), torch.ones(rows, 1))


@pytest.mark.parametrize("tau", [0.2, 1.0])
def test_the_rest_has_the_mean_of_what_is_not_drawn(tau: float) -> None:
    """exp(w / tau) of the entries below those drawn, against whole vectors that agree with them."""
    k, n, gamma, rows = 30, 2, -1.0, 200000
    s = math.sqrt(1 / (1 + math.exp(1.0)))
    latent = Latent.draw(torch.zeros(1, 1, dtype=torch.int64), k, uniforms(1, n, seed=4))
    least = float(latent.others[0, 0, -1])
    below = norm.ppf(np.random.default_rng(0).random(rows) * norm.cdf(least))
    rest = (k - 1 - n) * np.exp(s * below / tau)
    soft = latent.soft(torch.tensor([gamma]), tau, k)
    a = math.sqrt(1 - s * s)
    kept = np.exp((np.array([a + s * float(latent.own), *(s * latent.others[0, 0]).tolist()])) / tau)
    found = kept.sum() / float(soft.weights.sum()) - kept.sum()
    assert found == pytest.approx(rest.mean(), abs=4 * rest.std() / math.sqrt(rows) + 1e-4 * kept.sum())


@pytest.mark.parametrize("k", [2, 50257])
def test_weights_are_finite_at_any_temperature(k: int) -> None:
    x = torch.zeros(64, 1, dtype=torch.int64)
    for tau, gamma in itertools.product((1e-4, 1e-3, 1.0, 100.0), (-12.0, -3.0, 8.0)):
        soft = Latent.draw(x, k, uniforms(64, 1)).soft(torch.full((64,), gamma), tau, k)
        assert bool(soft.weights.isfinite().all()) and float(soft.weights.sum(-1).max()) < 1 + 1e-5


# The curriculum


K = 12
FAMILY = Uniform(curriculum=0.5, soft_top_k=2).over(Vocabulary(size=K))


def batch_of(rows: int, done: float) -> Batch:
    x = torch.randint(0, K, (rows, 5), generator=rng(7))
    scored = torch.ones_like(x, dtype=torch.bool)
    scored[:, 0] = False
    return Batch(x, scored, progress=done)


@pytest.mark.parametrize("top_k", [0, 1, 11, 99])
def test_blurred_rows_are_labelled_and_weighted(top_k: int) -> None:
    family = Uniform(curriculum=0.5, soft_top_k=top_k).over(Vocabulary(size=K))
    batch = batch_of(4000, 0.0)
    noisy = family.blur(batch, rng(1))
    assert noisy.time is not None and noisy.soft is not None
    alpha = family.alpha(noisy.time)
    assert float(alpha.min()) == pytest.approx(0.05, abs=2e-3) and float(alpha.max()) == pytest.approx(0.95, abs=2e-3)
    clean = (noisy.tokens == batch.tokens)[:, 1:].double().mean()
    chance = (alpha * (1 - 1 / K) + 1 / K).double().mean()
    assert abs(float(clean - chance)) < 0.015
    assert torch.equal(noisy.tokens[:, 0], batch.tokens[:, 0])
    table = torch.eye(K)
    read = noisy.soft.embed(table)
    torch.testing.assert_close(read[:, 0], table[batch.tokens[:, 0]])
    assert float((read.argmax(-1) == noisy.tokens).double().mean()) == 1.0, (
        "at a low temperature it is read as its label"
    )
    weights = noisy.weight.view(4000, 4)[:, 0].double()
    total = float((weights * (1 - family.eps)).mean())
    assert total == pytest.approx(0.9, abs=0.01), "weights make levels even in alpha: the mean slope is the range"


def test_the_curriculum_has_the_mean_of_the_plain_loss_on_its_range() -> None:
    """With labels alone read, the blurred loss is the bound's integral over the same alphas."""

    class Reader:
        def __call__(self, tokens: Soft | Tensor, *, ask: Tensor, time: Tensor, **reading: object) -> Tensor:
            read = tokens.embed(torch.eye(K)).argmax(-1) if isinstance(tokens, Soft) else tokens
            logits = torch.randn(K, K, generator=rng(3))[read] + 2 * torch.eye(K)[read] * (1 - time)[:, None, None]
            return logits[ask]

    batch = batch_of(20000, 0.0)
    blurred = FAMILY.token_loss(Reader(), FAMILY.blur(batch, rng(1)))
    alpha = 0.05 + 0.9 * torch.rand(20000, generator=rng(2))
    plain = (
        0.9
        / (1 - FAMILY.eps)
        * FAMILY.token_loss(Reader(), FAMILY.corrupt(batch, rng(5), (1 - alpha) / (1 - FAMILY.eps)))
    )
    error = math.hypot(float(blurred.std()), float(plain.std())) / math.sqrt(20000)
    assert abs(float(blurred.mean() - plain.mean())) < 4 * error


def test_the_curriculum_ends() -> None:
    model = tiny(K, K, time=True)
    plain = Uniform().over(Vocabulary(size=K))
    late, early = batch_of(6, 0.5), batch_of(6, 0.49)
    assert torch.equal(FAMILY.loss(model, late, rng(0)).per_token(), plain.loss(model, late, rng(0)).per_token())
    assert float(FAMILY.loss(model, early, rng(0)).per_token()) != float(plain.loss(model, early, rng(0)).per_token())
    FAMILY.loss(model, early, rng(0)).per_token().backward()
    assert float(model.model.embed_tokens.weight.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("options", "says"),
    [({"curriculum": 1.5}, "curriculum is 1.5"), ({"tau": 1e-8}, "tau is 1e-08"),
     ({"soft_top_k": -1}, "soft_top_k is -1"),
     ({"gamma": (-3.0, -2.0)}, "there is no curriculum that it is the range of"),
     ({"gamma": 5.0}, r"gamma is 5.0; it must be two numbers"), ({"gamma": (1.0,)}, "it must be two numbers"),
     ({"gamma": (-1.0, -2.0)}, r"gamma is -1 to -2; it must rise"), ({"gamma": (-40.0, 1.0)}, "within -30 to 30"),
     ({"gamma": (math.nan, 1.0)}, "gamma is nan")],
)  # fmt: skip
def test_options_are_checked(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Uniform(**options)


def test_a_range_beyond_the_schedule_is_refused() -> None:
    with pytest.raises(RemaskError, match=r"gamma goes to 20, where fewer than eps = 0\.001 of the tokens are clean"):
        Uniform(curriculum=1.0, gamma=(-3.0, 20.0)).over(Vocabulary(size=K))
    with pytest.raises(RemaskError, match="a vocabulary of 1 ids cannot be noised"):
        Uniform(curriculum=1.0).over(Vocabulary(size=1))
