"""Who imports whom: no circles among the modules, and a study's folders import only what comes before them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOW = ("plan", "run", "fit", "report")
"""The folders of remask/scaling, in the order in which a study flows through them."""


def name_of(path: Path) -> str:
    """remask/scaling/fit/law.py -> remask.scaling.fit.law."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted((ROOT / "remask").rglob("*.py"))}


def imports(name: str, lazy: bool = True) -> set[str]:
    """The modules of the package that a module imports; those inside functions only where `lazy`."""
    found = set()
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in MODULES else node.module for one in whole}
    return {one for one in found if one in MODULES and one != name}


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Some circle of a graph; empty where there is none."""
    done: set[str] = set()

    def search(path: list[str]) -> list[str]:
        for one in sorted(graph.get(path[-1], ())):
            if one in path:
                return [*path[path.index(one) :], one]
            if one not in done and (found := search([*path, one])):
                return found
        done.add(path[-1])
        return []

    return next((found for start in sorted(graph) if (found := search([start]))), [])


def test_circles_are_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_no_circle_among_modules() -> None:
    """A package and the modules in it count as one only where they import each other by name."""
    assert circle({name: imports(name, lazy=False) for name in MODULES}) == []


@pytest.mark.parametrize("folder", FLOW)
def test_a_study_flows_one_way(folder: str) -> None:
    """Imports inside functions count too; only the verb `scale plan`, which stands before the folders, looks back."""
    later = FLOW[FLOW.index(folder) + 1 :]
    for name in MODULES:
        if name.startswith(f"remask.scaling.{folder}."):
            seen = imports(name)
            assert not [one for one in seen if one.startswith(tuple(f"remask.scaling.{other}" for other in later))]
            assert "remask.scaling.planning" not in seen


def test_no_circle_in_scaling_even_inside_functions() -> None:
    assert circle({name: imports(name) for name in MODULES if name.startswith("remask.scaling")}) == []
