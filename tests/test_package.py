"""The package as a whole: one version, public names, docstrings, modules that import, packages that are pinned."""

import ast
import importlib
import pkgutil
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import remask

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"transformers", "submitit", "lm_eval", "math_verify", "rouge_score"}
"""What a machine may lack: the packages of the extras."""


def test_one_version() -> None:
    assert remask.__version__ == PROJECT["version"]


def test_public_names() -> None:
    assert remask.__all__ == sorted(remask.__all__)
    for name in remask.__all__:
        value = getattr(remask, name)
        assert callable(value) and value.__name__ == name and value.__doc__ and name in dir(remask), name
    with pytest.raises(AttributeError, match="has no attribute 'smaple'"):
        remask.smaple  # noqa: B018


def test_every_module_says_what_it_is() -> None:
    """An empty `__init__.py` has nothing to say."""
    sources = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "remask").rglob("*.py"))}
    silent = [path for path, source in sources.items() if source.strip() and not ast.get_docstring(ast.parse(source))]
    assert len(sources) > 50 and not silent


def test_every_module_imports() -> None:
    for module in pkgutil.walk_packages(remask.__path__, "remask."):
        try:
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert (error.name or "").split(".")[0] in EXTRAS, f"{module.name}: {error}"


def test_every_requirement_is_pinned() -> None:
    """`make setup` installs under constraints.txt, which names one version of each package, admitted by pyproject."""
    names = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = {re.sub(r"[-_.]+", "-", name).lower() for name, _, _ in (line.partition("==") for line in names)}
    assert len(pins) == len(names)
    wanted = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    for requirement in wanted:
        name = re.split(r"[\[<>=!;, ]", requirement)[0]
        assert re.sub(r"[-_.]+", "-", name).lower() in pins, requirement
