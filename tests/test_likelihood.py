"""The one estimator: exact values against enumeration, unbiased draws, errors that tell the truth."""

import math
from dataclasses import dataclass, replace
from itertools import permutations
from typing import ClassVar

import pytest
import torch
from scipy.stats import chisquare
from tables import CausalTable, Counting, Table, any_order, chain, masked_nats, random_joint, rng, subsets, tiny

from remask.batch import Batch
from remask.errors import RemaskError
from remask.estimators import GROUPS, Estimator, llada_counts, plan
from remask.families import Denoiser, Family, Loss, Noisy
from remask.families.autoregressive import Autoregressive
from remask.families.base import per_row
from remask.families.masked import Masked
from remask.likelihood import Estimate, Text, _run, score, validate
from remask.model.transformer import Transformer
from remask.sampling import Sampler, SamplingParams
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.guidance import guided
from remask.sampling.llada import LLaDA
from remask.sampling.smdm import SMDM
from remask.vocabulary import Vocabulary

TABLE = Table.random(3, 4, seed=4, sharpness=1.5)
FAMILY = Masked().over(TABLE.vocabulary)
TEXT = (2, 0, 1, 1)
V, MASK = 9, 9
MASKED = Masked().over(Vocabulary(size=V + 1, mask=MASK))
MODEL = tiny(V + 1, V, seed=6, sharpness=2.0)
TIMED = tiny(V + 1, V, seed=7, sharpness=2.0, time=True)
TEXTS = [
    Text((1, 2, 3, 4, 5)),
    Text((8,), (1, 2)),
    Text((0, 7, 7), (5, 5, 5, 5, 2, 1)),
    Text((3, 1, 4, 1, 5, 2, 6, 5, 3, 5)),
    Text((2, 2), (6,)),
]


def one(estimator: Estimator = "auto", text: Text | None = None, **options: object) -> Estimate:
    """The estimate of one text by the table."""
    (found,) = score(TABLE, FAMILY, [text or Text(TEXT)], estimator=estimator, **options)  # type: ignore[arg-type]
    return found


# Exact values


@pytest.mark.parametrize("text", [TEXT, (0, 0, 0, 0), (1, 2, 0, 2)])
def test_few_tokens_are_enumerated(text: tuple[int, ...]) -> None:
    counted = Counting(TABLE)
    (found,) = score(counted, FAMILY, [Text(text)], draws=15)
    assert found.nats == pytest.approx(any_order(TABLE, text), rel=1e-6)
    assert (found.stderr, found.kind, found.tokens) == (0.0, "bound", 4)
    assert sum(counted.sizes) == 15
    drawn = one(text=Text(text), draws=14)
    assert drawn.stderr > 0 and drawn.nats != found.nats


def test_enumeration_with_a_prompt_is_the_bound_of_the_rest() -> None:
    table = Counting(TABLE)
    (found,) = score(table, FAMILY, [Text(TEXT[2:], TEXT[:2])])
    given = TABLE.given((2, 0, None, None))
    first = [
        -(given[i][TEXT[i]] + TABLE.given(s)[j][TEXT[j]])
        for i, j, s in ((2, 3, (2, 0, 1, None)), (3, 2, (2, 0, None, 1)))
    ]
    assert found.nats == pytest.approx(sum(first) / 2, rel=1e-6)


@pytest.mark.parametrize("estimator", ["auto", "count", "chain", "rule"])
def test_one_token_is_exact(estimator: Estimator) -> None:
    counted = Counting(TABLE)
    (found,) = score(counted, FAMILY, [Text((1,), (2, 0, 1))], estimator=estimator, draws=16)
    assert found.nats == pytest.approx(-TABLE.given((2, 0, 1, None))[3][1], rel=1e-6)
    assert (found.stderr, found.kind) == (0.0, "exact")
    if estimator != "count":
        assert counted.sizes == [1]


