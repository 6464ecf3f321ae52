"""Weights laid out once for matrix products on a CPU, where a plain product lays them out anew in every call.

With few rows (an autoregressive step, a block against a cache) that takes longer than the arithmetic. `pack` keeps a
second copy of the weights in the layout of oneDNN and leaves the weights themselves as they are, so that state
dictionaries, tied embeddings and gradients know nothing of it. It pays, in measured products,

* in bfloat16 where the processor has instructions for it, for up to 32 rows (with AMX, single products had the same
  bits);
* in float32, for 2 to 64 rows, in matrices of at least 2^18 weights and twice as many outputs as inputs (gate, up, the
  head), equal but for rounding. The others take the plain product, which is no slower there. So networks smaller than
  "10M" gain nothing.

These limits come from single products, measured on a processor with AVX2 (float32) and on one with AMX (bfloat16), each
0.4 to 0.9 of the time of the plain one; they are not in `benchmarks/results`. What a whole step gains is less and is
measured in `benchmarks/results/speed.md`, in float32 only.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from remask.errors import RemaskError
from remask.model.head import Head

LAID_OUT_FOR = 32
"""Number of rows for which weights are laid out; the layout is nearly the same for others."""


@dataclass(frozen=True)
class Pays:
    """When a packed product is used."""

    least: int
    most: int
    """Smallest and largest number of rows."""
    stretch: float
    """The least ratio of a matrix's outputs to its inputs."""
    elements: int
    """The least number of weights in a matrix."""


WHERE = {torch.bfloat16: Pays(1, 32, 0.0, 0), torch.float32: Pays(2, 64, 2.0, 2**18)}
"""By the number format of the weights; no other is packed."""


class PackedProduct:
    """The product with the weight of one layer: packed where that pays, and plain elsewhere.

    It is plain too while gradients are recorded, under autocast, in a compiled graph, and for good as soon as the
    weight is changed or replaced after packing (an optimiser step, `load_state_dict`, a cast). A write through
    `weight.data` is not noticed, since torch does not count it: pack again after one. A copy (`copy.deepcopy`,
    pickling) is plain until it is packed itself.
    """

    def __init__(self, layer: nn.Linear, out: int, pays: Pays) -> None:
        self.layer, self.out, self.pays = layer, out, pays
        self.weight: Tensor | None = layer.weight
        self.state = self._state(layer.weight)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach()[:out], LAID_OUT_FOR)

    def __call__(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        weight, bias = self.layer.weight, self.layer.bias
        rows = x.numel() // weight.shape[1]
        if not self.pays.least <= rows <= self.pays.most or not self.usable(x):
            return linear(x, weight[: self.out], bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, bias, "none", [], "")

    def usable(self, x: Tensor) -> bool:
        """Whether the packed weight stands for the present one, and this call may use it."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling():
            return False
        weight = self.layer.weight
        if self.weight is not None and (weight is not self.weight or self._state(weight) != self.state):
            self.weight = self.packed = None
        return self.packed is not None and x.dtype == weight.dtype and x.device.type == "cpu"

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but the packed form, which torch can neither copy nor write."""
        return {**vars(self), "weight": None, "packed": None}

    @staticmethod
    def _state(weight: Tensor) -> tuple[int, int, torch.dtype]:
        """What changes when a weight is written to, or its memory replaced."""
        return weight._version, weight.data_ptr(), weight.dtype


def pack(network: nn.Module) -> int:
    """Packs the linear layers and the head of a network in place, and returns how many bytes that takes.

    0 where nothing is gained: another number format, or bfloat16 on a processor without instructions for it. After a
    change of the weights the layers are as they were before; pack again then. Weights that are trained are not packed.

    Raises:
        RemaskError: The network is not on the CPU, or was made in inference mode, where torch counts no changes.
    """
    layers = list(linears(network))
    if any(layer.weight.device.type != "cpu" for layer in layers):
        raise RemaskError("weights are packed for products on a CPU, and this network is on another device")
    if any(layer.weight.is_inference() for layer in layers):
        raise RemaskError("weights made in inference mode are not packed: their changes could not be noticed")
    unpack(network)
    taken = 0
    for layer in layers:
        pays = WHERE.get(layer.weight.dtype)
        out = layer.predicted if isinstance(layer, Head) else layer.out_features
        if pays is None or not supported(layer.weight):
            continue
        if out < pays.stretch * layer.in_features or out * layer.in_features < pays.elements:
            continue
        product = PackedProduct(layer, out, pays)
        taken += out * layer.in_features * layer.weight.element_size()
        if isinstance(layer, Head):
            layer.product = product
        else:
            layer.forward = product  # type: ignore[method-assign]
    return taken


def unpack(network: nn.Module) -> None:
    """Undoes `pack`."""
    for layer in linears(network):
        if isinstance(layer, Head):
            layer.product = None
        vars(layer).pop("forward", None)


def supported(weight: Tensor) -> bool:
    """Whether oneDNN computes with such a weight on this processor, and the weight is not trained."""
    if not torch.backends.mkldnn.is_available() or weight.requires_grad:
        return False
    return weight.dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def linears(network: nn.Module) -> Iterator[nn.Linear]:
    """The layers whose weights are read for every position: all but the small ones that read the noise level."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Linear) and not any(part in name for part in ("time_embed", "sigma_map", "modulation")):
            yield layer
