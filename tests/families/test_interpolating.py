"""Interpolating diffusion against enumeration: three positions, two or three ids, and every order of writing."""

import itertools
import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.stats import binom, chisquare
from tables import (
    CausalTable,
    OrderedTable,
    Table,
    chain,
    joint_law,
    mixture,
    parts_law,
    random_joint,
    rng,
    steps_of,
    tiny,
)

from remask.batch import Batch
from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.likelihood import Request, score
from remask.model.attention import CAUSAL
from remask.model.transformer import Transformer
from remask.sampling import Canvas, SamplingParams, start, stream
from remask.sampling.ancestral import Ancestral
from remask.sampling.esolm import EsoLM, in_parallel
from remask.seeds import mix_seeds
from remask.uniforms import uniforms
from remask.vocabulary import Vocabulary

TABLE = Table.random(2, 3, seed=5, sharpness=1.5)
ORACLE = Table.of(random_joint(3, 3, seed=2, sharpness=1.3))
ALPHAS = [0.0, 0.3, 1.0]


def family(alpha_0: float, table: Table = TABLE, **more) -> Interpolating:
    return Interpolating(alpha_0=alpha_0, **more).over(table.vocabulary)


def orders(alpha_0: float, length: int) -> list[tuple[float, tuple[int, ...]]]:
    """Every order of writing with its chance: a random set in random order, then the rest from left to right."""
    found = []
    for k in range(length + 1):
        for chosen in itertools.combinations(range(length), k):
            chance = alpha_0**k * (1 - alpha_0) ** (length - k) / math.factorial(k)
            rest = tuple(i for i in range(length) if i not in chosen)
            found += [(chance, (*first, *rest)) for first in itertools.permutations(chosen)]
    return found


def enumerated(table: Table, text: list[int], alpha_0: float) -> float:
    """Nats: the mean of -log p(text | order), which is the bound."""
    return math.fsum(p * chain(table, text, order) for p, order in orders(alpha_0, table.length) if p)


def batch_of(text: list[int], rows: int) -> Batch:
    tokens = torch.tensor([text]).expand(rows, -1)
    return Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))


