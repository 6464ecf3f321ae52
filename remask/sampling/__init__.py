"""Sampling: the state of the rows being written, the loop around the samplers, and one file for each sampler.

Names are imported when they are first used.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remask.sampling.loop import Step, fill, make_cache, start, step, stream
    from remask.sampling.params import SamplingParams
    from remask.sampling.sampler import Query, Sampler, samplers
    from remask.sampling.state import Canvas, State

_HOME = {
    "Canvas": "state",
    "Query": "sampler",
    "Sampler": "sampler",
    "SamplingParams": "params",
    "State": "state",
    "Step": "loop",
    "fill": "loop",
    "make_cache": "loop",
    "samplers": "sampler",
    "start": "loop",
    "step": "loop",
    "stream": "loop",
}

__all__ = [
    "Canvas",
    "Query",
    "Sampler",
    "SamplingParams",
    "State",
    "Step",
    "fill",
    "make_cache",
    "samplers",
    "start",
    "step",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'remask.sampling' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
