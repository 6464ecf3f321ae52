"""The adaLN DiT: what every denoiser promises, and its own arithmetic."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from remask.errors import RemaskError
from remask.model.attention import CAUSAL, Padded
from remask.model.cache import KeyValueCache
from remask.model.dit import DiT, DiTArchitecture
from remask.model.soft import Soft

SHAPE = DiTArchitecture(
    layers=2, width=16, heads=2, kv_heads=2, head_width=8, ffn=64, context=32, rows=11, predicted=11, condition=8
)
IDS = torch.arange(18).view(2, 9) % 11


def made(a: DiTArchitecture = SHAPE) -> DiT:
    model = DiT(a)
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3, generator=rng)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("a", [SHAPE, replace(SHAPE, time=True), replace(SHAPE, adaln=False)], ids=str)
def test_asked_positions_are_those_of_all(a: DiTArchitecture) -> None:
    model, time = made(a), torch.tensor([0.3, 0.8])
    ask = torch.rand(IDS.shape, generator=torch.Generator().manual_seed(1)) < 0.4
    every = model(IDS, time=time)
    torch.testing.assert_close(model(IDS, ask=ask, time=time), every[ask])
    target = IDS[ask]
    nll = -every[ask].log_softmax(-1).gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(model(IDS, target=target, ask=ask, time=time), nll)
    assert every.dtype == torch.float32
    assert sum(p.numel() for p in model.parameters()) == a.parameters


def test_time_matters_only_where_it_is_asked_for() -> None:
    plain, timed = made(), made(replace(SHAPE, time=True))
    assert torch.equal(plain(IDS, time=torch.tensor([0.1, 0.9])), plain(IDS))
    torch.testing.assert_close(timed(IDS, time=torch.zeros(2)), plain(IDS), msg="no noise is time 0")
    assert not torch.equal(timed(IDS, time=torch.ones(2)), plain(IDS))
    per_position = timed(IDS, time=torch.full(IDS.shape, 0.5))
    torch.testing.assert_close(per_position, timed(IDS, time=torch.full((2,), 0.5)))
    with pytest.raises(RemaskError, match="conditioned on time, but the call gave none"):
        timed(IDS)


def test_soft_tokens_that_are_sure_are_ids() -> None:
    model = made()
    one = torch.nn.functional.one_hot(IDS, 11).float()
    torch.testing.assert_close(model(Soft(one)), model(IDS))
    few = Soft(torch.tensor([0.25, 0.75]).expand(*IDS.shape, 2), torch.stack([IDS, IDS.flip(1)], -1))
    torch.testing.assert_close(model(few), model(Soft(0.25 * one + 0.75 * one.flip(1))))


def test_the_silent_id() -> None:
    model = made(replace(SHAPE, silent=10))
    logits = model(IDS)
    assert bool((logits[..., 10] == -1e6).all())
    assert torch.equal(logits[..., :10], made()(IDS)[..., :10])


def test_a_cache_and_permuted_positions() -> None:
    model, cache = made(), KeyValueCache(2, 2, 9)
    whole = model(IDS, attention=CAUSAL)
    pieces = [[0, 1, 2, 3], [4], [5], [6], [7], [8]]
    parts = [
        model(IDS[:, piece], index=torch.tensor([piece, piece]), attention=CAUSAL, cache=cache) for piece in pieces
    ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)
    order = torch.tensor([3, 1, 0, 2, 8, 5, 4, 7, 6]).expand(2, -1)
    full = model(IDS)
    torch.testing.assert_close(
        model(IDS.gather(1, order), positions=order), full.gather(1, order[..., None].expand_as(full))
    )


def test_padding_is_not_seen() -> None:
    model, valid = made(), torch.arange(9).expand(2, 9) < 6
    torch.testing.assert_close(model(IDS, attention=Padded(valid))[:, :6], model(IDS[:, :6]))


def test_flops_count_the_products() -> None:
    """Against torch's own count of a step whose attention is spelled out."""
    a = replace(SHAPE, width=64, heads=4, kv_heads=4, head_width=16, ffn=256)
    with FlopCounterMode(display=False) as counter:
        DiT(a)(torch.zeros(2, 32, dtype=torch.int64)).sum().backward()
    assert counter.get_total_flops() == pytest.approx(64 * a.flops(32), rel=0.02)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"adaln": False, "time": True}, "without adaLN cannot be conditioned"),
        ({"silent": 11}, "silent id 11 is not among the 11"),
        ({"kv_heads": 1}, "as many key-value heads"),
        ({"head_width": 4}, "as wide as the stream"),
        ({"tied": True}, "architecture.tied is not for a DiT"),
    ],
)
def test_shapes_that_cannot_be(change: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        replace(SHAPE, **change)


def test_the_level_is_minus_log_alpha() -> None:
    """At t = 1 the network is told 6.9078, at t = 0.5 0.6921, as the sheet of the published schedule says."""
    model = made(replace(SHAPE, time=True))
    assert model.sigma_map is not None
    for t, sigma in ((1.0, 6.907755), (0.5, 0.692148), (0.0, 0.0)):
        told = model._level(torch.tensor([t]), torch.device("cpu"))
        torch.testing.assert_close(told, model.sigma_map(torch.tensor([[sigma]])), rtol=1e-4, atol=1e-5)
