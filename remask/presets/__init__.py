"""Settings of `remask sample` as published, by name: each is a recipe, a YAML file of this folder.

remask sample runs/x --preset fast-dllm --length 256
remask.sample(m, **remask.preset("fast-dllm"), length=256)
"""

from pathlib import Path
from typing import Any

from remask.errors import RemaskError, unknown


def presets() -> dict[str, Path]:
    """The files of all presets by name."""
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def preset_path(name: str) -> Path:
    """The file of a preset; RemaskError where there is none of that name."""
    known = presets()
    if name not in known:
        raise unknown("preset", name, known)
    return known[name]


def preset(name: str, **changed: Any) -> dict[str, Any]:
    """The arguments of `remask.sample` that a preset stands for; those given besides overrule it."""
    import yaml

    path = preset_path(name)
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(settings, dict):
        raise RemaskError(f"{path} is damaged: it holds no options")
    return settings | changed
