"""Linear layers with weights of 8 bits, for use on an x86 processor: a quarter of the memory, and less time.

Every output channel of a weight has a scale of its own. The inputs are rounded too, each row by its own largest value
and to 7 bits, since sums of 8-bit products overflow on processors with AVX2 (as FBGEMM's `reduce_range`). Products of
whole numbers are exact, so a row's result does not depend on its batch. Embedding, norms,
attention, convolutions, and what reads the noise level stay in float32; the head is of 8 bits, apart from a tied
embedding. Sources: Dettmers et al. 2022 (rows and channels with scales), Khudia et al. 2021 (FBGEMM).
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from remask.errors import RemaskError
from remask.model.head import Head
from remask.model.packing import linears, unpack

LEVELS = 63
"""Largest whole number to which an input is rounded; a weight's is 127."""
ENGINE = "fbgemm"


class Int8Product:
    """The product with one weight, in whole numbers: (..., inputs) -> (..., outputs).

    Scales and sums are in float32, whatever autocast or a cast of the network makes of the inputs; the result has the
    number format of the input.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Rounds an (outputs, inputs) weight. A bias (outputs,) stays in float32."""
        weight = weight.detach().float()
        scale = weight.abs().amax(1).clamp(min=1e-30) / 127
        self.packed = laid_out(weight, scale)
        self.bias = None if bias is None else bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            raise RemaskError("weights of 8 bits have no gradients; load the model in another precision")
        dtype, x = x.dtype, x.float()
        largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-30)
        multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
        y = multiply(x / largest, 1 / LEVELS, LEVELS + 1, self.packed).mul_(largest)
        return (y if self.bias is None else y.add_(self.bias)).to(dtype)


def laid_out(weight: Tensor, scale: Tensor) -> Any:
    """An (outputs, inputs) weight as FBGEMM's products take it, rounded to multiples of the (outputs,) scale."""
    zero = torch.zeros(len(weight), dtype=torch.int64)
    before = torch.backends.quantized.engine
    with warnings.catch_warnings():
        # torch announces the end of quantised tensors, not of these products. Those of oneDNN, which take plain tensors
        # (`torch.ops.onednn.qlinear_pointwise`), give the same result in up to four times the time.
        warnings.filterwarnings("ignore", ".*quantized tensor creation functions.*")
        rounded = torch.quantize_per_channel(weight, scale, zero, 0, torch.qint8)
    torch.backends.quantized.engine = ENGINE
    try:
        return torch.ops.quantized.linear_prepack(rounded, None)
    finally:
        torch.backends.quantized.engine = before


def to_int8(network: nn.Module) -> None:
    """Rounds the weights of the linear layers and the head to 8 bits, in place, and gives the floats away.

    The network then has no state dictionary.

    Raises:
        RemaskError: The network is not on a CPU that can do it.
    """
    require_int8(next(network.parameters()).device)
    unpack(network)
    for layer in linears(network):
        out = layer.predicted if isinstance(layer, Head) else layer.out_features
        product = Int8Product(layer.weight[:out], layer.bias)
        if isinstance(layer, Head):
            layer.product = product
        else:
            layer.forward = product  # type: ignore[method-assign]
        layer.weight = layer.bias = None  # type: ignore[assignment]
    network.float()
    network.register_state_dict_pre_hook(refuse)
    network.register_load_state_dict_pre_hook(refuse)


def require_int8(device: torch.device) -> None:
    """RemaskError where this device cannot multiply weights of 8 bits."""
    if device.type != "cpu":
        raise RemaskError(f"precision int8 is for CPUs, and the device is {device}; take bf16 there")
    if ENGINE not in torch.backends.quantized.supported_engines or not hasattr(torch, "quantize_per_channel"):
        raise RemaskError("precision int8 needs an x86 processor with AVX2, and a torch with FBGEMM; take fp32 or bf16")


def refuse(*_: Any) -> None:
    """Stands before saving and loading weights: RemaskError."""
    raise RemaskError("weights of 8 bits are for use only and not saved; load the model in another precision")
