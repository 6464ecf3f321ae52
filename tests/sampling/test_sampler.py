"""What samplers have in common: names, whom they fit, how steps are shared out, and the choice of the best."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tables import UNHURRIED, CausalTable, random_joint
from writing import CAUSAL, EVERY, MASKED, V, begin

from remask.errors import RemaskError
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.uniform import Uniform
from remask.options import parse_options
from remask.sampling import samplers
from remask.sampling.ancestral import Ancestral
from remask.sampling.confidence import Confidence
from remask.sampling.esolm import EsoLM
from remask.sampling.first_hitting import FirstHitting
from remask.sampling.left_to_right import LeftToRight
from remask.sampling.llada import LLaDA
from remask.sampling.psi import Psi
from remask.sampling.sampler import largest, spread
from remask.vocabulary import Vocabulary

UNIFORM = Uniform().over(Vocabulary(size=V))
DRAWN = Interpolating().over(MASKED.vocabulary)


def test_every_sampler_is_tested_here() -> None:
    """But for those that write a position more than once, in test_psi.py and test_wino.py, that need temperature 0, in
    test_freedave.py, and of other families, in tests/families."""
    ours = {kind for kind in samplers().values() if kind().fits(MASKED) or kind().fits(CAUSAL)}
    ours = {kind for kind in ours if not kind().rewrites and not kind.greedy}
    assert {type(params.sampler) for params in EVERY.values()} == ours


def test_samplers_refuse_families_that_they_do_not_fit() -> None:
    for sampler, family, says in [
        (LeftToRight(), MASKED, "LeftToRight does not fit Masked models; these do: Ancestral, Confidence"),
        (Ancestral(), CAUSAL, "Ancestral does not fit Autoregressive models; these do: LeftToRight"),
        (Confidence(), UNIFORM, "Confidence does not fit Uniform models; these do: Ancestral, Psi"),
        (EsoLM(), MASKED, "EsoLM does not fit Masked models"),
        (Psi(), DRAWN, "Psi does not fit Interpolating models; these do: EsoLM"),
    ]:
        with pytest.raises(RemaskError, match=says):
            begin(sampler, [[None] * 3], family=family)


def test_a_table_of_another_family_is_refused_too() -> None:
    table = CausalTable(random_joint(3, 3, seed=0), end=3)
    with pytest.raises(RemaskError, match="Autoregressive"):
        begin(Ancestral(), [[None] * 3], family=Autoregressive().over(table.vocabulary))


def test_each_block_has_its_share_of_the_steps() -> None:
    for sampler, steps, block, length, share in [
        (Confidence(), None, 4, 16, None),
        (Confidence(), 8, 16, 16, 8),
        (Confidence(), 8, 4, 16, 2),
        (Confidence(), 3, 4, 16, 1),
        (Confidence(), 9, 5, 13, 4),
        (Ancestral(), 64, 4, 16, 16),
        (LLaDA(), None, 4, 10, 4),
        (LLaDA(), 8, 5, 10, 4),
        (LLaDA(), 6, 4, 11, 2),
    ]:
        assert sampler.steps_of_block(steps, block, length) == share


@UNHURRIED
@given(
    scores=st.lists(st.sampled_from([0.0, 0.5, 0.5, 1.0, -1.0]), min_size=1, max_size=8),
    count=st.integers(0, 9),
    data=st.data(),
)
def test_largest_takes_the_best_of_those_allowed_and_ties_go_left(
    scores: list[float], count: int, data: st.DataObject
) -> None:
    among = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    chosen = largest(torch.tensor([scores]), torch.tensor([among]), torch.tensor([count]))[0].tolist()
    order = sorted((i for i in range(len(scores)) if among[i]), key=lambda i: (-scores[i], i))
    assert [i for i, c in enumerate(chosen) if c] == sorted(order[:count])


def test_largest_counts_by_row_and_spread_puts_values_in_their_places() -> None:
    asked = torch.tensor([[True, False, True], [False, True, True]])
    scores = spread(torch.tensor([0.1, 0.9, 0.2, 0.3]), asked)
    torch.testing.assert_close(scores, torch.tensor([[0.1, 0, 0.9], [0, 0.2, 0.3]]))
    chosen = largest(scores, asked, torch.tensor([1, 2]))
    assert chosen.tolist() == [[False, False, True], [False, True, True]]


def test_a_sampler_that_could_not_finish_is_refused() -> None:
    for made in [lambda: FirstHitting(at_once=0), lambda: EsoLM(parallel_blocks=-1)]:
        with pytest.raises(RemaskError, match="it must be"):
            made()


def test_a_sampler_with_options_in_words() -> None:
    assert parse_options(LLaDA, "late_end=true, remasking=random") == {"late_end": True, "remasking": "random"}
    assert parse_options(FirstHitting, "at_once=7") == {"at_once": 7}
    assert parse_options(Confidence, "") == {}
    for kind, text, says in (
        (LLaDA, "late=true", "unknown option of LLaDA 'late'. Did you mean 'late_end'"),
        (LLaDA, "late_end", "late_end has no value; write late_end=VALUE"),
        (LLaDA, "late_end=yes", "late_end is 'yes'; it must be true or false"),
        (FirstHitting, "at_once=some", "at_once is 'some'; it must be a whole number"),
        (Psi, "kappa=much", "kappa is 'much'; it must be a number"),
        (LLaDA, "steps=3", "unknown option of LLaDA 'steps'"),
    ):
        with pytest.raises(RemaskError, match=says):
            parse_options(kind, text)
