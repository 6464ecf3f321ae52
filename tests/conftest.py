"""What every test shares: the package on the path, one thread, and a tiny corpus with trained models."""

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("same", derandomize=True, max_examples=50)  # the same examples in every run
settings.load_profile("same")

ROOT = Path(__file__).parents[1]
if str(ROOT) not in sys.path:  # where the package is not installed
    sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # what few kernels there are, without processes for it
os.environ["REMASK_ALLOCATOR"] = "set"  # commands are not restarted to set the allocator
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which commands that tests start inherit

TINY = "synthetic:symbols=8,states=4,length=64,documents=400,seed=0"
Fit = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that no worker ends with it alone."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared corpus of 400 texts of 64 letters, in bytes."""
    from remask.data.tokens import prepare

    return prepare(TINY, tmp_path_factory.mktemp("corpus") / "data", tokenizer="bytes").folder


@pytest.fixture(scope="session")
def fit(corpus: Path) -> Fit:
    """Trains a real, tiny model: `fit(out, steps=..., **options of train)` -> `out/latest`."""
    import torch

    from remask.model.sizes import SizeOverrides
    from remask.training.optim import Budget
    from remask.training.recipe import Recipe
    from remask.training.run import train

    torch.set_num_threads(1)

    def run(out: Path, steps: int = 20, **more: Any) -> Path:
        options: dict[str, Any] = {
            "data": corpus,
            "architecture": SizeOverrides(layers=2, width=32, heads=2, ffn=64),
            "budget": Budget(steps=steps),
            "length": 64,
            "batch": 8,
            "precision": "fp32",
            "compile": "off",
            "accelerator": "cpu",
            "validation_rows": 0,
            "left_to_right_rows": 0,
        }
        return train(Recipe(out=out, **{**options, **more}))

    return run


@pytest.fixture(scope="session")
def masked_run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a masked model that has learnt a little."""
    out = tmp_path_factory.mktemp("runs") / "masked"
    fit(out, steps=80, validation_rows=4, validate_every=40)
    return out


@pytest.fixture(scope="session")
def plain_runs(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run directories of networks without convolutions, as other formats have them: "masked" and "left"."""
    from remask.families.autoregressive import Autoregressive
    from remask.families.masked import Masked
    from remask.model.sizes import SizeOverrides

    folder = tmp_path_factory.mktemp("plain")
    plain = SizeOverrides(layers=2, width=32, heads=2, ffn=64, convolution=0)
    for name, family in (("masked", Masked()), ("left", Autoregressive())):
        fit(folder / name, steps=10, family=family, architecture=plain)
    return {name: folder / name for name in ("masked", "left")}


@pytest.fixture(scope="session")
def autoregressive_run(fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of an autoregressive model that has learnt a little."""
    from remask.families.autoregressive import Autoregressive

    out = tmp_path_factory.mktemp("runs") / "autoregressive"
    fit(out, steps=80, family=Autoregressive(), validation_rows=4, validate_every=40)
    return out


@pytest.fixture(scope="session")
def fork_server() -> None:
    """The process of which worker processes are copies, with everything imported that any test needs there."""
    from multiprocessing.forkserver import ensure_running

    import killing  # which says what is imported

    assert killing.start
    ensure_running()


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Any:
    """`call("score", run, ...)` in this process -> status, standard output, standard error."""

    from remask import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        try:
            cli.main([str(a) for a in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        out, err = capfd.readouterr()
        return status, out, err

    return run


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """`load_script("score")` imports that file of benchmarks/; what it imports beside it is forgotten afterwards."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module
    for script in (ROOT / "benchmarks").glob("*.py"):
        sys.modules.pop(script.stem, None)
