"""Weights of texts by their rewards, by the published formulas."""

import math
import statistics

import pytest
import torch

from remask.errors import RemaskError
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.training.reinforcement.just_grpo import JustGRPO
from remask.training.reinforcement.objective import objective_of, objectives
from remask.training.reinforcement.policy import up_to_end
from remask.training.reinforcement.wd1 import WD1
from remask.vocabulary import Vocabulary

REWARDS = [[1.0, 0.0, 0.0, 1.0], [0.2, 0.9, -1.0, 3.0], [0.1, 0.1, 0.1, 0.1]]


def test_group_advantages_by_formula() -> None:
    """(r - mean) / (std + 1e-4), with the standard deviation of a sample."""
    found = JustGRPO(group=4).weights(torch.tensor(REWARDS, dtype=torch.float64))
    for row, rewards in zip(found.tolist(), REWARDS, strict=True):
        mean, std = statistics.fmean(rewards), statistics.stdev(rewards)
        assert row == pytest.approx([(r - mean) / (std + 1e-4) for r in rewards], abs=1e-9)


def test_weights_of_wd1_by_formula() -> None:
    """softmax(A) - softmax(-A), A = r - mean: what is likely to be raised is better than the mean of its group."""
    found = WD1(group=4).weights(torch.tensor(REWARDS, dtype=torch.float64))
    for row, rewards in zip(found.tolist(), REWARDS, strict=True):
        a = [r - statistics.fmean(rewards) for r in rewards]
        up, down = ([math.exp(sign * x) for x in a] for sign in (1, -1))
        assert row == pytest.approx([u / sum(up) - d / sum(down) for u, d in zip(up, down, strict=True)])
        assert sum(row) == pytest.approx(0.0, abs=1e-12)
    assert found[2].tolist() == [0.0] * 4


def test_a_text_is_written_up_to_its_end() -> None:
    tokens = torch.tensor([[9, 5, 6, 9, 7, 9], [9, 9, 5, 5, 5, 5], [9, 5, 9, 5, 8, 5]])
    open_ = torch.tensor([[0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0]], dtype=torch.bool)
    expected = [[0, 0, 1, 1, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]]
    assert up_to_end(tokens, open_, [9, 8]).int().tolist() == expected
    assert torch.equal(up_to_end(tokens, open_, []), open_)


def test_objectives_by_name() -> None:
    assert set(objectives()) == {"JustGRPO", "WD1"}
    assert objective_of("JustGRPO:group=16") == JustGRPO(group=16)
    assert objective_of("WD1:group=4,prompt_mask=0,steps=3,sampler=FirstHitting").group == 4


@pytest.mark.parametrize(
    ("name", "says"),
    [("GRPO", "unknown objective 'GRPO'.*Known: JustGRPO, WD1"), ("JustGRPO:group=1", "group is 1; .*2 or more"),
     ("JustGRPO:clip=1", "unknown option of JustGRPO 'clip'"), ("WD1:prompt_mask=2", "prompt_mask is 2.0; .*0 and 1"),
     ("WD1:group=many", "group is 'many'; it must be a whole number")],
)  # fmt: skip
def test_what_is_no_objective(name: str, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        objective_of(name)


def test_families_that_fit() -> None:
    JustGRPO().check(Masked())
    with pytest.raises(RemaskError, match=r"WD1 is for models that fill masks in any order, .* this one is Uniform"):
        WD1().check(Uniform().over(Vocabulary(size=4)))
