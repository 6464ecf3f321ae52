"""Packed weights and weights of 8 bits: the same products, and what happens when weights change."""

import copy
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from remask.errors import RemaskError
from remask.model.attention import CAUSAL, FULL
from remask.model.cache import KeyValueCache
from remask.model.dit import DiT, DiTArchitecture
from remask.model.int8 import LEVELS, Int8Product, require_int8, to_int8
from remask.model.packing import PackedProduct, linears, pack, supported, unpack
from remask.model.sizes import size
from remask.model.transformer import Transformer

BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
FORMATS = [torch.float32, pytest.param(torch.bfloat16, marks=pytest.mark.skipif(not BF16, reason="slow at bfloat16"))]
INT8 = pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="not an x86 processor")


def filled(model: nn.Module) -> Any:
    """The model with random weights, ready for use."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.normal_(1.0 if "norm" in name else 0.0, 0.08, generator=rng)
    return model.eval().requires_grad_(False)


def transformer(tied: bool = False) -> Transformer:
    return filled(Transformer(replace(size("tiny"), layers=2, ffn=2048, rows=2101, predicted=2100, tied=tied)))


def dit() -> DiT:
    shape: dict[str, Any] = {
        "layers": 2,
        "width": 128,
        "heads": 2,
        "kv_heads": 2,
        "head_width": 64,
        "ffn": 2048,
        "context": 64,
    }
    return filled(DiT(DiTArchitecture(**shape, rows=2101, predicted=2100, condition=16, time=True)))


def products(model: nn.Module) -> list[PackedProduct]:
    """The packed products that a network uses at present."""
    found = [getattr(layer, "product", None) or vars(layer).get("forward") for layer in linears(model)]
    return [product for product in found if isinstance(product, PackedProduct)]


def ids(rows: int, length: int) -> Tensor:
    return torch.randint(2100, (rows, length), generator=torch.Generator().manual_seed(rows))


def close(one: Tensor, two: Tensor, dtype: torch.dtype) -> None:
    """Equal but for the order of the sums, and in bfloat16 for the rounding of each product."""
    tolerance = {"rtol": 0.05, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(one, two, **tolerance)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("make", [transformer, lambda: transformer(tied=True), dit], ids=["plain", "tied", "dit"])
@pytest.mark.parametrize("rule", [FULL, CAUSAL], ids=["masked", "autoregressive"])
def test_packed_products_are_the_plain_ones(make: Callable[[], Any], dtype: torch.dtype, rule: Any) -> None:
    model = make().to(dtype)
    for rows, length in ((1, 1), (2, 1), (1, 8), (4, 8), (64, 1), (8, 32)):
        time = torch.linspace(0.1, 0.9, rows) if isinstance(model, DiT) else None
        tokens, ask = ids(rows, length), torch.ones(rows, length, dtype=torch.bool)
        asked = {"time": time, "attention": rule}
        nats = {**asked, "ask": ask, "target": tokens.flatten()}
        with torch.inference_mode():
            unpack(model)
            before = model(tokens, **asked), model(tokens, **nats)
            assert pack(model) > 0 and products(model)
            close(model(tokens, **asked), before[0], dtype)
            close(model(tokens, **nats), before[1], dtype)
            assert all(product.packed is not None for product in products(model)), "none has taken itself for changed"


@pytest.mark.parametrize("dtype", FORMATS)
@torch.no_grad()
def test_packed_products_with_a_cache(dtype: torch.dtype) -> None:
    model, found = transformer().to(dtype), []
    for packed in (False, True):
        if packed:
            pack(model)
        cache = KeyValueCache(2, 3, 24)
        index = torch.arange(24).expand(3, -1)
        steps = [index[:, :16], *index[:, 16:].split(1, 1)]
        tokens = ids(3, 24)
        found.append(
            torch.cat([model(tokens.gather(1, i), index=i, attention=CAUSAL, cache=cache) for i in steps], dim=1)
        )
    close(found[1], found[0], dtype)


def test_only_what_pays_is_packed() -> None:
    model = transformer()
    taken = pack(model)
    tall = [layer for layer in linears(model) if layer.out_features >= 2 * layer.in_features]
    assert len(products(model)) == len(tall) == 2 * 2 + 1, "gate and up of each layer, and the head"
    assert taken == 4 * 128 * (4 * 2048 + 2100)
    assert pack(transformer().half()) == 0 == pack(filled(Transformer(replace(size("tiny"), rows=301, predicted=300))))
    with torch.inference_mode(), pytest.raises(RemaskError, match="inference mode"):
        pack(transformer())


@pytest.mark.parametrize("tied", [False, True])
def test_changed_weights_are_not_multiplied_by_their_packed_form(tied: bool) -> None:
    model, other = transformer(tied), transformer(tied)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.1)
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    changes: list[Callable[[], Any]] = [
        lambda: model.load_state_dict(other.state_dict()),
        lambda: model.load_state_dict({k: v.clone() for k, v in state.items()}, assign=True),
        lambda: model.double(),
        lambda: model.float(),
        lambda: [weight.mul_(0.9) for weight in model.parameters()],
    ]
    for change in changes:
        pack(model)
        assert list(model.state_dict()) == list(state)
        with torch.no_grad():
            change()
            got = model(ids(2, 9))
            unpack(model)
            assert torch.equal(got, model(ids(2, 9)))


@torch.no_grad()
def test_a_copy_of_a_packed_network_is_plain() -> None:
    model = transformer()
    pack(model)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    for other in (copy.deepcopy(model), torch.load(file, weights_only=False)):
        assert all(product.packed is None and product.layer in set(linears(other)) for product in products(other))
        close(other(ids(2, 9)), model(ids(2, 9)), torch.float32)
        other.lm_head.weight.mul_(2.0)
        close(other(ids(2, 9)), 2 * model(ids(2, 9)), torch.float32)
        assert pack(other) > 0 and all(product.packed is not None for product in products(other))
    assert all(product.packed is not None for product in products(model))


def test_gradients_take_the_plain_product() -> None:
    model = transformer()
    with torch.no_grad():
        pack(model)
    x = torch.randn(4, 128, requires_grad=True)
    layer = next(layer for layer in linears(model) if "forward" in vars(layer))
    layer(x).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(4, -1))
    trained = transformer().requires_grad_(True)
    assert pack(trained) == 0 and not supported(trained.lm_head.weight)


@INT8
@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_a_product_of_8_bits_rounds_each_row_by_itself(bias: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    weight, x = torch.randn(40, 24, generator=rng), torch.randn(5, 7, 24, generator=rng)
    b = torch.randn(40, generator=rng) if bias else None
    x[1, 2], x[3, 3] = 0, 1000 * x[3, 3]
    scale, largest = weight.abs().amax(1) / 127, x.abs().amax(-1, keepdim=True).clamp(min=1e-30)
    whole = (x / largest * LEVELS).round().double() @ (weight / scale[:, None]).round().double().T
    wanted = (whole * scale * largest / LEVELS).float() + (0 if b is None else b)
    product = Int8Product(weight, b)
    torch.testing.assert_close(product(x), wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(product(x[1:2, 2:5]), product(x)[1:2, 2:5]), "a row does not depend on its batch"
    assert product(x[:0]).shape == (0, 7, 40)


@INT8
@pytest.mark.parametrize("make", [transformer, lambda: transformer(tied=True), dit], ids=["plain", "tied", "dit"])
def test_a_network_of_8_bits_is_close_and_for_use_only(make: Callable[[], Any]) -> None:
    model = make()
    time = torch.tensor([0.2, 0.7]) if isinstance(model, DiT) else None
    tokens, ask = ids(2, 12), torch.ones(2, 12, dtype=torch.bool)
    with torch.inference_mode():
        plain = model(tokens, time=time)
        to_int8(model)
        rounded = model(tokens, time=time)
        nats = model(tokens, time=time, ask=ask, target=tokens.flatten())
        assert 0 < float((rounded - plain).norm() / plain.norm()) < 0.1
        wanted = -rounded.log_softmax(-1).gather(-1, tokens[..., None]).flatten()
        torch.testing.assert_close(nats, wanted)
    for refused in (model.state_dict, lambda: model.load_state_dict({})):
        with pytest.raises(RemaskError, match="for use only"):
            refused()
    with pytest.raises(RemaskError, match="no gradients"):
        next(iter(linears(model)))(torch.zeros(1, 128, requires_grad=True))


@INT8
@torch.inference_mode()
def test_8_bits_under_autocast_and_after_a_cast() -> None:
    model, tokens = transformer(), ids(2, 9)
    to_int8(model)
    wanted = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        under = model(tokens)
    layer = next(iter(linears(model)))
    assert layer(torch.ones(2, 128, dtype=torch.bfloat16)).dtype == torch.bfloat16
    for got in (under, model.bfloat16()(tokens)):
        assert got.dtype == torch.float32 and float((got - wanted).norm() / wanted.norm()) < 0.1


def test_8_bits_are_for_a_cpu() -> None:
    with pytest.raises(RemaskError, match="int8 is for CPUs, and the device is cuda:0; take bf16"):
        require_int8(torch.device("cuda:0"))
    with pytest.raises(RemaskError, match="on another device"):
        pack(transformer().to("meta"))
