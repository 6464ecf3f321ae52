"""Sizes: parameter counts of the published models to the unit, overrides, and FLOPs as counted by torch."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from remask.errors import RemaskError
from remask.model.sizes import SIZES, Architecture, SizeOverrides, size
from remask.model.transformer import Transformer

# Scaling up Masked Diffusion Models on Text, lit_gpt/config.py:
# name, layers, heads, width, head width, ffn, non-embedding, MDM total, ARM total
PUBLISHED = """
6M     6  4  256  64 1024    6294784   22679040   22678784
19M    8  6  384  64 1536   18880896   43457280   43456896
34M    8  8  512  64 2048   33563136   66331648   66331136
48M    9  9  576  64 2304   47786688   84651264   84650688
66M   10 10  640  64 2560   65549440  106510080  106509440
75M   16  8  640  80 1600   75387520  116348160  116347520
85M   13 10  640  64 2560   85214080  126174720  126174080
113M  12 12  768  64 3072  113265408  162418176  162417408
142M  15 12  768  64 3072  141581568  190734336  190733568
170M  18 12  768  64 3072  169897728  219050496  219049728
180M  14 14  896  64 3584  179856768  237201664  237200768
206M  16 14  896  64 3584  205550464  262895360  262894464
231M  18 14  896  64 3584  231244160  288589056  288588160
268M  16 16 1024  64 4096  268469248  334006272  334005248
302M  18 16 1024  64 4096  302027776  367564800  367563776
336M  20 16 1024  64 4096  335586304  401123328  401122304
472M  18 10 1280 128 5120  471906560  553827840  553826560
551M  21 10 1280 128 5120  550557440  632478720  632477440
571M  18 11 1408 128 5632  571001728  661115136  661113728
629M  24 10 1280 128 5120  629208320  711129600  711128320
666M  21 11 1408 128 5632  666168448  756281856  756280448
717M  19 12 1536 128 6144  717285888  815591424  815589888
761M  24 11 1408 128 5632  761335168  851448576  851447168
831M  22 12 1536 128 6144  830541312  928846848  928845312
944M  25 12 1536 128 6144  943796736 1042102272 1042100736
1028M 20 14 1792 128 7168 1027677952 1142367744 1142365952
1233M 24 14 1792 128 7168 1233213184 1347902976 1347901184
1476M 22 16 2048 128 8192 1476487168 1607561216 1607559168
1678M 25 16 2048 128 8192 1677826048 1808900096 1808898048
2121M 28 17 2176 128 8704 2121393280 2260659456 2260657280
"""
ROWS = [(line.split()[0], *map(int, line.split()[1:])) for line in PUBLISHED.strip().splitlines()]


def over(name: str, rows: int, predicted: int) -> Architecture:
    return replace(size(name), rows=rows, predicted=predicted)


def actual(architecture: Architecture) -> int:
    with torch.device("meta"):
        model = Transformer(architecture)
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_published_sizes(row: tuple) -> None:
    name, layers, heads, width, head_width, ffn, non_embedding, masked, autoregressive = row
    shape = size(name)
    assert (shape.layers, shape.heads, shape.kv_heads) == (layers, heads, heads)
    assert (shape.width, shape.head_width, shape.ffn) == (width, head_width, ffn)
    assert (shape.context, shape.rope_base, shape.norm_eps) == (2048, 10000.0, 1e-5)
    assert shape.non_embedding == non_embedding
    assert over(name, 32001, 32000).parameters == masked
    assert over(name, 32000, 32000).parameters == autoregressive


def test_all_thirty_are_there() -> None:
    assert len(ROWS) == 30
    assert {row[0] for row in ROWS} <= SIZES.keys()


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("more", [{}, {"tied": True}, {"time": True}, {"convolution": 5}], ids=str)
def test_counts_are_those_of_the_network(name: str, more: dict) -> None:
    shape = replace(size(name), rows=1001, predicted=1000, **more)
    assert actual(shape) == shape.parameters


@pytest.mark.parametrize(("name", "millions"), [("LLaDA-8B", 8015), ("LLaDA-1B", 1487)])
def test_llada(name: str, millions: int) -> None:
    assert over(name, 126464, 126464).parameters // 10**6 == millions


def test_unknown_size_names_the_nearest() -> None:
    with pytest.raises(RemaskError, match=r"unknown model size '1028'.*'1028M'.*LLaDA-8B"):
        size("1028")


def test_overrides_keep_heads_times_head_width() -> None:
    base = size("tiny")
    assert SizeOverrides().of(base) == base
    wide = SizeOverrides(width=256).of(base)
    assert (wide.width, wide.heads, wide.head_width, wide.kv_heads) == (256, 4, 64, 4)
    many = SizeOverrides(heads=8).of(base)
    assert (many.heads, many.kv_heads, many.head_width) == (8, 8, 16)
    grouped = SizeOverrides(heads=8, kv_heads=2, context=64, rope_base=5e5, tied=True, layers=1, ffn=8).of(base)
    assert (grouped.heads, grouped.kv_heads, grouped.context, grouped.rope_base) == (8, 2, 64, 5e5)
    assert grouped.tied and grouped.layers == 1 and grouped.ffn == 8


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (SizeOverrides(heads=3), "heads 3 does not divide architecture.width 128"),
        (SizeOverrides(heads=0), "heads 0 does not divide"),
        (SizeOverrides(width=130), "heads 4 does not divide architecture.width 130"),
        (SizeOverrides(kv_heads=3), "kv_heads 3 does not divide heads 4"),
        (SizeOverrides(heads=128), "head_width 1 is odd"),
        (SizeOverrides(layers=0), "architecture.layers is 0"),
        (SizeOverrides(context=0), "architecture.context is 0"),
        (SizeOverrides(kv_heads=0), "architecture.kv_heads is 0"),
    ],
    ids=str,
)
def test_impossible_overrides(overrides: SizeOverrides, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        overrides.of(size("tiny"))


def test_a_tied_head_needs_its_rows() -> None:
    with pytest.raises(RemaskError, match="tied head cannot predict 11 ids from 10"):
        SizeOverrides(tied=True).of(over("tiny", 10, 11))


@pytest.mark.parametrize("length", [24, 300])  # up to DENSE tokens: torch does not count the CPU's fused attention
@pytest.mark.parametrize("asked", [1.0, 0.25])
@pytest.mark.parametrize("kv_heads", [4, 2])
def test_flops_are_those_of_the_matrix_products(length: int, asked: float, kv_heads: int) -> None:
    shape = SizeOverrides(layers=2, width=32, heads=4, kv_heads=kv_heads, ffn=80, convolution=0).of(
        over("tiny", 51, 50)
    )
    model, rows = Transformer(shape), 2
    ask = torch.zeros(rows, length, dtype=torch.bool)
    ask[:, : round(asked * length)] = True
    counter = FlopCounterMode(display=False)
    with counter:
        model(torch.randint(51, (rows, length)), ask=ask).sum().backward()
    counted = counter.get_total_flops() / (rows * length)
    assert counted == pytest.approx(shape.flops(length, asked=asked), rel=0.01)


def test_flops_of_causal_attention_are_those_of_the_pairs_seen() -> None:
    shape, length = over("6M", 32000, 32000), 64
    pairs = sum(q >= k for q in range(length) for k in range(length)) / length
    scores_and_values = 3 * 2 * 2 * shape.width * shape.layers  # per pair: q.k and p.v, forward and twice backward
    full, causal = shape.flops(length), shape.flops(length, causal=True)
    assert full - causal == pytest.approx(scores_and_values * (length - pairs))
    assert shape.flops_6n == 6 * 6294784
