"""Weights, gradients and optimiser state spread over the processes of a run (FSDP2).

Each layer is one unit: its weights are gathered when it is reached, forward and backward, and dropped again. Whatever
is written to disk is gathered first, so a run can go on with another number of processes, sharded or not.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(denoiser: nn.Module, mesh: DeviceMesh, device: torch.device) -> None:
    """Shards a network whose weights are on `meta`, in place: every layer by itself, and what is left together."""
    for layer in denoiser.get_submodule("model.layers").children():
        fully_shard(layer, mesh=mesh)
    fully_shard(denoiser, mesh=mesh)
    denoiser.to_empty(device=device)


def fill_sharded(denoiser: nn.Module, weights: dict[str, Any]) -> None:
    """Fills the shards of all processes with the weights that the first one gives, and the others none."""
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    set_model_state_dict(denoiser, weights, options=options)


def gather_weights(denoiser: nn.Module) -> dict[str, Any]:
    """All weights, on the CPU, in the first process; in others none. All processes must call it."""
    return get_model_state_dict(denoiser, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def gather(tensor: Tensor) -> Tensor:
    """A whole tensor. All processes must call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor; all of it where it is not sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def spread_like(whole: Tensor, other: Tensor) -> Tensor:
    """A whole tensor, placed and sharded as another one of its shape."""
    if isinstance(whole, DTensor) or not isinstance(other, DTensor):
        return whole.to(other.device)
    return distribute_tensor(whole.to(other.device), other.device_mesh, other.placements)
