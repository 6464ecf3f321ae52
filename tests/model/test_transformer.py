"""The Transformer against an independent one written position by position, and the promises of its options."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remask.errors import RemaskError
from remask.model.attention import CAUSAL, FULL, Padded, Segments
from remask.model.rotary import rotary, rotate
from remask.model.sizes import Architecture, SizeOverrides, size
from remask.model.transformer import Initialisation, Transformer, initialise

ROWS, PREDICTED = 12, 11


def small(**more: object) -> Architecture:
    base = {"layers": 2, "width": 16, "heads": 4, "kv_heads": 4, "head_width": 4, "ffn": 24, "context": 64}
    return Architecture(**{**base, "rows": ROWS, "predicted": PREDICTED, **more})  # type: ignore[arg-type]


def made(seed: int = 0, **more: object) -> Transformer:
    """A model whose every weight is random, gains and gates too, and large enough to matter."""
    model = Transformer(small(**more))
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.4, generator=rng)
    return model.eval().requires_grad_(False)


def ids(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(ROWS, (rows, length), generator=torch.Generator().manual_seed(seed))


def naive(model: Transformer, row: list[int], causal: bool = False) -> np.ndarray:
    """(S, V) logits of one row, in float64, by loops over positions, heads and pairs."""
    a = model.architecture
    w = {k: v.double().numpy() for k, v in model.state_dict().items()}

    def norm(x: np.ndarray, gain: np.ndarray) -> np.ndarray:
        return gain * x / np.sqrt((x * x).mean() + a.norm_eps)

    def turn(x: np.ndarray, position: int) -> np.ndarray:
        """Pairs (x_i, x_{i + d/2}) as complex numbers, turned by position * base^(-2i/d)."""
        half = len(x) // 2
        theta = np.array([a.rope_base ** (-2 * i / len(x)) for i in range(half)])
        z = (x[:half] + 1j * x[half:]) * np.exp(1j * position * theta)
        return np.concatenate([z.real, z.imag])

    stream = [w["model.embed_tokens.weight"][token] for token in row]
    for n in range(a.layers):
        p = f"model.layers.{n}."
        inside = [norm(x, w[p + "input_layernorm.weight"]) for x in stream]
        q, k, v = ([w[f"{p}self_attn.{s}_proj.weight"] @ x for x in inside] for s in "qkv")
        for i in range(len(row)):
            heads = []
            for h in range(a.heads):
                g = h * a.kv_heads // a.heads
                own, shared = (
                    slice(h * a.head_width, (h + 1) * a.head_width),
                    slice(g * a.head_width, (g + 1) * a.head_width),
                )
                seen = range(i + 1) if causal else range(len(row))
                scores = np.array([turn(q[i][own], i) @ turn(k[j][shared], j) for j in seen])
                share = np.exp(scores / math.sqrt(a.head_width))
                share /= share.sum()
                heads.append(sum(s * v[j][shared] for s, j in zip(share, seen)))
            stream[i] = stream[i] + w[p + "self_attn.o_proj.weight"] @ np.concatenate(heads)
        for i, x in enumerate(stream):
            y = norm(x, w[p + "post_attention_layernorm.weight"])
            gate, up = w[p + "mlp.gate_proj.weight"] @ y, w[p + "mlp.up_proj.weight"] @ y
            stream[i] = x + w[p + "mlp.down_proj.weight"] @ (gate / (1 + np.exp(-gate)) * up)
    return np.stack([w["lm_head.weight"] @ norm(x, w["model.norm.weight"]) for x in stream])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "more", [{}, {"kv_heads": 2}, {"kv_heads": 1}, {"rope_base": 500.0, "norm_eps": 0.1}, {"head_width": 6}], ids=str
)
def test_forward_is_that_of_the_naive_network(more: dict, causal: bool) -> None:
    model, tokens = made(**more), ids(3, 9)
    found = model(tokens, attention=CAUSAL if causal else FULL)
    assert found.dtype == torch.float32
    wanted = np.stack([naive(model, row, causal) for row in tokens.tolist()])
    np.testing.assert_allclose(found.numpy(), wanted, rtol=2e-4, atol=2e-4)


def test_training_path_is_that_of_the_naive_network() -> None:
    model, tokens = made(kv_heads=2).requires_grad_(True), ids(2, 7)
    wanted = np.stack([naive(model, row) for row in tokens.tolist()])
    np.testing.assert_allclose(model(tokens).detach().numpy(), wanted, rtol=2e-4, atol=2e-4)


def test_grouped_heads_are_shared_heads() -> None:
    grouped, every = made(kv_heads=2), made()
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if "k_proj" in name or "v_proj" in name:
            weights[name] = weight.unflatten(0, (2, 4)).repeat_interleave(2, 0).flatten(0, 1)
    every.load_state_dict(weights)
    tokens = ids(2, 10)
    torch.testing.assert_close(grouped(tokens), every(tokens))
    torch.testing.assert_close(grouped(tokens, attention=CAUSAL), every(tokens, attention=CAUSAL))


@pytest.mark.parametrize(
    ("head_width", "wanted"),
    [
        (64, {0: 1.0, 1: 0.7498942, 2: 0.5623413, 31: 1.333521e-4}),
        (128, {0: 1.0, 1: 0.8659644, 63: 1.154782e-4}),
    ],
)
def test_rotary_table(head_width: int, wanted: dict[int, float]) -> None:
    shape = small(head_width=head_width)
    cos, sin = rotary(shape, torch.tensor([0, 1]))
    assert cos.shape == sin.shape == (2, head_width // 2)
    assert torch.equal(cos[0], torch.ones(head_width // 2)) and not sin[0].any()
    angles = torch.atan2(sin[1], cos[1])
    for i, theta in wanted.items():
        assert float(angles[i]) == pytest.approx(theta, rel=1e-6)


def test_rotary_table_in_bfloat16() -> None:
    shape, positions = small(head_width=64), torch.arange(300)
    exact, rounded = rotary(shape, positions), rotary(replace(shape, rope_bf16=True), positions)
    for a, b in zip(exact, rounded):
        assert b.dtype == torch.float32
        assert torch.equal(a.bfloat16().float(), b)
        assert not torch.equal(a, b)


def test_rotation_of_a_known_vector() -> None:
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    table = rotary(small(), torch.tensor([1]))  # angles 1 and 0.01
    c, s, c2, s2 = math.cos(1), math.sin(1), math.cos(0.01), math.sin(0.01)
    wanted = [c - 3 * s, 2 * c2 - 4 * s2, 3 * c + s, 4 * c2 + 2 * s2]
    torch.testing.assert_close(rotate(x, *table).flatten(), torch.tensor(wanted))


def test_only_distances_between_positions_count() -> None:
    model, tokens = made(), ids(2, 8)
    shifted = model(tokens, positions=torch.arange(8).repeat(2, 1) + 5)
    torch.testing.assert_close(shifted, model(tokens), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model(tokens, positions=torch.arange(8).flip(0).repeat(2, 1)), shifted, atol=1e-2)


def test_segments_are_texts_of_their_own() -> None:
    model, tokens = made(), ids(1, 9)
    segments = torch.tensor([[0] * 4 + [1] * 5])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    together = model(tokens, attention=Segments(segments), positions=positions)
    apart = torch.cat([model(tokens[:, :4]), model(tokens[:, 4:])], 1)
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)


def test_padding_changes_nothing() -> None:
    model, tokens = made(), ids(2, 9)
    valid = torch.arange(9) < torch.tensor([[9], [6]])
    found = model(tokens, attention=Padded(valid))
    torch.testing.assert_close(found[1:, :6], model(tokens[1:, :6]), rtol=1e-4, atol=1e-4)
    assert found.isfinite().all()


@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.3, 1.0]))
@settings(max_examples=20, deadline=None)
def test_asked_logits_are_rows_of_all_logits(seed: int, share: float) -> None:
    model, tokens = made(), ids(3, 7, seed)
    ask = torch.rand(3, 7, generator=torch.Generator().manual_seed(seed)) < share
    found, every = model(tokens, ask=ask), model(tokens)
    assert found.shape == (int(ask.sum()), PREDICTED)
    torch.testing.assert_close(found, every[ask], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_nll_is_the_cross_entropy_of_the_logits(tied: bool) -> None:
    model, tokens = made(tied=tied), ids(3, 8)
    ask = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    target = ids(3, 8, 2).clamp(max=PREDICTED - 1)[ask]
    wanted = torch.nn.functional.cross_entropy(model(tokens, ask=ask), target, reduction="none")
    torch.testing.assert_close(model(tokens, target=target, ask=ask), wanted)


@pytest.mark.parametrize("with_target", [False, True])
def test_hooks_of_every_module_run(with_target: bool) -> None:
    """Sharding and tensor-parallel libraries gather weights in hooks, so no path may go around a module's call."""
    model, tokens, seen = made(time=True), ids(2, 5), []
    for name, module in model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(lambda *_, name=name: seen.append(name))
    ask = torch.ones(2, 5, dtype=torch.bool)
    target = ids(2, 5).clamp(max=PREDICTED - 1)[ask] if with_target else None
    model(tokens, ask=ask, target=target, time=torch.tensor([0.2, 0.9]))
    wanted = {name for name, module in model.named_modules() if any(True for _ in module.parameters(recurse=False))}
    assert set(seen) == wanted - {"model.embed_tokens"}, "the embedding's weight belongs to the trunk, which reads it"


