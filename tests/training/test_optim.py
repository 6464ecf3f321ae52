"""Budgets and learning rates are those of the published runs; weight decay goes where it should."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from remask.errors import RemaskError
from remask.model.sizes import Architecture, size
from remask.model.transformer import Transformer
from remask.training.optim import Budget, Optimizer, default_warmup


def no_clock() -> float:
    raise AssertionError("nothing is to be timed")


# Scaling up Masked Diffusion Models on Text: size, 1e18 FLOPs, batch, share of random lengths -> steps, warm-up
VECTORS = [
    ("170M", 10, 256, 0.0, 18710, 187),
    ("170M", 100, 256, 0.0, 187107, 1871),
    ("170M", 6, 256, 0.0, 11226, 112),
    ("170M", 60, 256, 0.01, 112828, 1128),
    ("1028M", 100, 256, 0.0, 30932, 309),
    ("1028M", 1600, 256, 0.01, 497413, 4974),
    ("1028M", 3300, 1024, 0.01, 256478, 2564),
    ("19M", 10, 256, 0.0, 168366, 1683),
    ("336M", 100, 256, 0.0, 94727, 947),
    ("472M", 100, 256, 0.0, 67363, 673),
]


@pytest.mark.parametrize(("name", "flops", "batch", "random", "steps", "warmup"), VECTORS)
def test_published_budgets(name: str, flops: float, batch: int, random: float, steps: int, warmup: int) -> None:
    length = 2048 * (1 - random) + 0.5 * (1 + 2048) * random
    assert Budget(flops=flops * 1e18).resolve(size(name).non_embedding, batch, length, no_clock) == steps
    assert default_warmup(steps) == warmup


def test_budgets_in_tokens_steps_and_minutes() -> None:
    assert Budget(steps=7).resolve(1, 8, 64, no_clock) == 7
    assert Budget(tokens=8 * 64 * 5 + 511).resolve(1, 8, 64, no_clock) == 5
    assert Budget(epochs=2.5).resolve(1, 8, 64, no_clock, rows=100) == 31
    assert Budget(minutes=2).resolve(1, 8, 64, lambda: 0.5) == 240
    assert Budget(minutes=0.001).resolve(1, 8, 64, lambda: 60.0) == 1


def test_two_budgets() -> None:
    with pytest.raises(RemaskError, match=r"one budget, not budget\.flops and budget\.steps"):
        Budget(flops=1e18, steps=10)


def test_no_budget() -> None:
    with pytest.raises(RemaskError, match=r"--budget\.flops, .*epochs, --budget\.steps or --budget\.minutes"):
        Budget().resolve(1, 8, 64, no_clock)


@pytest.mark.parametrize(
    ("budget", "says"),
    [({"steps": 0}, "budget.steps is 0"), ({"flops": -1.0}, "budget.flops is -1"), ({"minutes": 0.0}, "above 0")],
)
def test_budgets_are_above_zero(budget: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Budget(**budget)


@pytest.mark.parametrize("budget", [Budget(tokens=511), Budget(flops=6 * 1000 * 511)], ids=["tokens", "flops"])
def test_a_budget_below_one_step(budget: Budget) -> None:
    with pytest.raises(RemaskError, match="less than one step of 8 rows of 64 tokens"):
        budget.resolve(1000, 8, 64, no_clock)


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0), (1, 2.67380e-7), (374, 1e-4), (748, 2e-4), (20000, 1.716424e-4), (37794, 1.1e-4), (74840, 2e-5)],
)
def test_published_learning_rates(step: int, rate: float) -> None:
    assert Optimizer(lr=2e-4, floor=0.1, warmup=748).rate(step, 74840) == pytest.approx(rate, rel=1e-6)


def test_warm_up_by_default() -> None:
    optimizer = Optimizer(lr=1.0)
    assert optimizer.rate(187, 18710) == 1.0 and optimizer.rate(186, 18710) < 1.0
    assert optimizer.rate(5, 50) == 1.0  # a tenth of a short run, not 100 steps
    assert Optimizer(lr=1.0, warmup=0).rate(0, 50) == 1.0


def test_stable_then_decay() -> None:
    optimizer = Optimizer(lr=1.0, schedule="wsd", warmup=10, decay=0.2, floor=0.1)
    rates = [optimizer.rate(step, 100) for step in range(101)]
    assert rates[:11] == pytest.approx([i / 10 for i in range(11)])
    assert set(rates[10:81]) == {1.0}
    assert rates[80:] == pytest.approx([1 - 0.9 * i / 20 for i in range(21)])


@given(st.integers(1, 500), st.sampled_from(["cosine", "wsd"]), st.floats(0, 1), st.floats(0.01, 1), st.integers(0, 50))
def test_rates_stay_between_zero_and_the_peak(steps: int, schedule, floor: float, decay: float, warmup: int) -> None:
    optimizer = Optimizer(lr=3.0, schedule=schedule, floor=floor, decay=decay, warmup=min(warmup, steps - 1))
    rates = [optimizer.rate(step, steps) for step in range(steps + 1)]
    assert all(math.isfinite(r) and 0 <= r <= 3.0 * (1 + 1e-12) for r in rates)
    top = optimizer.warmup or 0
    assert all(a >= b - 1e-12 for a, b in zip(rates[top:], rates[top + 1 :]))
    assert rates[-1] == pytest.approx(3.0 * floor, abs=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": math.inf}, r"optimizer\.lr is inf; it must be above 0 and finite"),
        ({"decay": 2.0}, r"optimizer\.decay is 2\.0; it must be above 0 and at most 1"),
        ({"warmup": -1}, r"optimizer\.warmup is -1; it must be at least 0"),
    ],
    ids=str,
)
def test_rates_that_cannot_be(options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        Optimizer(**options)


def model(**more: object) -> Transformer:
    shape = {"layers": 2, "width": 8, "heads": 2, "kv_heads": 2, "head_width": 4, "ffn": 12}
    return Transformer(Architecture(**{**shape, "rows": 6, "predicted": 5, **more}))  # type: ignore[arg-type]


def decayed(optimizer: torch.optim.AdamW, network: torch.nn.Module) -> dict[str, float]:
    names = {id(p): n for n, p in network.named_parameters()}
    return {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("more", [{}, {"tied": True}, {"time": True}], ids=str)
def test_only_matrices_decay(more: dict) -> None:
    network = model(**more)
    found = decayed(Optimizer(kind="adamw", lr=1e-3, weight_decay=0.3).build(network), network)
    assert found.keys() == dict(network.named_parameters()).keys()
    for name, decay in found.items():
        free = "norm" in name or "embed" in name or name.endswith("bias")
        assert decay == (0.0 if free else 0.3), name
    assert 0.3 in found.values() and 0.0 in found.values()


def test_everything_decays_when_asked() -> None:
    network = model(time=True)
    found = decayed(Optimizer(kind="adamw", lr=1e-3, weight_decay=0.3, decay_all=True).build(network), network)
    assert found.keys() == dict(network.named_parameters()).keys()
    assert set(found.values()) == {0.3}


def test_the_optimiser_is_adamw_as_asked() -> None:
    made = Optimizer(lr=0.5, betas=(0.8, 0.9)).build(model())
    assert isinstance(made, torch.optim.AdamW)
    assert made.defaults["betas"] == (0.8, 0.9) and made.defaults["lr"] == 0.5
