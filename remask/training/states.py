"""Training states on disk: their names, how they are written, and which of them can be read."""

import shutil
from pathlib import Path
from typing import Any

import torch

from remask.errors import RemaskError, first_line
from remask.files import write_atomically
from remask.terminal import say

KEPT = 2
"""Training states kept: the last, and the one before in case the last is damaged."""


def list_states(out: Path) -> list[Path]:
    """The training states of a run, newest first."""
    return sorted((out / "checkpoints").glob("step-*.ckpt"), reverse=True)


def state_path(out: Path, step: int) -> Path:
    """Where the training state after a step is saved."""
    return out / "checkpoints" / f"step-{step:08}.ckpt"


def stable_state(out: Path, step: int) -> Path:
    """Where the state of a wsd run before its decay is kept, for a larger budget."""
    return out / "checkpoints" / f"stable-{step:08}.ckpt"


def step_of(state: Path) -> int:
    """The step a training state was saved after, by its name."""
    return int(state.stem.rpartition("-")[2])


def write_state(state: dict[str, Any], path: Path) -> None:
    """Writes a training state; under its name it is whole or absent."""
    try:
        write_atomically(path, lambda file: torch.save(state, file))
    except (RemaskError, RuntimeError) as error:  # torch's writer has errors of its own for a full disk
        said = str(error) if isinstance(error, RemaskError) else f"cannot write {path}: {first_line(error)}"
        raise RemaskError(f"{said}. The checkpoints before it are whole") from error


def copy_state(source: Path, target: Path) -> None:
    """Copies a training state; under its name the copy is whole or absent."""
    with open(source, "rb") as file:
        write_atomically(target, lambda copy: shutil.copyfileobj(file, copy))


def check_state(path: Path, shapes: dict[str, torch.Size] | None = None) -> None:
    """Raises where a file is not a whole training state of the step in its name, with tensors of these shapes."""
    state = torch.load(path, map_location="meta", weights_only=True)
    other = shapes is not None and {name: weight.shape for name, weight in state["state_dict"].items()} != shapes
    if other or state["global_step"] != step_of(path) or "remask" not in state:
        raise RemaskError("not a state of this run")


def newest_state(out: Path, shapes: dict[str, torch.Size]) -> Path | None:
    """The newest training state with tensors of these shapes that can be read; None where there is none.

    A damaged one is named and left where it is.
    """
    for path in list_states(out):
        try:
            check_state(path, shapes)
            return path
        except Exception as error:  # whatever a damaged file makes the reader raise
            say(f"{path} is damaged ({first_line(error)}); trying the one before")
    return None
