"""The package as a whole: version, public names, docstrings, file sizes."""

import ast
import importlib
import importlib.util
import pkgutil
import tomllib
from pathlib import Path

import pytest

import remask

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "remask").rglob("*.py"))
OPTIONAL = {"fastapi", "uvicorn", "transformers", "lm_eval", "submitit", "wandb"}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert remask.__version__ == project["version"]


@pytest.mark.parametrize("name", remask.__all__)
def test_public_names(name: str) -> None:
    found = getattr(remask, name)
    assert callable(found) and found.__name__.rpartition(".")[2] == name
    assert found.__doc__
    assert name in dir(remask)


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'smaple'"):
        remask.smaple  # noqa: B018


def test_lazy_names_are_the_public_ones() -> None:
    assert remask.__all__ == sorted(remask.__all__)
    assert set(remask.__all__) == {*remask._HOME, "train"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    """An empty `__init__.py` has nothing to say."""
    source = path.read_text(encoding="utf-8")
    if path.name != "__init__.py" or source.strip():
        assert ast.get_docstring(ast.parse(source))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("name", [m.name for m in pkgutil.walk_packages(remask.__path__, "remask.")])
def test_every_module_imports(name: str) -> None:
    if name.endswith("__main__"):
        return
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{error.name} is not installed")
