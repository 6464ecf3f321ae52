"""Classifier-free guidance: the mixed logits, rows with weights of their own, and what it costs."""

from typing import Any

import pytest
import torch
from tables import Counting, rng, tiny
from torch import Tensor
from writing import CAUSAL, MASK, MASKED, PROMPTED, V, begin, fill, how, network

from remask.errors import RemaskError
from remask.families.base import Family
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.model.attention import FULL, Attention, Padded
from remask.sampling import Canvas, Sampler, start, stream
from remask.sampling.confidence import Confidence
from remask.sampling.esolm import EsoLM
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.guidance import NEGATIVE, add_guidance
from remask.sampling.left_to_right import LeftToRight
from remask.vocabulary import Vocabulary

SEVEN = torch.arange(7)


def test_guidance_without_weight_is_no_guidance() -> None:
    model, prompt = network(), torch.ones(1, 4, dtype=torch.bool)
    assert add_guidance(model, MASKED, 0, prompt) is model
    assert add_guidance(model, CAUSAL, 0.0, prompt) is model
    with pytest.raises(RemaskError, match="guidance needs a model that reads masks, and this one is Autoregressive"):
        add_guidance(model, CAUSAL, 0.5, prompt)
    with pytest.raises(RemaskError, match="guidance is nan"):
        add_guidance(model, MASKED, float("nan"), prompt)
    with pytest.raises(RemaskError, match="Autoregressive"):
        fill(LeftToRight(), model, [[1, None]], guidance=0.5)


