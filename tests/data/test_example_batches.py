"""Batches of examples: pure functions of (seed, index), whose losses do not depend on padding or packing."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import rng, tiny

from remask.batch import Batch, RowNoise
from remask.data.bins import fill_bins
from remask.data.example_batches import ExampleBatches, ExampleRows, Layout, lay_out
from remask.data.examples import Example, Examples
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.transformer import Transformer
from remask.vocabulary import Vocabulary

END, MASK = 10, 11
VOCABULARY = Vocabulary(size=12, mask=MASK, end=END)
PLAIN = Layout(end=END)
PADDED = Layout(end=END, pad_with_end=True)


def some(count: int = 20, seed: int = 0, replies: int = 1) -> Examples:
    """Conversations of up to `replies` rows of 2 to 9 tokens, of which the last 1 to 4 are scored."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        rows = []
        for _ in range(draw.integers(1, replies + 1)):
            prompt, reply = draw.integers(1, 6), draw.integers(1, 5)
            ids = [*draw.integers(0, 10, prompt + reply - 1).tolist(), END]
            rows.append(Example(ids, [(int(prompt), int(prompt + reply))], int(reply)))
        found.append(rows)
    return Examples(found)


def model(**more: int) -> Transformer:
    return tiny(12, 11, sharpness=2.0, **more).requires_grad_(False)


def same(one: Batch, two: Batch) -> None:
    for name in ("tokens", "scored", "segments", "weights", "global_tokens", "global_rows"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), rtol=0, atol=0)