def test_an_oracle_is_scored_exactly_by_every_estimator() -> None:
    joint = random_joint(3, 4, seed=2)
    oracle = Table.of(joint)
    truth = -math.log(float(joint[TEXT]))
    for estimator in ("auto", "chain", "rule"):
        (found,) = score(oracle, FAMILY, [Text(TEXT)], estimator=estimator)
        assert found.nats == pytest.approx(truth, rel=1e-6)
        assert found.kind == ("bound" if estimator == "auto" else "exact")


def test_chain_rule_is_left_to_right() -> None:
    found = one("chain")
    assert found.nats == pytest.approx(chain(TABLE, TEXT, range(4)), rel=1e-6)
    assert (found.kind, found.stderr, found.of) == ("exact", 0.0, "left to right")
    rule = one("rule", sampler=SamplingParams(sampler=Confidence(rule="left")))
    assert rule.nats == pytest.approx(found.nats, rel=1e-6)
    assert "left" in rule.of
    blocks = one("rule", sampler=SamplingParams(sampler=Confidence(), block=1))
    assert blocks.nats == pytest.approx(found.nats, rel=1e-6)


@pytest.mark.parametrize("text", TEXTS, ids=lambda t: f"{len(t.prompt)}+{len(t.target)}")
@pytest.mark.parametrize("guidance", [0.0, 0.8])
@pytest.mark.parametrize("model", [MODEL, TIMED], ids=["no time", "time"])
def test_chain_rule_of_a_network_is_its_left_to_right_rule(model: Transformer, guidance: float, text: Text) -> None:
    (found,) = score(model, MASKED, [text], estimator="chain", guidance=guidance)
    (rule,) = score(
        model,
        MASKED,
        [text],
        estimator="rule",
        sampler=SamplingParams(sampler=Confidence(rule="left")),
        guidance=guidance,
    )
    assert found.nats == pytest.approx(rule.nats, rel=1e-5)


@pytest.mark.parametrize("model", [MODEL, TIMED], ids=["no time", "time"])
def test_scores_are_the_bound_of_the_family(
    model: Transformer,
) -> None:
    """A network that is conditioned on time reads the same time in both."""
    text = Text((3, 1, 4), (1, 5))
    (found,) = score(model, MASKED, [text])
    whole = torch.tensor([[*text.prompt, *text.target]]).expand(6, -1)
    batch = Batch(whole, torch.arange(5).expand(6, -1) >= 2)
    family = replace(MASKED, objective="count")
    uniform = torch.tensor([[0, 0, *order] for order in permutations([0.1, 0.2, 0.3])])
    values = []
    with torch.no_grad():
        for k in range(3):
            hidden, weight = family.masks(batch.scored, torch.full((6,), (k + 0.5) / 3), uniform)
            noisy = family.inputs_for(batch, hidden, weight)
            values.append(per_row(family.token_loss(model, noisy), noisy.ask))
    assert found.nats == pytest.approx(float(torch.stack(values).mean()), rel=1e-5)


def test_a_rule_reveals_the_true_tokens() -> None:
    """All at once: the product of the predictions from nothing but masks."""
    found = one("rule", sampler=SamplingParams(sampler=Confidence(), steps=1))
    assert found.nats == pytest.approx(masked_nats(TABLE, TEXT, range(4)), rel=1e-6)


def test_a_text_the_rule_cannot_write_has_infinite_nats() -> None:
    greedy = SamplingParams(sampler=Confidence(), temperature=0.0)
    nats = [one("rule", Text(tuple(t)), sampler=greedy).nats for t in TABLE.texts.tolist()]
    assert sorted(nats)[0] == 0
    assert sum(math.isinf(n) for n in nats) == len(nats) - 1


# Draws