def test_guided_logits_are_those_of_smdm() -> None:
    """l_c = (2, 0, -1), l_u = (1, .5, -1), w = .6 -> (2.6, -.3, -1)."""

    def network_of_three(tokens: Tensor, *, ask: Tensor | None = None, **reading: Any) -> Tensor:
        conditional, unconditional = torch.tensor([2.0, 0.0, -1.0]), torch.tensor([1.0, 0.5, -1.0])
        assert ask is not None
        found = torch.where((tokens[:, :1] == 3)[:, None], unconditional, conditional)
        return found.expand(*tokens.shape, 3)[ask]

    family = Masked().over(Vocabulary(size=4, mask=3))
    denoiser = add_guidance(network_of_three, family, 0.6, torch.tensor([[True, False]]))
    logits = denoiser(torch.tensor([[0, 3]]), ask=torch.tensor([[False, True]]))
    torch.testing.assert_close(logits, torch.tensor([[2.6, -0.3, -1.0]]))
    torch.testing.assert_close(logits.softmax(-1), torch.tensor([[0.923918, 0.050837, 0.025245]]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", [FULL, Padded(torch.tensor([[7], [5], [7]]) > SEVEN)], ids=["full", "padded"])
def test_guidance_masks_the_prompt_of_each_row(attention: Attention) -> None:
    model, tokens = network(), torch.randint(V, (3, 7), generator=rng(0))
    tokens[:, 4] = MASK
    prompt = torch.tensor([[2], [1], [4]]) > SEVEN
    ask = torch.zeros_like(prompt)
    ask[:, 4] = ask[2, 6] = True
    target = torch.tensor([1, 2, 3, 4])
    with torch.no_grad():
        conditional = model(tokens, ask=ask, attention=attention)
        unconditional = model(tokens.masked_fill(prompt, MASK), ask=ask, attention=attention)
    for weights in (1.5, [1.5, 0.0, -0.5], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]):
        counted = Counting(model)
        denoiser = add_guidance(
            counted, MASKED, torch.tensor(weights) if isinstance(weights, list) else weights, prompt
        )
        with torch.no_grad():
            found = denoiser(tokens, ask=ask, attention=attention)
            nats = denoiser(tokens, ask=ask, attention=attention, target=target)
            everywhere = denoiser(tokens, attention=attention)
        weight = torch.as_tensor(weights).expand(3)[ask.nonzero()[:, 0], None]
        expected = conditional + weight * (conditional - unconditional)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(everywhere[ask], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(nats, torch.nn.functional.cross_entropy(expected, target, reduction="none"))
        guided_rows = 3 if isinstance(weights, float) else sum(w != 0 for w in weights)
        assert counted.sizes == [3 + guided_rows] * 3, "one call; rows of weight 0 have no second branch"


@pytest.mark.parametrize("sampler", [FirstHitting(), Confidence()], ids=["first hitting", "confidence"])
def test_guided_rows_are_the_same_alone_and_in_a_batch(sampler: Sampler) -> None:
    """Two passes a call, and no more for rows that leave first."""
    model, seeds = network(), list(range(5))
    many = fill(sampler, model, PROMPTED, seeds=seeds, guidance=0.8)[-1]
    for i, row in enumerate(PROMPTED):
        one = fill(sampler, model, [row], seeds=[i], guidance=0.8)[-1]
        assert torch.equal(many.tokens[i, : len(row)], one.tokens[0])
        assert int(one.calls[0]) == int(many.calls[i]) == 2 * sum(token is None for token in row)


def test_a_weight_changes_what_is_written() -> None:
    """And is that of each row: the same seed with and without."""
    model, row = network(), PROMPTED[2]
    states = [begin(Confidence(), [row], seeds=[3], guidance=w) for w in (0.0, 4.0)]
    texts = [fill(Confidence(), model, [row], seeds=[3], guidance=w)[-1].tokens for w in (0.0, 4.0)]
    assert not torch.equal(*texts)
    assert [state.option("guidance") for state in states] == [0.0, 4.0]


@pytest.mark.parametrize("variant", ["A", "B"])
def test_a_cache_of_two_branches_changes_nothing(variant: str) -> None:
    family = Interpolating(alpha_0=0.5, variant=variant).over(MASKED.vocabulary)  # type: ignore[arg-type]
    model = tiny(V + 1, V, seed=4, sharpness=2.0)
    found = {
        cache: fill(EsoLM(cache=cache), model, PROMPTED, family=family, steps=4, guidance=0.7)[-1]
        for cache in (True, False)
    }
    assert torch.equal(found[True].tokens, found[False].tokens)
    torch.testing.assert_close(found[True].log_prob, found[False].log_prob, rtol=1e-4, atol=1e-4)
    assert torch.equal(found[True].calls, found[False].calls)


def test_a_cache_of_two_branches_serves_rows_without_guidance_when_the_guided_ones_have_left() -> None:
    family = Interpolating(alpha_0=0.0).over(MASKED.vocabulary)
    model, rows = tiny(V + 1, V, seed=4, sharpness=2.0), [[1, None], [2, *[None] * 5]]
    found = []
    for sampler in (EsoLM(), EsoLM(cache=False)):
        params = [how(sampler, guidance=w, seed=i) for i, w in enumerate((0.7, 0.0))]
        *_, last = stream(model, family, start(family, Canvas.of(rows), params))
        found.append(last)
    assert torch.equal(found[0].tokens, found[1].tokens) and found[0].calls.tolist() == [2, 5]
    torch.testing.assert_close(found[0].log_prob, found[1].log_prob, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "family", [MASKED, Interpolating().over(Vocabulary(size=V + 1, mask=MASK))], ids=["any", "drawn"]
)
def test_a_negative_prompt_is_what_the_second_branch_reads(family: Family) -> None:
    """Its last position stands where that of the prompt does; what is left of the prompt is hidden as without one."""
    model, tokens = network(), torch.randint(V, (2, 7), generator=rng(0))
    tokens[:, 4:] = MASK
    prompt = torch.tensor([[4], [3]]) > SEVEN
    ask = tokens == MASK
    negative = torch.full_like(tokens, -1)
    negative[0, 2:4] = torch.tensor([7, 1])
    with torch.no_grad():
        found = add_guidance(model, family, 2.0, prompt, negative)(tokens, ask=ask)
        plain = add_guidance(model, family, 2.0, prompt)(tokens, ask=ask)
        conditional = model(tokens, ask=ask)
        other = tokens.clone()
        other[0, 2:4] = torch.tensor([7, 1])
        if family is MASKED:
            other[0, :2] = MASK
            unconditional = model(other, ask=ask)
        else:
            index = torch.tensor([[-1, -1, 2, 3, 4, 5, 6], [-1, -1, -1, 3, 4, 5, 6]])
            unconditional = model(other, ask=ask, index=index, attention=Padded(index >= 0))
    first = ask.nonzero()[:, 0] == 0
    torch.testing.assert_close(found[first], (3 * conditional - 2 * unconditional)[first], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[~first], plain[~first])
    assert not torch.allclose(found[first], plain[first])


@pytest.mark.parametrize("cache", [None, "Dual"])
def test_a_row_with_a_negative_prompt_is_written_as_alone(cache: str | None) -> None:
    model = network()
    params = how(Confidence(), guidance=1.5, block=3, cache=cache)
    alone, other = (start(MASKED, Canvas.of([row]), params) for row in ([1, 2, 3, *[None] * 6], [4, *[None] * 4]))
    alone.extras[NEGATIVE] = torch.tensor([[0, 8, 2, *[0] * 6]])
    joined = other.rows(torch.tensor([0])).join(alone.rows(torch.tensor([0])))
    for state in (alone, other, joined):
        list(stream(model, MASKED, state))
    assert torch.equal(joined.tokens[1], alone.tokens[0]) and torch.equal(joined.tokens[0, :5], other.tokens[0])
    plain = start(MASKED, Canvas.of([[1, 2, 3, *[None] * 6]]), params)
    list(stream(model, MASKED, plain))
    assert not torch.equal(plain.tokens, alone.tokens)