def test_tied_head_is_the_embedding() -> None:
    model = made(tied=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model(ids(1, 3)).shape == (1, 3, PREDICTED)
    untied = made(tied=False)
    untied.load_state_dict(model.state_dict() | {"lm_head.weight": model.lm_head.weight[:PREDICTED].clone()})
    torch.testing.assert_close(untied(ids(2, 5)), model(ids(2, 5)))


def test_time_changes_nothing_before_training_and_something_after() -> None:
    plain, timed = Transformer(small()), Transformer(small(time=True))
    initialise(plain, "smdm", torch.Generator().manual_seed(0))
    initialise(timed, "smdm", torch.Generator().manual_seed(1))
    timed.load_state_dict(plain.state_dict(), strict=False)
    tokens, early, late = ids(2, 6), torch.tensor([0.1, 0.2]), torch.tensor([0.9, 0.2])
    assert torch.equal(timed(tokens, time=early), timed(tokens, time=late))
    torch.testing.assert_close(timed(tokens, time=early), plain(tokens))

    before = timed(tokens, time=early)
    optimizer = torch.optim.SGD(timed.parameters(), lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        timed(tokens, time=early).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        one, two = timed(tokens, time=early), timed(tokens, time=late)
    assert not torch.equal(one, before)
    assert not torch.allclose(one[0], two[0], atol=1e-6)
    assert torch.equal(one[1], two[1])  # the second row has the same time in both


def test_a_time_for_each_position_is_a_time_for_the_row() -> None:
    model, tokens, time = made(time=True), ids(2, 5), torch.tensor([0.3, 0.8])
    each = time[:, None].expand(2, 5)
    torch.testing.assert_close(model(tokens, time=each), model(tokens, time=time), rtol=1e-4, atol=1e-4)


def test_time_is_demanded() -> None:
    with pytest.raises(RemaskError, match="conditioned on time, but the call gave none"):
        made(time=True)(ids(1, 4))


@given(length=st.integers(2, 24), place=st.integers(0, 23), token=st.integers(0, ROWS - 1), learning=st.booleans())
@settings(max_examples=40, deadline=None)
def test_causal_never_looks_ahead(length: int, place: int, token: int, learning: bool) -> None:
    model, tokens, place = made().requires_grad_(learning), ids(2, length), place % length
    other = tokens.clone()
    other[:, place] = token
    before, after = (model(t, attention=CAUSAL).detach() for t in (tokens, other))
    assert torch.equal(before[:, :place], after[:, :place])


def test_compiled_is_eager() -> None:
    """The graphs that are compiled, run as they are; `training/test_run.py` runs what a compiler makes of them."""
    model, tokens, ask = made(layers=1), ids(2, 16), torch.arange(16).repeat(2, 1) % 3 == 0
    model.requires_grad_(True)
    target = ids(2, 16, 1).clamp(max=PREDICTED - 1)

    def step() -> tuple[Tensor, list[Tensor]]:
        model.zero_grad()
        nats = model(tokens, target=target[ask], ask=ask)
        nats.mean().backward()
        return nats.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    eager = step()
    names = set(model.state_dict())
    model.compile(backend="aot_eager")
    compiled = step()
    assert set(model.state_dict()) == names
    torch.testing.assert_close(compiled[0], eager[0], rtol=1e-4, atol=1e-5)
    for a, b in zip(compiled[1], eager[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "wide", "writes"), [("smdm", 0.039528, 0.0104167), ("normal", 0.02, 0.02 / math.sqrt(12))]
)
def test_initialisation(rule: Initialisation, wide: float, writes: float) -> None:
    model = Transformer(replace(size("6M"), rows=8001, predicted=8000))
    initialise(model, rule, torch.Generator().manual_seed(0))
    for name, weight in model.named_parameters():
        if "norm" in name:
            assert torch.equal(weight, torch.ones_like(weight))
            continue
        wanted = writes if name.endswith(("o_proj.weight", "down_proj.weight")) else wide
        assert float(weight.detach().std()) == pytest.approx(wanted, rel=0.015), name
        assert abs(float(weight.detach().mean())) < 0.02 * wanted


@pytest.mark.parametrize(
    ("name", "wide", "writes"),
    [("19M", 0.032275, 0.0063789), ("170M", 0.022822, 0.0020047 * 18 / 2), ("1028M", 0.014940, 0.0011811 * 20 / 2)],
)
def test_initialisation_scales_with_the_width(name: str, wide: float, writes: float) -> None:
    """Two layers of the wider sizes; what writes to the stream goes with 1 / layers."""
    layers = 8 if name == "19M" else 2
    shape = replace(SizeOverrides(layers=layers).of(size(name)), ffn=64, rows=2001, predicted=8)
    model = Transformer(shape)
    initialise(model, "smdm", torch.Generator().manual_seed(0))
    weights = dict(model.named_parameters())
    assert float(weights["model.embed_tokens.weight"].detach().std()) == pytest.approx(wide, rel=0.01)
    assert float(weights["model.layers.1.self_attn.o_proj.weight"].detach().std()) == pytest.approx(writes, rel=0.01)


def test_initialisation_is_a_function_of_the_generator() -> None:
    models = [Transformer(small(time=True)) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1)):
        initialise(model, "smdm", torch.Generator().manual_seed(seed))
    one, two, three = ([*m.parameters()] for m in models)
    assert all(torch.equal(a, b) for a, b in zip(one, two))
    assert not all(torch.equal(a, b) for a, b in zip(one, three))
