"""The names of a run's training states."""

from pathlib import Path


def states(out: Path) -> list[Path]:
    """The training states of a run, newest first."""
    return sorted((out / "checkpoints").glob("step-*.ckpt"), reverse=True)


def stable_state(out: Path, step: int) -> Path:
    """The state of a wsd run before its decay; kept for longer runs."""
    return out / "checkpoints" / f"stable-{step:08}.ckpt"


def step_of(state: Path) -> int:
    """The step a training state was saved at, by its name."""
    return int(state.stem.removeprefix("step-"))
