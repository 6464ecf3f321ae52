"""How the answers of a benchmark are scored, and the settings of published numbers by name.

A protocol is a YAML file in `protocols/`: settings for all benchmarks and, under `tasks`, those of single ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from remask.errors import RemaskError, unknown


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """The settings of one benchmark. Autoregressive models are scored exactly, and heed none of them."""

    estimator: str = "auto"
    """An estimator that fits the family; auto: its first."""
    draws: int = 128
    """Noisy copies of an answer, where the estimator is random."""
    strata: int | None = None
    """Draws of smdm and llada that are spread evenly together."""
    guidance: float = 0.0
    """Weight of unsupervised classifier-free guidance."""
    greedy: str = "Confidence"
    """The rule by which greedy decoding writes a last word."""
    shared_noise: bool = True
    """Whether the answers of a question have the same noise."""
    settle: float | None = None
    """Confidence at which the best answer of a question is known, so that its draws end; None: all are made."""
    seed: int = 0
    """Seed of the noise."""


@dataclass(frozen=True)
class Protocol:
    """The settings of every benchmark."""

    usual: Scoring
    of_task: Mapping[str, Mapping[str, Any]]
    """Settings of single benchmarks that differ from the usual ones."""

    def scoring(self, task: str, **given: Any) -> Scoring:
        """The settings of a benchmark; what is given and not None overrules the protocol.

        With another estimator, the protocol's strata are left out. Where draws end early, the answers of a question
        have the same noise, since their differences are tested.
        """
        named = {name: value for name, value in given.items() if value is not None}
        found = replace(self.usual, **self.of_task.get(task, {}))
        if named.get("estimator", found.estimator) != found.estimator:
            found = replace(found, strata=None)
        found = replace(found, **named)
        return found if found.settle is None else replace(found, shared_noise=True)


def protocols() -> dict[str, Path]:
    """The files of all protocols by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "protocols").glob("*.yaml"))}


def protocol(name: str | None = None) -> Protocol:
    """A protocol by name, or the settings that are used without one; RemaskError for an unknown name."""
    if name is None:
        return Protocol(Scoring(), {})
    known = protocols()
    if name not in known:
        raise unknown("protocol", name, known)
    return read(known[name])


def read(path: Path) -> Protocol:
    """The protocol of a file; RemaskError where it holds anything else than settings."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        of_task = content.pop("tasks", {})
        usual = Scoring(**content)
        for settings in of_task.values():
            replace(usual, **settings)
        return Protocol(usual, of_task)
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        known = ", ".join(f.name for f in fields(Scoring))
        raise RemaskError(f"{path} is no protocol ({error}); it holds {known}, and tasks") from None