def estimates(estimator: Estimator, draws: int, seeds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and reported errors over many seeds, which are the places in one list of equal texts."""
    found = score(TABLE, FAMILY, [Text(TEXT)] * seeds, estimator=estimator, draws=draws, rows=4096)
    return (
        torch.tensor([e.nats for e in found], dtype=torch.float64),
        torch.tensor([e.stderr for e in found], dtype=torch.float64),
    )


@pytest.mark.parametrize("draws", [2, 5, 8, 11, 64])
@pytest.mark.parametrize("estimator", ["count", "smdm"])
def test_draws_have_the_bound_as_mean(estimator: Estimator, draws: int) -> None:
    values, _ = estimates(estimator, draws, 1500)
    error = float(values.std()) / math.sqrt(len(values))
    assert abs(float(values.mean()) - any_order(TABLE, TEXT)) < 4 * error


@pytest.mark.parametrize("draws", [8, 16, 50, 64])
@pytest.mark.parametrize("estimator", ["count", "smdm"])
def test_reported_errors_are_the_spread(estimator: Estimator, draws: int) -> None:
    """The weight 1/t of independent masks has no finite variance, so their error is right within a factor only."""
    values, errors = estimates(estimator, draws, 600)
    ratio = float(values.std() / errors.square().mean().sqrt())
    within = 0.15 if estimator == "count" else 0.4
    assert 1 - within < ratio < 1 + within


def test_stratification_lowers_the_error() -> None:
    few, _ = estimates("count", 8, 400)
    many, _ = estimates("count", 64, 400)
    assert float(many.std()) < float(few.std()) / math.sqrt(8)  # better than independent draws
    iid, _ = estimates("smdm", 64, 400)
    assert float(many.std()) < float(iid.std())


@pytest.mark.parametrize(("length", "draws"), [(6, 8), (10, 4), (7, 16), (3, 5), (12, 50), (4, 1)])
def test_every_count_is_equally_likely(length: int, draws: int) -> None:
    """Rounding a grid of counts, as published code does, makes even ones likelier by up to three times."""
    text = Text((0,) * length)
    counts = torch.zeros(length)
    for seed in range(4000 // draws + 200):
        work = plan(len(text.target), "count", draws, seed)
        assert work.hidden is not None
        k = work.hidden.sum(1)
        counts += torch.bincount(k, minlength=length + 1)[1:]
        weight = work.weight.sum(1) / k  # of each masked token
        size = torch.tensor([len(g) for g in torch.arange(draws).tensor_split(min(GROUPS, draws))])
        share = (1 / (len(size) * size)).repeat_interleave(size)
        torch.testing.assert_close(weight.float(), share * length / k, rtol=1e-5, atol=0)
    assert chisquare(counts.numpy()).pvalue > 1e-3


def test_weights_of_the_enumeration_sum_to_the_tokens() -> None:
    for length in range(1, 8):
        work = plan(length, "auto", 2**length, 0)
        assert work.hidden is not None and len(work.hidden) == 2**length - 1 == len(work.hidden.unique(dim=0))
        assert float(work.weight.sum()) == pytest.approx(length)
        assert work.weight.sum(0).tolist() == pytest.approx([1.0] * length)


def test_one_draw_knows_no_error() -> None:
    assert math.isnan(one("count", draws=1).stderr)
    assert math.isnan(one("smdm", draws=1).stderr)
    assert math.isnan(one("rule", sampler=SamplingParams(sampler=FirstHitting()), draws=1).stderr)


def test_a_random_rule_is_a_bound_below_none_of_its_orders() -> None:
    found = one("rule", sampler=SamplingParams(sampler=FirstHitting()), draws=500)
    assert found.kind == "bound" and abs(found.nats - any_order(TABLE, TEXT)) < 4 * found.stderr
    found = one("rule", sampler=SamplingParams(sampler=Ancestral(), steps=1), draws=3)
    assert (found.kind, found.stderr) == ("bound", 0.0)
    assert found.nats == pytest.approx(masked_nats(TABLE, TEXT, range(4)), rel=1e-6)


# Prompts and batches


def test_conditional_is_joint_minus_marginal() -> None:
    joint = random_joint(3, 4, seed=5)
    table = CausalTable(joint, end=3)
    family = Autoregressive().over(table.vocabulary)
    whole, marginal, conditional = (
        e.nats for e in score(table, family, [Text(TEXT), Text(TEXT[:2]), Text(TEXT[2:], TEXT[:2])])
    )
    assert conditional == pytest.approx(whole - marginal, rel=1e-6)
    assert whole == pytest.approx(-math.log(float(joint[TEXT])), rel=1e-6)
    oracle = Table.of(joint)
    (found,) = score(oracle, FAMILY, [Text(TEXT[2:], TEXT[:2])], estimator="chain")
    assert found.nats == pytest.approx(conditional, rel=1e-6)


def test_conditional_of_a_causal_network_is_joint_minus_marginal() -> None:
    family = Autoregressive().over(Vocabulary(size=V + 1, end=9))
    for text in TEXTS:
        parts = [Text((*text.prompt, *text.target)), text, *([Text(text.prompt)] if text.prompt else [])]
        whole, conditional, *marginal = (e.nats for e in score(MODEL, family, parts))
        assert conditional == pytest.approx(whole - sum(marginal), rel=1e-5)


@pytest.mark.parametrize("guidance", [0.0, 1.3])
@pytest.mark.parametrize("estimator", ["auto", "count", "smdm", "chain", "rule"])
def test_what_shares_a_batch_changes_nothing(estimator: Estimator, guidance: float) -> None:
    options = {"estimator": estimator, "draws": 24, "guidance": guidance, "seed": 3}
    many = score(MODEL, MASKED, TEXTS, **options)  # type: ignore[arg-type]
    for rows in (1, 5, 7, 500):
        for a, b in zip(many, score(MODEL, MASKED, TEXTS, rows=rows, **options), strict=True):  # type: ignore[arg-type]
            assert b.nats == pytest.approx(a.nats, rel=1e-5)
            assert b.stderr == pytest.approx(a.stderr, rel=1e-3, abs=1e-6)
    (first,) = score(MODEL, MASKED, TEXTS[:1], **options)  # type: ignore[arg-type]
    assert first.nats == pytest.approx(many[0].nats, rel=1e-5)
    swapped = score(MODEL, MASKED, [TEXTS[2], *TEXTS[1:2], TEXTS[0], *TEXTS[3:]], **options)  # type: ignore[arg-type]
    assert swapped[3].nats == pytest.approx(many[3].nats, rel=1e-5)  # its place is the same


def test_a_causal_batch_changes_nothing() -> None:
    family = Autoregressive().over(Vocabulary(size=V + 1, end=9))
    many = score(MODEL, family, TEXTS)
    for text, found in zip(TEXTS, many, strict=True):
        (alone,) = score(MODEL, family, [text], rows=1)
        assert found.nats == pytest.approx(alone.nats, rel=1e-5)
        assert (found.kind, found.stderr) == ("exact", 0.0)


def test_the_seed_is_the_noise() -> None:
    first, again, other = (one("count", seed=s, draws=16) for s in (1, 1, 2))
    assert first == again
    assert first.nats != other.nats
    same = score(TABLE, FAMILY, [Text(TEXT)] * 2, estimator="count", draws=16)
    assert same[0].nats != same[1].nats  # two places draw apart


# Guidance


@pytest.mark.parametrize("weight", [0.6, 2.0])
def test_guidance_is_scored_as_it_is_sampled(weight: float) -> None:
    """Enumerated by hand from the two predictions: prompt read, and prompt masked."""
    target, prompt = TEXT[2:], TEXT[:2]

    def guided_nats(hidden: tuple[int, ...]) -> float:
        told = [*prompt, *target]
        know = TABLE.given(tuple(None if i in hidden else t for i, t in enumerate(told)))
        blank = TABLE.given(tuple(None if i in hidden or i < 2 else t for i, t in enumerate(told)))
        total = 0.0
        for i in hidden:
            logits = [(1 + weight) * a - weight * b for a, b in zip(know[i], blank[i], strict=True)]
            total -= logits[told[i]] - math.log(math.fsum(math.exp(v) for v in logits))
        return total

    truth = math.fsum(guided_nats(tuple(2 + i for i in s)) / math.comb(2, len(s)) / len(s) for s in subsets(2))
    assert one(text=Text(target, prompt), guidance=weight).nats == pytest.approx(truth, rel=1e-5)
    assert one(text=Text(target, prompt)).nats != pytest.approx(truth, rel=1e-3)
    assert one(guidance=weight).nats == pytest.approx(any_order(TABLE, TEXT), rel=1e-5)  # no prompt, no guidance


def test_guidance_is_for_networks_that_read_masks() -> None:
    table = CausalTable(random_joint(3, 4, seed=5), end=3)
    family = Autoregressive().over(table.vocabulary)
    with pytest.raises(RemaskError, match="guidance"):
        score(table, family, [Text(TEXT)], guidance=0.5)


def test_the_rule_with_guidance_sums_to_one() -> None:
    total = math.fsum(
        math.exp(-one("rule", Text(tuple(t[1:]), (2,)), guidance=1.5).nats) for t in TABLE.texts.tolist() if t[0] == 2
    )
    assert total == pytest.approx(1, abs=1e-6)


# What is refused


def test_what_cannot_be_scored_is_named() -> None:
    family = Autoregressive().over(Vocabulary(size=V + 1, end=9))
    with pytest.raises(RemaskError, match="no tokens"):
        score(TABLE, FAMILY, [Text(())])
    with pytest.raises(RemaskError, match="draws"):
        one(draws=0)
    with pytest.raises(RemaskError, match="chain"):
        one("nonsense")  # type: ignore[arg-type]
    with pytest.raises(RemaskError, match="does not fit Autoregressive models; these do: auto"):
        score(MODEL, family, TEXTS, estimator="count")


# The numbers that are printed


def test_bits_per_byte() -> None:
    found = Estimate(nats=math.log(2) * 24, stderr=math.log(2) * 3, kind="bound", tokens=4, bytes=12)
    assert found.bits_per_byte == pytest.approx(2)
    assert found.bits_per_byte_stderr == pytest.approx(0.25)
    assert found.nats_per_token == pytest.approx(math.log(2) * 6)
    assert str(found) == "<= 2.0000 +- 0.2500 bits/byte"
    assert str(replace(found, kind="exact", stderr=0.0)) == "= 2.0000 bits/byte"
    assert math.isnan(replace(found, bytes=0).bits_per_byte)


def test_totals() -> None:
    a = Estimate(1.0, 0.3, "exact", 2, 5, "x")
    b = Estimate(2.5, 0.4, "bound", 3, 6, "x")
    assert Estimate.total([a, b]) == Estimate(3.5, 0.5, "bound", 5, 11, "x")
    assert Estimate.total([a, a]).kind == "exact"


def test_an_unknown_error_is_shown() -> None:
    """A Monte Carlo value is never printed as if it had no error."""
    shown = str(Estimate(1.0, math.nan, "bound", 1, 1))
    assert "nan" in shown or "+-" in shown


# Validation


def corpus(rows: int, seed: int) -> list[tuple[Batch, list[int]]]:
    """Rows drawn from the texts of the table, in batches of 16."""
    tokens = TABLE.texts[torch.randint(len(TABLE.texts), (rows,), generator=rng(seed))]
    return [(Batch(b, torch.ones_like(b, dtype=torch.bool)), [3] * len(b)) for b in tokens.split(16)]


def test_validation_repeats_exactly() -> None:
    batches = corpus(40, 0)
    first, again, other = (validate(TABLE, FAMILY, enumerate(batches), seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.nats != other.nats
    assert (first.kind, first.tokens, first.bytes) == ("bound", 160, 120)
    trained = Masked(objective="low_variance").over(TABLE.vocabulary)
    assert validate(TABLE, trained, enumerate(batches)) == first  # whatever the objective of training
    halves = list(enumerate(batches))
    parts = [validate(TABLE, FAMILY, half) for half in (halves[::2], halves[1::2], [])]
    assert Estimate.total(parts).nats == pytest.approx(first.nats)  # processes that share the batches
    assert math.hypot(*(part.stderr for part in parts)) == pytest.approx(first.stderr)


@pytest.mark.parametrize("draws", [1, 2, 4])
def test_validation_is_unbiased_and_its_error_is_honest(draws: int) -> None:
    """Levels are stratified over the rows of a batch, so the true error is the smaller."""
    batches = corpus(32, 2)
    truth = math.fsum(any_order(TABLE, tuple(row)) for batch, _ in batches for row in batch.tokens.tolist())
    found = [validate(TABLE, FAMILY, enumerate(batches), draws=draws, seed=seed) for seed in range(250)]
    values = torch.tensor([e.nats for e in found], dtype=torch.float64)
    reported = torch.tensor([e.stderr for e in found], dtype=torch.float64)
    spread = float(values.std())
    assert abs(float(values.mean()) - truth) < 4 * spread / math.sqrt(len(values))
    ratio = spread / float(reported.square().mean().sqrt())
    assert 0.5 < ratio < 1.15


def test_validation_of_a_causal_model_is_exact() -> None:
    joint = random_joint(3, 4, seed=5)
    table = CausalTable(joint, end=3)
    family = Autoregressive().over(table.vocabulary)
    batches = corpus(20, 3)
    found = validate(table, family, enumerate(batches))
    truth = -math.fsum(math.log(float(joint[tuple(row)])) for batch, _ in batches for row in batch.tokens.tolist())
    assert (found.kind, found.stderr) == ("exact", 0.0)
    assert found.nats == pytest.approx(truth, rel=1e-6)


def test_guided_denoisers_serve_the_bound_too() -> None:
    """`Family.bound` takes any denoiser, so guidance composes with it."""
    prompt = torch.tensor([[True, True, False, False]]).expand(64, -1)
    denoiser: Denoiser = guided(TABLE, FAMILY, 1.1, prompt)
    batch = Batch(torch.tensor([TEXT] * 64), ~prompt)
    draws = torch.cat([FAMILY.bound(denoiser, batch, rng(seed)) for seed in range(20)])
    truth = one(text=Text(TEXT[2:], TEXT[:2]), guidance=1.1).nats
    assert abs(float(draws.mean()) - truth) < 5 * float(draws.std()) / math.sqrt(len(draws))


# A family that brings nothing but its bound


@dataclass(frozen=True, kw_only=True)
class Plain(Family):
    """Masked diffusion behind the contract of a family alone."""

    estimators: ClassVar[tuple[str, ...]] = ("draws",)

    def inputs_for(self, batch: Batch, ask: torch.Tensor, weight: torch.Tensor) -> Noisy:
        return Masked().over(self.vocabulary).inputs_for(batch, ask, weight)

    def corrupt(self, batch: Batch, rng: torch.Generator, levels: torch.Tensor | None = None) -> Noisy:
        return Masked(objective="count").over(self.vocabulary).corrupt(batch, rng, levels)

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        return Masked().over(self.vocabulary).loss(denoiser, batch, rng)

    def bound(
        self, denoiser: Denoiser, batch: Batch, rng: torch.Generator, levels: torch.Tensor | None = None
    ) -> torch.Tensor:
        return Masked().over(self.vocabulary).bound(denoiser, batch, rng, levels)


PLAIN = Plain().over(TABLE.vocabulary)


@pytest.mark.parametrize("draws", [1, 3, 20])
def test_any_family_is_scored_by_its_own_bound(draws: int) -> None:
    found = score(TABLE, PLAIN, [Text(TEXT[1:], TEXT[:1])] * 500, draws=draws)
    values = torch.tensor([e.nats for e in found], dtype=torch.float64)
    error = float(values.std()) / math.sqrt(len(values))
    truth = one(text=Text(TEXT[1:], TEXT[:1])).nats  # enumerated
    assert abs(float(values.mean()) - truth) < 4 * error
    if draws == 1:
        assert all(math.isnan(e.stderr) for e in found)
    if draws == 20:
        reported = torch.tensor([e.stderr for e in found]).square().mean().sqrt()
        assert 0.8 < float(values.std() / reported) < 1.25


def test_guidance_is_never_left_out_in_silence() -> None:
    """Scored with guidance or refused; not scored as if none had been asked for."""
    text = Text(TEXT[2:], TEXT[:2])
    try:
        (found,) = score(TABLE, PLAIN, [text], guidance=2.0, draws=64)
    except RemaskError:
        return
    (plain,) = score(TABLE, PLAIN, [text], draws=64)
    assert found.nats != plain.nats


# The published estimators


@pytest.mark.parametrize(
    ("length", "strata", "least", "most"),
    [(2, 8, 0.75, 1.25), (4, 8, 0.5, 1.5), (10, 8, 0.75, 1.25), (12, 8, 0.5, 1.5), (8, 8, 1, 1), (24, 16, 0.5, 1.5),
     (10, 4, 0.5, 1.5), (7, 1, 1, 1)],
)  # fmt: skip
def test_llada_draws_some_counts_more_often(length: int, strata: int, least: float, most: float) -> None:
    """The exact marginal over counts, times the length, as the reference sheet derived it for the published code."""
    counts = torch.cat([llada_counts(k, length, strata) for k in range(1, length + 1)])
    share = torch.bincount(counts, minlength=length + 1)[1:] / strata
    assert (float(share.min()), float(share.max())) == (least, most)


@pytest.mark.parametrize("strata", [1, 2, 8])
def test_the_mean_of_llada_is_that_of_its_counts(strata: int) -> None:
    """The bound where counts are even; else the sum over masks with the shares that its rounding gives them."""
    length = len(TEXT)
    counts = torch.cat([llada_counts(k, length, strata) for k in range(1, length + 1)])
    share = torch.bincount(counts, minlength=length + 1) / len(counts)
    every = plan(length, "auto", 2**length, 0)
    assert every.hidden is not None
    sizes = every.hidden.sum(1)
    (exact,) = score(TABLE, FAMILY, [Text(TEXT)], draws=2**length)
    work = replace(every, weight=every.weight * (share[sizes] * length)[:, None].double())
    truth = float(_run(TABLE, FAMILY, [(Text(TEXT), work)], 0.0, 4096, "cpu", False)[0].sum())
    assert (truth == pytest.approx(exact.nats, rel=1e-6)) == bool((share[1:] * length == 1).all())
    found = score(TABLE, FAMILY, [Text(TEXT)] * 4000, estimator="llada", draws=16, strata=strata, rows=4096)
    values = torch.tensor([e.nats for e in found], dtype=torch.float64)
    assert abs(float(values.mean()) - truth) < 4 * float(values.std()) / math.sqrt(len(values))
    assert found[0].kind == "bound" and "LLaDA" in found[0].of


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"estimator": "count", "strata": 4}, "strata is for the estimators smdm and llada, not for 'count'"),
        ({"estimator": "llada", "strata": 3, "draws": 16}, "strata is 3; it must divide the 16 draws"),
        ({"estimator": "smdm", "strata": 0, "draws": 16}, "strata is 0"),
        ({"estimator": "mean"}, r"unknown estimator 'mean'\. Known: auto, chain, count, llada, orders, rule, smdm"),
    ],
)
def test_options_of_the_published_estimators(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        score(TABLE, FAMILY, [Text(TEXT)], **options)


@pytest.mark.parametrize("sampler", [LLaDA(), SMDM()], ids=str)
def test_a_sampler_that_draws_first_has_no_rule(sampler: Sampler) -> None:
    with pytest.raises(RemaskError, match="chooses positions by what it has drawn"):
        score(TABLE, FAMILY, [Text(TEXT)], estimator="rule", sampler=SamplingParams(sampler=sampler))


@pytest.mark.parametrize(
    ("estimator", "kind"),
    [("auto", "exact"), ("count", "exact"), ("llada", "exact"), ("chain", "exact"), ("smdm", "bound")],
)
def test_one_token_is_exact_but_for_independent_masks(estimator: Estimator, kind: str) -> None:
    """Of a single token every count is 1, so nothing is random but whether SMDM masks it at all."""
    (found,) = score(TABLE, FAMILY, [Text(TEXT[-1:], TEXT[:-1])], estimator=estimator, draws=32)
    assert found.kind == kind
    truth = -float(TABLE(torch.tensor([[*TEXT[:-1], FAMILY.mask]]))[0, -1].log_softmax(-1)[TEXT[-1]])
    if kind == "exact":
        assert found.nats == pytest.approx(truth, rel=1e-5)
