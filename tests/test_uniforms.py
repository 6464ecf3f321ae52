"""The random numbers of sampling: a pure function, and as good as independent in all of its arguments."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from remask.uniforms import GOLDEN, scramble, shift_right, uniforms, uniforms_at

WORD = 2**64 - 1
INT64 = st.integers(-(2**63), 2**63 - 1)


def finalise(x: int) -> int:
    """SplitMix64's finaliser in whole numbers of any size."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def reference(seed: int, draw: int, position: int) -> float:
    """One uniform, worked out one number at a time."""
    golden = 0x9E3779B97F4A7C15
    row = finalise((seed + draw * golden) & WORD)
    return (finalise((row + (position + 1) * golden) & WORD) >> 11) / 2**53


@given(seed=INT64, draw=st.integers(0, 2**40), positions=st.integers(1, 9))
def test_they_are_those_of_splitmix_in_plain_numbers(seed: int, draw: int, positions: int) -> None:
    found = uniforms(torch.tensor([seed]), torch.tensor([draw]), positions)
    assert found.dtype == torch.float64 and found.shape == (1, positions)
    assert found[0].tolist() == [reference(seed, draw, i) for i in range(positions)]


@given(seed=INT64, draw=st.integers(0, 2**40), position=st.integers(0, 2**40))
def test_numpy_and_torch_compute_the_same(seed: int, draw: int, position: int) -> None:
    """On a CPU numpy is used; here torch's operations, which GPUs take, are run on the CPU as well."""
    given = torch.tensor([[seed]]), torch.tensor([[draw]]), torch.tensor([position])
    bits = scramble(scramble(given[0] + given[1] * GOLDEN) + (given[2] + 1) * GOLDEN)
    assert torch.equal(shift_right(bits, 11).double() * 2.0**-53, uniforms_at(*given))


@given(x=INT64, bits=st.integers(1, 63))
def test_a_shift_brings_in_zeros(x: int, bits: int) -> None:
    assert int(shift_right(torch.tensor(x), bits)) == (x & WORD) >> bits


def test_a_published_sequence() -> None:
    """SplitMix64 from the state 0, by Vigna's splitmix64.c."""
    state = torch.arange(1, 4) * (0x9E3779B97F4A7C15 - 2**64)
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [x & WORD for x in scramble(state).tolist()] == known


def test_a_row_has_its_own_whatever_its_place_and_the_width() -> None:
    seeds, draws = torch.arange(30) * 7919, torch.arange(30) % 4
    every = uniforms(seeds, draws, 40)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    assert torch.equal(uniforms(seeds[order], draws[order], 25), every[order, :25])
    assert torch.equal(uniforms(seeds[3:4], draws[3:4], 40), every[3:4])


CUBE = uniforms(torch.arange(64).repeat_interleave(64), torch.arange(64).repeat(64), 64).view(64, 64, 64)
"""By seed, draw and position, each from 0 on."""


def test_they_are_even_in_the_unit_interval_and_have_53_bits() -> None:
    assert float(CUBE.min()) >= 0 and float(CUBE.max()) < 1
    assert len(CUBE.unique()) == CUBE.numel()
    assert kstest(CUBE.flatten().numpy(), "uniform").pvalue > 1e-3
    whole = (CUBE * 2**53).long()
    assert torch.equal(whole.double() / 2**53, CUBE)
    for bit in range(53):
        ones = ((whole >> bit) & 1).double().mean()
        assert abs(float(ones) - 0.5) < 5 * 0.5 / math.sqrt(CUBE.numel())


NEIGHBOURS = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -1, 0), (0, 1, -1), (1, 0, -1), (1, 1, 1), (2, 0, 0), (0, 2, -2)]


def test_neighbours_in_seed_draw_and_position_are_unrelated() -> None:
    for step in NEIGHBOURS:
        one, two = (
            CUBE.numpy()[tuple(slice(max(0, sign * d), 64 + min(0, sign * d)) for d in step)].ravel()
            for sign in (1, -1)
        )
        assert abs(np.corrcoef(one, two)[0, 1]) < 4.5 / math.sqrt(len(one)), step
        pairs, _, _ = np.histogram2d(one, two, bins=16, range=[[0, 1], [0, 1]])
        assert chisquare(pairs.ravel()).pvalue > 1e-3, step


def test_whole_rows_are_unrelated() -> None:
    """As many rows as a large batch, of neighbouring seeds and draws."""
    rows = CUBE[:32, :32].reshape(1024, 64)
    correlation = torch.corrcoef(rows) - torch.eye(1024)
    assert float(correlation.abs().mean()) < 0.105  # sqrt(2/pi/64) = .0997 where nothing is related
    assert float(correlation.abs().max()) < 0.75  # 6 sigma