@pytest.mark.parametrize("variant", ["A", "B"])
@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_the_bound_has_the_enumerated_mean(alpha_0: float, variant: str) -> None:
    rows = 6000
    values = family(alpha_0, variant=variant).bound(OrderedTable(TABLE), batch_of([1, 0, 1], rows), rng(0))
    truth = enumerated(TABLE, [1, 0, 1], alpha_0)
    if alpha_0 == 0:
        assert values.tolist() == pytest.approx([truth] * rows, rel=1e-5), "left to right nothing is random"
    else:
        assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(rows)


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_training_has_the_mean_of_the_bound(alpha_0: float) -> None:
    rows, text = 12000, [0, 1, 1]
    trained = family(alpha_0, eps=0.0, objective="bound")
    draws = torch.stack(
        [trained.loss(OrderedTable(TABLE), batch_of(text, rows // 40), rng(i)).per_token() for i in range(40)]
    )
    error = float(draws.std()) / math.sqrt(40) if alpha_0 else 1e-5
    assert abs(float(draws.mean()) * 3 - enumerated(TABLE, text, alpha_0)) < 4 * 3 * error


def test_an_oracle_is_exact_and_no_bound_is_below_the_truth() -> None:
    for alpha_0 in ALPHAS:
        text = [2, 0, 1]
        law = joint_law(random_joint(3, 3, seed=2, sharpness=1.3))
        assert enumerated(ORACLE, text, alpha_0) == pytest.approx(-math.log(law[tuple(text)]))
        written = mixture((p, parts_law(TABLE, [[i] for i in order])) for p, order in orders(alpha_0, 3) if p)
        for text in itertools.product(range(2), repeat=3):
            assert enumerated(TABLE, list(text), alpha_0) >= -math.log(written[text]) - 1e-9


@pytest.mark.parametrize("alpha_0", [0.05, 0.3, 0.9, 1.0])
def test_counts_have_the_law_of_the_integral(alpha_0: float) -> None:
    """Against quadrature of the chance of k masks over all levels; its mean weight makes the bound."""
    n = 9
    levels = (torch.arange(90000) + 0.5) / 90000
    k = family(alpha_0).counts(torch.full((90000,), n), levels)
    nodes, shares = np.polynomial.legendre.leggauss(60)
    p = 1 - alpha_0 / 2 + alpha_0 / 2 * nodes
    truth = [float(np.sum(shares / 2 * alpha_0 * binom.pmf(i, n, p) / p)) for i in range(1, n + 1)]
    found = [float((k == i).double().mean()) * alpha_0 * n / i for i in range(1, n + 1)]
    assert found == pytest.approx(truth, abs=2e-4)


def test_counts_know_the_length_of_each_row() -> None:
    k = family(0.5).counts(torch.tensor([1, 4, 300]), torch.tensor([0.999, 0.999, 0.01]))
    assert k[:2].tolist() == [1, 4] and 140 < int(k[2]) < 160


def test_alpha_0_of_1_is_masked_diffusion_in_another_order() -> None:
    """The same masks weigh the same; a network that is causal reads them in order."""
    tokens = torch.randint(0, 2, (50, 3), generator=rng(0))
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    hidden, weight = torch.rand(50, 3, generator=rng(1)) < 0.6, torch.rand(50, generator=rng(2))
    ours, theirs = family(1.0, objective="bound"), Masked().over(TABLE.vocabulary)
    noisy = ours.diffusion_inputs(batch, hidden, weight, torch.rand(50, 3, generator=rng(3)))
    other = theirs.inputs_for(batch, hidden, weight)
    found = ours.token_loss(OrderedTable(TABLE), noisy)
    spread = torch.zeros(50, 3).masked_scatter(noisy.ask, found)
    assert noisy.positions is not None
    spread = torch.zeros(50, 3).scatter(1, noisy.positions, spread)
    torch.testing.assert_close(spread[hidden], theirs.token_loss(TABLE, other))
    assert torch.equal(hidden.gather(1, noisy.positions), noisy.ask) and noisy.attention is CAUSAL
    p = 0.001 + 0.999 * torch.linspace(0, 0.99, 50)
    torch.testing.assert_close(ours.masks(hidden, torch.linspace(0, 0.99, 50), torch.rand(50, 3))[1], 1 / p)


def test_alpha_0_of_0_is_the_autoregressive_model() -> None:
    joint = random_joint(3, 3, seed=2, sharpness=1.3)
    tokens = torch.cartesian_prod(*[torch.arange(3)] * 3)
    batch = Batch(tokens, torch.ones_like(tokens, dtype=torch.bool))
    causal = CausalTable(joint, end=3)
    theirs = Autoregressive().over(causal.vocabulary).bound(causal, batch)
    ours = family(0.0, ORACLE)
    torch.testing.assert_close(ours.bound(OrderedTable(ORACLE), batch, rng(0)), theirs, rtol=1e-5, atol=1e-5)
    assert ours.exact and not family(0.01).exact
    ((_, found),) = score(OrderedTable(ORACLE), ours, [Request([1, 2, 0])], draws=64)
    assert (found.kind, found.stderr) == ("exact", 0.0)
    assert found.nats == pytest.approx(-math.log(float(joint[1, 2, 0])), rel=1e-5)


def network(seed: int = 0, **more) -> Transformer:
    return tiny(12, 11, seed=seed, sharpness=3.0, **more)


WORDS = Vocabulary(size=12, mask=11, end=0)


# With a prompt


def batch_with_prompt(rows: int) -> Batch:
    tokens = torch.tensor([[1, 0, 1]]).expand(rows, -1)
    return Batch(tokens, torch.tensor([False, True, True]).expand(rows, -1))


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_a_prompt_is_given_and_never_written(alpha_0: float) -> None:
    """(1, 2) is left to right or, both diffused, by chance; (2, 1) is 2 diffused alone, or both by chance."""
    rows = 8000
    a = alpha_0
    orders_of_two = {(1, 2): (1 - a) ** 2 + a * (1 - a) + a * a / 2, (2, 1): a * (1 - a) + a * a / 2}
    truth = 0.0
    for (first, second), chance in orders_of_two.items():
        text, state = {1: 0, 2: 1}, [1, None, None]
        nats = -TABLE.given(tuple(state))[first][text[first]]
        state[first] = text[first]
        truth += chance * (nats - TABLE.given(tuple(state))[second][text[second]])
    ours, model, batch = family(alpha_0), OrderedTable(TABLE), batch_with_prompt(rows)
    for values in (
        ours.bound(model, batch, rng(0)),
        ours.in_order(model, batch, torch.rand(rows, 3, generator=rng(1))),
    ):
        error = 4 * float(values.std()) / math.sqrt(rows) + 1e-5
        assert abs(float(values.mean()) - truth) < error
    trained = family(alpha_0, eps=0.0, objective="bound")
    draws = torch.stack([trained.loss(model, batch_with_prompt(200), rng(i)).per_token() for i in range(60)])
    assert abs(float(draws.mean()) * 2 - truth) < 4 * 2 * float(draws.std()) / math.sqrt(60) + 1e-5
    assert trained.loss(model, batch_with_prompt(5), rng(0)).tokens == 10


class Hearing:
    """A denoiser that keeps what it reads."""

    def __init__(self, denoiser) -> None:
        self.denoiser = denoiser
        self.heard: list[dict] = []

    def __call__(self, tokens, **reading):
        self.heard.append({"tokens": tokens, **reading})
        return self.denoiser(tokens, **reading)


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_known_tokens_are_read_in_random_order_behind_the_prompt(alpha_0: float) -> None:
    model = Hearing(network())
    x = torch.randint(0, 11, (40, 8), generator=rng(0))
    scored = torch.ones_like(x, dtype=torch.bool)
    scored[:, 3:6] = False
    ours = Interpolating(alpha_0=alpha_0).over(WORDS)
    ours.loss(model, Batch(x, scored), rng(1))
    ours.bound(model, Batch(x, scored), rng(2))
    for heard in model.heard:
        positions, hidden = heard["positions"][:, :8], heard["ask"][:, :8]
        assert bool((positions[:, :3].sort(1).values == torch.tensor([3, 4, 5])).all()), "the prompt is in front"
        assert not bool(hidden[:, :3].any())
        in_text_order = (positions[:, :3] == torch.tensor([3, 4, 5])).all(1)
        assert bool(in_text_order.all()) == (alpha_0 == 0)
        if heard["tokens"].shape[1] == 16:
            for row in range(len(positions)):
                left = positions[row][hidden[row]]
                assert bool((left.diff() > 0).all()), "what is left is read from left to right"
        else:
            assert any(bool((positions[row][hidden[row]].diff() < 0).any()) for row in range(len(positions)))


def test_left_to_right_a_prompt_has_one_order() -> None:
    model, ours = network(), Interpolating(alpha_0=0.0).over(WORDS)
    request = Request([1, 2, 3], prompt=(4, 5, 6, 7))
    found = [next(score(model, ours, [request], seed=seed))[1] for seed in range(3)]
    assert {(one.kind, one.stderr) for one in found} == {("exact", 0.0)}
    row = torch.tensor([[4, 5, 6, 7, 1, 2, 3]])
    batch = Batch(row, torch.arange(7)[None] >= 4)
    orders = [ours.in_order(model, batch, batch.draw((7,), rng(seed))) for seed in range(3)]
    assert len({round(nats, 4) for nats in [*(one.nats for one in found), *map(float, orders)]}) == 1
    with pytest.raises(RemaskError, match="these do: auto, exact"):
        score(model, ours, [request], estimator="orders")


@pytest.mark.parametrize("variant", ["A", "B"])
def test_what_is_written_has_the_likelihood_of_the_layout(variant: str) -> None:
    """The sampler's own log p, its cache and fronts included, against the sequential layout read at once."""
    model, ours = network(), Interpolating(alpha_0=0.0, variant="A" if variant == "A" else "B").over(WORDS)
    canvas = Canvas.of([[3, 4, None, None, 5, None]] * 3)
    *_, last = steps_of(model, ours, canvas, EsoLM())
    noisy = ours.sequential_inputs(Batch(last.tokens, canvas.open), canvas.open)
    nats = torch.zeros(3, dtype=torch.float64).index_add_(
        0, noisy.ask.nonzero()[:, 0], ours.token_loss(model, noisy).double().detach()
    )
    torch.testing.assert_close(last.log_prob, -nats, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_any_number_of_rows_trains_both_terms_alike(rows: int) -> None:
    trained, text = family(0.3, eps=0.0), [0, 1, 1]
    model = OrderedTable(TABLE)
    draws = torch.stack([trained.loss(model, batch_of(text, rows), rng(i)).per_token() for i in range(1500)])
    assert abs(float(draws.mean()) * 3 - enumerated(TABLE, text, 0.3)) < 4 * 3 * float(draws.std()) / math.sqrt(1500)


def test_the_low_variance_objective_weighs_all_alike() -> None:
    batch = batch_of([0, 1, 1], 50)
    for objective, weights in (("low_variance", {1.0}), ("bound", None)):
        noisy = family(1.0, objective=objective).corrupt(batch, rng(0))
        found = {round(w, 4) for w in noisy.weight.tolist()}
        assert found == weights if weights else len(found) > 10


# A real network


def test_one_reading_gives_what_reading_one_by_one_gives() -> None:
    """log p(x | order): all at once from both streams, and one token at a time on what is known."""
    model, ours = network(), Interpolating(alpha_0=0.5).over(WORDS)
    x = torch.randint(0, 11, (2, 7), generator=rng(1))
    scored = torch.ones_like(x, dtype=torch.bool)
    scored[:, 2:4] = False
    uniform = torch.rand(2, 7, generator=rng(2))
    at_once = ours.in_order(model, Batch(x, scored), uniform)
    order = ours.writing_order(scored, uniform).argsort(1)
    for row in range(2):
        places, nats = order[row].tolist(), 0.0
        assert sorted(places[:2]) == [2, 3], "what is given comes first"
        for i in range(2, 7):
            seen = torch.cat([x[row, places[:i]], torch.tensor([11])])[None]
            logits = model(seen, attention=CAUSAL, positions=torch.tensor([places[: i + 1]]))[0, -1]
            nats -= float(logits.log_softmax(-1)[x[row, places[i]]].detach())
        assert float(at_once[row].detach()) == pytest.approx(nats, rel=1e-5)


def test_orders_have_the_stated_law() -> None:
    rows = 30000
    uniform = torch.rand(rows, 3, generator=rng(0), dtype=torch.float64)
    order = family(0.4).writing_order(torch.ones(rows, 3, dtype=torch.bool), uniform).argsort(1)
    law: dict[tuple[int, ...], float] = {}
    for chance, one in orders(0.4, 3):
        law[one] = law.get(one, 0.0) + chance
    names = sorted(law)
    counts = [int((order == torch.tensor(one)).all(1).sum()) for one in names]
    assert chisquare(counts, [law[one] * rows for one in names]).pvalue > 1e-3


def test_known_tokens_are_put_in_random_order_but_left_to_right() -> None:
    hidden = torch.tensor([[False, True, False, True]])
    uniform = torch.tensor([[0.9, 0.6, 0.1, 0.2]])
    assert family(0.3).writing_order(hidden, uniform).argsort(1).tolist() == [[2, 0, 3, 1]]
    assert family(0.0).writing_order(hidden, uniform).argsort(1).tolist() == [[0, 2, 1, 3]]


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_flops_count_what_is_read_and_asked(alpha_0: float) -> None:
    """Against the calls of many steps: their positions, and how many of these the head answers."""
    model, ours, rows, length = Hearing(network()), Interpolating(alpha_0=alpha_0).over(WORDS), 2000, 8
    x = torch.randint(0, 11, (rows, length), generator=rng(0))
    ours.loss(model, Batch(x, torch.ones_like(x, dtype=torch.bool)), rng(1))
    shape, counted = model.denoiser.architecture, 0.0
    for heard in model.heard:
        asked = float(heard["ask"].double().mean())
        counted += heard["tokens"].numel() * shape.flops(length, asked=asked, causal=True)
    assert ours.flops(shape, length) == pytest.approx(counted / x.numel(), rel=0.01)
    assert ours.reads == pytest.approx(sum(heard["tokens"].numel() for heard in model.heard) / x.numel())


def test_more_orders_make_a_tighter_bound() -> None:
    """One order on average is the bound; many tend to the likelihood of the sampler."""
    text, alpha_0 = [1, 0, 1], 0.5
    law = mixture((p, parts_law(TABLE, [[i] for i in order])) for p, order in orders(alpha_0, 3))
    ours, model = family(alpha_0), OrderedTable(TABLE)
    requests = [Request(text, noise_key=i) for i in range(1500)]
    one = [estimate.nats for _, estimate in score(model, ours, requests, estimator="orders", draws=1)]
    assert np.mean(one) == pytest.approx(enumerated(TABLE, text, alpha_0), abs=4 * np.std(one) / math.sqrt(1500))
    ((_, many),) = score(model, ours, [Request(text)], estimator="orders", draws=100000, tokens=30000)
    assert abs(many.nats + math.log(law[tuple(text)])) < 4 * many.stderr < 0.05
    assert many.kind == "bound" and many.of == "importance-weighted over 100000 orders"


def test_the_error_of_orders_is_their_spread() -> None:
    requests = [Request([1, 0, 1], noise_key=i) for i in range(300)]
    found = [e for _, e in score(OrderedTable(TABLE), family(0.5), requests, estimator="orders", draws=64)]
    reported = np.sqrt(np.mean([estimate.stderr**2 for estimate in found]))
    assert 0.85 < np.std([estimate.nats for estimate in found]) / reported < 1.15


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_processes_share_the_noise_and_the_terms(alpha_0: float, ranks: int) -> None:
    model, ours = network(), Interpolating(alpha_0=alpha_0).over(WORDS)
    x = torch.randint(0, 11, (8, 6), generator=rng(4))
    whole = Batch(x, torch.ones_like(x, dtype=torch.bool))
    rows = 8 // ranks
    values = []
    for rank in range(ranks):
        own = slice(rank * rows, rank * rows + rows)
        values.append(
            ours.loss(model, Batch(x[own], whole.scored[own], offset=rank * rows, global_rows=8), rng(9)).per_token()
        )
    torch.testing.assert_close(torch.stack(values).mean(), ours.loss(model, whole, rng(9)).per_token())


@dataclass(frozen=True, kw_only=True)
class Watched(Interpolating):
    """Interpolating, remembering the times of its diffusion terms."""

    times: ClassVar[list[float]] = []

    def masks(self, scored: torch.Tensor, levels: torch.Tensor, uniform: torch.Tensor) -> Any:
        self.times.extend(levels.tolist())
        return super().masks(scored, levels, uniform)


@pytest.mark.parametrize("alpha_0", [0.3, 1.0])
def test_times_are_stratified_over_the_diffusion_rows_of_all_processes(alpha_0: float) -> None:
    model, ours = network(), Watched(alpha_0=alpha_0).over(WORDS)
    x = torch.randint(0, 11, (9, 6), generator=rng(4))
    for seed in range(4):
        Watched.times.clear()
        for own in (slice(0, 4), slice(4, 5), slice(5, 9)):
            share = Batch(x[own], torch.ones_like(x[own], dtype=torch.bool), offset=own.start, global_rows=9)
            ours.loss(model, share, rng(seed))
        n = len(Watched.times)
        assert n == 9 if alpha_0 == 1 else n in (4, 5)
        assert sorted(int(t * n) for t in Watched.times) == list(range(n))


@pytest.mark.parametrize("variant", ["A", "B"])
def test_pieces_of_a_row_do_not_see_each_other(variant: str) -> None:
    model, ours = network(), Interpolating(alpha_0=0.5, variant=variant).over(WORDS)
    x = torch.randint(0, 11, (1, 9), generator=rng(5))
    hidden, uniform = torch.rand(1, 9, generator=rng(6)) < 0.5, torch.rand(1, 9, generator=rng(7))
    cut = Batch(x, torch.ones_like(hidden), segments=torch.tensor([[0] * 4 + [1] * 5]))
    for term in ("diffused", "sequential"):
        parts = [slice(0, 4), slice(4, 9)]
        read = [cut, *(Batch(x[:, p], torch.ones_like(hidden[:, p])) for p in parts)]
        masks = [hidden, *(hidden[:, p] for p in parts)]
        sums = []
        for batch, mask, sort in zip(read, masks, [uniform, *(uniform[:, p] for p in parts)], strict=True):
            if term == "diffused":
                noisy = ours.diffusion_inputs(batch, mask, torch.ones(1), sort)
            else:
                noisy = ours.sequential_inputs(batch, mask, sort)
            sums.append(float(ours.token_loss(model, noisy).sum().detach()))
        assert sums[0] == pytest.approx(sum(sums[1:]), rel=1e-4)


def test_known_tokens_see_each_other_in_variant_a_alone() -> None:
    x = torch.tensor([[3, 4, 5, 6]])
    hidden = torch.tensor([[False, False, True, True]])
    logits = {}
    for variant, first in itertools.product("AB", (0.1, 0.3)):
        ours = Interpolating(alpha_0=0.5, variant=variant).over(WORDS)
        order = torch.tensor([[first, 0.2, 0.3, 0.4]])  # of the known ones
        noisy = ours.diffusion_inputs(Batch(x, torch.ones_like(hidden)), hidden, torch.ones(1), order)
        logits[variant, first] = network()(noisy.tokens, ask=noisy.ask, **noisy.conditions).detach()
    torch.testing.assert_close(logits["A", 0.1], logits["A", 0.3], rtol=1e-4, atol=1e-5)
    assert float((logits["B", 0.1] - logits["B", 0.3]).abs().max()) > 1e-3


# Sampling


def law_of(table: Table, steps: int, alpha_0: float, rows: int) -> np.ndarray:
    canvas = Canvas.of([[None] * table.length] * rows)
    *_, last = steps_of(OrderedTable(table), family(alpha_0, table), canvas, EsoLM(), steps=steps)
    place = table.symbols ** torch.arange(table.length - 1, -1, -1)
    return torch.bincount((last.tokens * place).sum(1), minlength=table.symbols**table.length).numpy()


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_sampling_with_an_oracle_gives_the_joint_law(alpha_0: float) -> None:
    counts = law_of(ORACLE, 4096, alpha_0, 3000)
    truth = random_joint(3, 3, seed=2, sharpness=1.3).flatten().numpy()
    assert chisquare(counts, truth * counts.sum()).pvalue > 1e-3


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_sampling_follows_the_law_of_its_orders(alpha_0: float) -> None:
    counts = law_of(TABLE, 4096, alpha_0, 3000)
    law = mixture((p, parts_law(TABLE, [[i] for i in order])) for p, order in orders(alpha_0, 3) if p)
    assert chisquare(counts, [law[t] * counts.sum() for t in itertools.product(range(2), repeat=3)]).pvalue > 1e-3


def test_two_steps_write_the_enumerated_law() -> None:
    """Each token falls in one of two steps or behind both, and those of a step are drawn apart."""
    alpha_0, laws = 0.6, []
    for when in itertools.product(range(3), repeat=3):
        chance = math.prod(0.3 if i < 2 else 0.4 for i in when)
        parts = [[i for i in range(3) if when[i] == step] for step in (0, 1)]
        parts += [[i] for i in range(3) if when[i] == 2]
        laws.append((chance, parts_law(TABLE, [part for part in parts if part])))
    law = mixture(laws)
    counts = law_of(TABLE, 2, alpha_0, 4000)
    assert chisquare(counts, [law[t] * counts.sum() for t in itertools.product(range(2), repeat=3)]).pvalue > 1e-3


def test_contexts_are_written_side_by_side() -> None:
    hidden = torch.tensor([[True] * 7, [True, False, True, True, False, True, False]])
    assert torch.equal((in_parallel(hidden, 3) * 3).long()[0], torch.tensor([0, 1, 2, 0, 1, 2, 0]))
    assert (in_parallel(hidden, 2)[1] * 2).tolist() == [0, 0, 1, 0, 0, 1, 0]
    canvas = Canvas.of([[None] * 8])
    ours = Interpolating(alpha_0=1.0).over(WORDS)
    steps = steps_of(network(), ours, canvas, EsoLM(parallel_blocks=4))
    assert [step.changed[0].nonzero()[:, 0].tolist() for step in steps] == [[0, 2, 4, 6], [1, 3, 5, 7]]


CANVAS = Canvas.of(
    [[3, None, None, 5, None, None, None, None], [None] * 8, [None, 7, 7, 7, 7], [4, 4, 4, None, None, None, 2, 2]]
)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
@pytest.mark.parametrize("variant", ["A", "B"])
@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_the_cache_changes_nothing(alpha_0: float, variant: str, guidance: float) -> None:
    ours = Interpolating(alpha_0=alpha_0, variant=variant).over(WORDS)
    last = {}
    for cache in (True, False):
        *_, last[cache] = steps_of(network(), ours, CANVAS, EsoLM(cache=cache), steps=3, guidance=guidance)
    assert torch.equal(last[True].tokens, last[False].tokens)
    torch.testing.assert_close(last[True].log_prob, last[False].log_prob, rtol=1e-5, atol=1e-5)
    given = CANVAS.valid & ~CANVAS.open
    assert torch.equal(last[True].tokens[given], CANVAS.tokens[given])


@pytest.mark.parametrize("variant", ["A", "B"])
@pytest.mark.parametrize("row", range(4))
def test_rows_do_not_depend_on_their_batch(row: int, variant: str) -> None:
    ours = Interpolating(alpha_0=0.5, variant=variant).over(WORDS)
    *_, together = steps_of(network(), ours, CANVAS, EsoLM(), steps=3)
    length = int(CANVAS.valid[row].sum())
    alone = Canvas(*(x[row : row + 1, :length] for x in (CANVAS.tokens, CANVAS.open, CANVAS.valid)))
    state = start(ours, alone, SamplingParams(sampler=EsoLM(), steps=3, stop=False), [mix_seeds(0, row)])
    *_, found = stream(network(), ours, state)
    assert torch.equal(found.tokens[0], together.tokens[row, :length])
    assert float(found.log_prob[0]) == pytest.approx(float(together.log_prob[row]), rel=1e-4)
    assert int(found.calls[0]) == int(together.calls[row])


@pytest.mark.parametrize("alpha_0", ALPHAS)
def test_only_steps_that_write_cost_a_pass(alpha_0: float) -> None:
    ours = Interpolating(alpha_0=alpha_0).over(WORDS)
    canvas = Canvas.of([[None] * 30] * 3)
    steps = steps_of(network(), ours, canvas, EsoLM(), steps=8)
    wrote = torch.stack([step.changed.any(1) for step in steps]).sum(0)
    assert torch.equal(steps[-1].calls, wrote)
    uniform = uniforms(torch.tensor([mix_seeds(0, row) for row in range(3)]), torch.zeros(3, dtype=torch.int64), 30)
    for row in range(3):
        diffused = uniform[row][uniform[row] < alpha_0]
        groups = len(set((diffused / alpha_0 * 8).long().tolist())) if alpha_0 else 0
        assert int(wrote[row]) == groups + 30 - len(diffused)


def test_without_its_prompt_the_network_does_not_see_it() -> None:
    """Guidance of -1 leaves the unconditional branch alone: that of an empty canvas at the same positions."""
    ours = Interpolating(alpha_0=1.0).over(TABLE.vocabulary)
    model = OrderedTable(TABLE)
    canvas = Canvas.of([[1, None, None]] * 2000)
    *_, last = steps_of(model, ours, canvas, EsoLM(), steps=4096, guidance=-1.0)
    law = np.zeros((2, 2))
    for order in ((1, 2), (2, 1)):
        for a, b in itertools.product(range(2), repeat=2):
            text = {1: a, 2: b}
            first = TABLE.given((None, None, None))[order[0]][text[order[0]]]
            state = tuple(text[i] if i == order[0] else None for i in range(3))
            law[a, b] += 0.5 * math.exp(first + TABLE.given(state)[order[1]][text[order[1]]])
    counts = torch.bincount(last.tokens[:, 1] * 2 + last.tokens[:, 2], minlength=4).numpy()
    assert chisquare(counts, law.flatten() * 2000).pvalue > 1e-3
    assert float((last.calls == 4).double().mean()) > 0.99, (
        "two passes a call; rarely both fall into one step of the grid"
    )


def test_a_text_may_end_before_its_canvas() -> None:
    model = network()
    with torch.no_grad():
        model.lm_head.weight *= 0.0  # every id alike
    ours = Interpolating(alpha_0=0.0).over(WORDS)
    steps = steps_of(model, ours, Canvas.of([[None] * 20] * 6), EsoLM(), stop=True)
    last = steps[-1]
    ended = (last.tokens == 0).any(1)
    assert bool(ended.any()) and not bool(last.masked.any())
    for row in ended.nonzero()[:, 0].tolist():
        first = int((last.tokens[row] == 0).nonzero()[0, 0])
        assert bool((last.tokens[row, first:] == 0).all()) and int(last.calls[row]) == first + 1


def test_greedy_writing_is_sure() -> None:
    *_, last = steps_of(network(), family(1.0).over(WORDS), CANVAS, EsoLM(), temperature=0)
    assert last.log_prob.tolist() == [0.0] * 4


@pytest.mark.parametrize(
    ("options", "says"),
    [({"alpha_0": 1.5}, "alpha_0 is 1.5; it must be from 0"), ({"alpha_0": math.nan}, "alpha_0 is nan"),
     ({"variant": "C"}, "unknown variant 'C'. Known: A, B"), ({"objective": "count"}, "unknown objective"),
     ({"eps": 1.0}, "eps is 1.0")],
)  # fmt: skip
def test_options_are_checked(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Interpolating(**options)


def test_what_does_not_fit_says_why() -> None:
    with pytest.raises(RemaskError, match=r"EsoLM does not fit Masked models"):
        steps_of(network(), Masked().over(WORDS), CANVAS, EsoLM())
    with pytest.raises(RemaskError, match=r"Ancestral does not fit Interpolating models; these do: EsoLM"):
        steps_of(network(), Interpolating().over(WORDS), CANVAS, Ancestral())
    with pytest.raises(RemaskError, match=r"parallel_blocks=2.*follows from the text; leave steps out"):
        steps_of(network(), Interpolating().over(WORDS), CANVAS, EsoLM(parallel_blocks=2), steps=5)
    with pytest.raises(RemaskError, match=r"EsoLM does not fill one block after another; leave block out"):
        steps_of(network(), Interpolating().over(WORDS), CANVAS, EsoLM(), block=5)
    with pytest.raises(RemaskError, match=r"parallel_blocks is -1"):
        EsoLM(parallel_blocks=-1)
    with pytest.raises(RemaskError, match=r"variant B only"):
        list(score(network(), Interpolating(variant="A").over(WORDS), [Request([1, 2])], estimator="orders"))
    with pytest.raises(RemaskError, match=r"estimator 'chain' does not fit Interpolating models.*draws, orders"):
        score(network(), Interpolating().over(WORDS), [Request([1, 2])], estimator="chain")
    with pytest.raises(RemaskError, match=r"needs a vocabulary with a mask id"):
        Interpolating().over(Vocabulary(size=5)).loss(network(), batch_of([1, 2, 3], 2), rng(0))