LAYOUTS = {
    "plain": PLAIN,
    "padded": PADDED,
    "packed": replace(PLAIN, pack=True),
    "packed and padded": replace(PADDED, pack=True),
    "without prompts": replace(PADDED, drop=0.5, mask=MASK, per_example=True),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_a_batch_only_depends_on_seed_and_index_and_shares_make_it_up(layout: Layout) -> None:
    examples = some(60, replies=3)
    used, fresh = (ExampleBatches(examples, 40, 8, 1, layout) for _ in range(2))
    for i in range(9):
        used.share(i)
    for i in (8, 3):
        whole = used.share(i)
        same(whole, fresh.share(i))
        parts = [fresh.share(i, 2 * k, 2) for k in range(4)]
        assert torch.equal(torch.cat([part.tokens for part in parts]), whole.tokens)
        assert torch.equal(torch.cat([part.scored for part in parts]), whole.scored)
        assert {part.global_tokens for part in parts} == {int(whole.scored.sum())} == {whole.global_tokens}
        assert [part.offset for part in parts] == [0, 2, 4, 6] and {part.global_rows for part in parts} == {8}
        if whole.weights is not None:
            weights = torch.cat([part.weights for part in parts if part.weights is not None])
            torch.testing.assert_close(weights, whole.weights)
            assert float((weights * whole.scored).sum()) == pytest.approx(whole.global_tokens)
    other = ExampleBatches(examples, 40, 8, 2, layout).share(0)
    assert other.tokens.shape != used.share(0).tokens.shape or not torch.equal(other.tokens, used.share(0).tokens)


def test_an_epoch_has_each_conversation_once_and_draws_its_reply_anew() -> None:
    examples = some(32, replies=3)
    batches = ExampleBatches(examples, 16, 8, 0, PLAIN)
    owner = np.repeat(np.arange(32), np.diff(examples.firsts))
    epochs = [[i for place in range(32 * e, 32 * e + 32) for i in batches.chosen(place)] for e in range(40)]
    assert all(sorted(owner[epoch].tolist()) == list(range(32)) for epoch in epochs)
    counts = np.bincount(np.concatenate(epochs), minlength=len(examples))
    for first, last in itertools.pairwise(examples.firsts):
        assert counts[first:last].sum() == 40 and counts[first:last].min() >= 40 / (last - first) / 4


def test_mean_length_is_that_of_the_longest_of_a_batch() -> None:
    examples = some(50)
    drawn = np.random.default_rng(0).choice(examples.lengths, (20_000, 4)).max(1)
    assert ExampleBatches(examples, 16, 4, 0, PLAIN).mean_length == pytest.approx(drawn.mean(), abs=0.02)
    assert ExampleBatches(examples, 16, 1, 0, PLAIN).mean_length == pytest.approx(examples.lengths.mean())


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize(
    "family", [Masked(), Masked(pairs=True), Uniform(), Interpolating(alpha_0=0.5), Autoregressive()], ids=str
)
def test_only_replies_are_noised_and_asked(family: Family, layout: Layout) -> None:
    batch = ExampleBatches(some(60), 24, 8, 0, layout).share(0)
    # every prompt is made known by ids of its own, which no noise draws
    marked = replace(batch, tokens=torch.where(batch.scored, batch.tokens, 20 + torch.arange(batch.tokens.shape[1])))
    noisy = family.over(VOCABULARY).corrupt(marked, rng(0), torch.full((8,), 0.999))
    asked = noisy.tokens if isinstance(family, Autoregressive) else noisy.tokens[noisy.ask]
    assert noisy.target.max() < 20 and len(noisy.target)
    assert isinstance(family, Autoregressive) or asked.max() < 20
    prompts = 20 + torch.arange(batch.tokens.shape[1])
    for row in range(8):
        kept = marked.tokens[row][~marked.scored[row]]
        read = noisy.tokens[row]
        if not isinstance(family, Autoregressive):
            assert sorted(read[read >= 20].tolist()) == kept.tolist()
        assert set(kept.tolist()) <= set(prompts.tolist())


@pytest.mark.parametrize("layout", [PLAIN, replace(PLAIN, per_example=True)], ids=["tokens", "examples"])
@pytest.mark.parametrize("convolution", [0, 5])
@pytest.mark.parametrize("family", [Masked(), Interpolating(), Interpolating(variant="A"), Autoregressive()], ids=str)
def test_the_loss_does_not_depend_on_padding(family: Family, layout: Layout, convolution: int) -> None:
    ours, denoiser, examples = family.over(VOCABULARY), model(convolution=convolution), some()
    chosen = sorted(range(6), key=lambda i: examples.lengths[i])
    layout = replace(layout, hide=family.order != "left")
    whole = lay_out(examples, [[i] for i in chosen], layout, 99)
    levels = torch.linspace(0.1, 0.9, 6)
    bounds = ours.bound(denoiser, whole, RowNoise(torch.arange(6)), levels)
    other = replace(whole, tokens=whole.tokens.masked_fill(~valid(examples, chosen, whole), 3))
    torch.testing.assert_close(ours.bound(denoiser, other, RowNoise(torch.arange(6)), levels), bounds)
    for row, i in enumerate(chosen):
        alone = lay_out(examples, [[i]], layout, 99)
        found = ours.bound(denoiser, alone, RowNoise(torch.tensor([row])), levels[row : row + 1])
        share = 1.0 if whole.weights is None else float(whole.weights[row, 0])
        torch.testing.assert_close(found[0] * share, bounds[row], rtol=1e-5, atol=1e-5)


def valid(examples: Examples, chosen: list[int], batch: Batch) -> torch.Tensor:
    lengths = torch.from_numpy(examples.lengths[chosen])
    return torch.arange(batch.tokens.shape[1]) < lengths[:, None]


@pytest.mark.parametrize("convolution", [0, 5])
@pytest.mark.parametrize("family", [Masked(), Uniform(), Interpolating(), Autoregressive()], ids=str)
def test_packed_rows_have_the_loss_of_separate_ones(family: Family, convolution: int) -> None:
    ours, examples = family.over(VOCABULARY), some()
    denoiser = model(convolution=convolution, time=family.time == "required")
    rows, layout = [[3, 0, 5], [1, 2]], replace(PLAIN, pack=True)
    packed = lay_out(examples, rows, layout, 99)
    apart = lay_out(examples, [[i] for row in rows for i in row], replace(PLAIN, hide=family.order != "left"), 99)
    assert packed.global_tokens == apart.global_tokens
    losses = []
    for batch in (packed, apart):  # all scored tokens hidden
        noisy = ours.inputs_for(batch, batch.scored, torch.ones(len(batch.tokens)))
        losses.append(float(ours.token_loss(denoiser, noisy).sum()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    blind = ours.inputs_for(replace(packed, segments=None), packed.scored, torch.ones(2))
    assert float(ours.token_loss(denoiser, blind).sum()) != pytest.approx(losses[1], rel=1e-4)


def test_end_of_text_padding_is_part_of_the_reply() -> None:
    examples = some()
    batch = lay_out(examples, [[0], [1], [2]], PADDED, 99)
    longest = max(examples.lengths[:3])
    for row in range(3):
        size, reply = int(examples.lengths[row]), int(examples.replies[row])
        assert batch.tokens[row, size:].tolist() == [END] * (longest - size)
        assert batch.scored[row].tolist() == [k >= size - reply for k in range(longest)]
    packed = lay_out(examples, [[0, 1], [2]], replace(PADDED, pack=True), 64)
    assert packed.tokens.shape[1] == 64 and packed.segments is not None
    assert packed.segments[0].tolist() == [0] * 32 + [1] * 32
    assert packed.segments[1].tolist() == [0] * 32 + [2] * 32 and not packed.scored[1, 32:].any()
    assert packed.scored[0, 31] and packed.global_tokens == int(packed.scored.sum())


def test_weights_by_example_are_the_mean_of_the_means() -> None:
    """The loss of a batch is the mean over examples of the exact bound per token, enumerated over all masks."""
    examples, ours, denoiser = some(), Masked(objective="count").over(VOCABULARY), model()
    chosen = [i for i in range(20) if examples.replies[i] <= 3][:3]
    layout = replace(PLAIN, per_example=True)
    whole = lay_out(examples, [[i] for i in chosen], layout, 99)
    expected, drawn = 0.0, 0.0
    for row, i in enumerate(chosen):
        alone = lay_out(examples, [[i]], PLAIN, 99)
        own, weighted = 0.0, 0.0
        for ask, weight in every_mask(alone.scored[0]):
            noisy = ours.inputs_for(alone, ask[None], torch.tensor([weight]))
            own += float(ours.token_loss(denoiser, noisy).sum())
            part = whole.at(torch.tensor([row]))
            wide = torch.nn.functional.pad(ask, (0, whole.tokens.shape[1] - len(ask)))
            noisy = ours.inputs_for(part, wide[None], torch.tensor([weight]))
            weighted += float(ours.token_loss(denoiser, noisy).sum())
        expected += own / int(examples.replies[i]) / len(chosen)
        drawn += weighted / (whole.global_tokens or 0)
    assert drawn == pytest.approx(expected, rel=1e-5)
    noise = [ours.loss(denoiser, whole, rng(seed)).per_token(whole.global_tokens).item() for seed in range(600)]
    assert np.mean(noise) == pytest.approx(expected, abs=4 * np.std(noise) / math.sqrt(600))


@pytest.mark.parametrize(
    "family",
    [Masked(), Uniform(), Uniform(curriculum=1.0), Interpolating(), Interpolating(alpha_0=0.0), Autoregressive()],
    ids=str,
)
def test_weights_of_tokens_are_those_of_the_loss(family: Family) -> None:
    """A loss is linear in the weights of tokens; that of one example of a packed row knows nothing of the others."""
    ours, examples = family.over(VOCABULARY), some()
    denoiser = model(time=family.time == "required")
    batch = replace(lay_out(examples, [[3, 0, 5], [1, 2]], replace(PLAIN, pack=True), 99), progress=0.5)
    assert batch.segments is not None

    def total(weights: torch.Tensor | None, tokens: torch.Tensor = batch.tokens) -> float:
        return float(ours.loss(denoiser, replace(batch, weights=weights, tokens=tokens), rng(4)).total)

    parts = [(batch.segments == k).float() for k in range(3)]
    apart = [total(part) for part in parts]
    assert sum(value > 0 for value in apart) > 1
    assert sum(apart) == pytest.approx(total(None), rel=1e-5)
    mixed = total(0.5 * parts[0] + 2.0 * parts[1] + 3.0 * parts[2])
    assert mixed == pytest.approx(0.5 * apart[0] + 2.0 * apart[1] + 3.0 * apart[2], rel=1e-5)
    for value, part in zip(apart, parts, strict=True):
        others = torch.where(part > 0, batch.tokens, (batch.tokens + 1) % 10)
        assert total(part, others) == pytest.approx(value, rel=1e-5)


def every_mask(scored: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
    """The masks of a row, and the chance of each times L/k, for k uniform from 1 to L."""
    places, found = scored.nonzero()[:, 0].tolist(), []
    for k in range(1, len(places) + 1):
        for hidden in itertools.combinations(places, k):
            ask = torch.zeros_like(scored)
            ask[list(hidden)] = True
            found.append((ask, 1 / len(places) / math.comb(len(places), k) * len(places) / k))
    return found


def test_dropped_prompts_are_read_as_guidance_reads_them() -> None:
    examples = some()
    for mask in (MASK, None):
        layout = replace(PLAIN, drop=0.5, mask=mask)
        batch = lay_out(examples, [[0], [1]], layout, 99, [True, False])
        prompt = int(examples.lengths[0] - examples.replies[0])
        kept = batch.tokens[1, : int(examples.lengths[1])]
        assert kept.tolist() == examples[1][0].tolist()
        if mask is None:
            seen = batch.attention.mask(2, torch.arange(batch.tokens.shape[1]))
            assert seen is not None and not seen[0, 0, prompt, :prompt].any() and seen[1, 0, -1, 0]
        else:
            assert batch.tokens[0, :prompt].tolist() == [MASK] * prompt
            assert batch.tokens[0, prompt : int(examples.lengths[0])].tolist() == examples[0][0][prompt:].tolist()


def test_the_share_of_dropped_prompts() -> None:
    batches = ExampleBatches(some(200), 16, 50, 0, replace(PLAIN, drop=0.25, mask=MASK))
    dropped = sum(int((batches.share(i).tokens[:, 0] == MASK).sum()) for i in range(20))
    assert dropped / 1000 == pytest.approx(0.25, abs=0.06)


def test_rows_of_validation() -> None:
    rows = ExampleRows(some(), replace(PADDED, pack=True, drop=0.9, mask=MASK))
    batch, sizes = rows.batch_of([4, 2])
    assert batch.segments is None and sizes == rows.examples.bytes[[4, 2]].tolist()
    assert not (batch.tokens == MASK).any()
    given, target, size = rows.text(4) or ([], [], 0)
    assert [*given, *target] == rows.examples[4][0].tolist() and size == len(target)
    weighted = ExampleRows(some(), replace(PADDED, per_example=True)).batch_of([4, 2])[0]
    assert weighted.weights is None, "a bound on -log p is no mean over rows"
    several = Examples([[Example([1, 2, 3, 4], [(1, 2), (3, 4)], 2)]])
    assert ExampleRows(several, PLAIN).text(0) is None, "what lies between two replies is not scored"


@given(st.lists(st.integers(1, 16), min_size=1, max_size=60), st.integers(0, 3))
def test_bins_hold_every_text_once_and_are_not_too_full(lengths: list[int], seed: int) -> None:
    bins = fill_bins(lengths, 16, seed)
    assert sorted(i for one in bins for i in one) == list(range(len(lengths)))
    sizes = sorted(sum(lengths[i] for i in one) for one in bins)
    assert sizes[-1] <= 16
    assert len(sizes) < 2 or sizes[0] + sizes[1] > 16, "two bins would have been one"


def test_options_out_of_range() -> None:
    with pytest.raises(RemaskError, match="a batch of 0 rows"):
        ExampleBatches(some(), 16, 0, 0, PLAIN)
    with pytest.raises(RemaskError, match="no conversations"):
        ExampleBatches(Examples([]), 16, 4, 0, PLAIN)
