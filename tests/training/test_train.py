"""Real runs on a tiny corpus: they learn, stop, resume bit for bit, survive kills, and say what is wrong."""

import csv
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import killing
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import remask
from remask.batch import Batch
from remask.checkpoints.convert import convert
from remask.checkpoints.overrides import Overrides
from remask.data.batches import Batches, Rows
from remask.data.synthetic import HiddenMarkov
from remask.data.tokens import open_tokens, prepare
from remask.errors import Interrupted, RemaskError
from remask.families import Denoiser, Family, Loss
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import SizeOverrides
from remask.training.optim import Budget, Optimizer
from remask.training.states import states

ROOT = Path(__file__).parents[2]
Fit = Callable[..., Path]


@dataclass(frozen=True, kw_only=True)
class Stopping(Masked):
    """Masked, with a Ctrl-C in the middle of a step."""

    left: ClassVar[int | None] = None
    """How many steps until the signal comes."""
    seed: ClassVar[int] = -1
    """Of the last step's noise, by which a step is known from the micro-batches of one."""

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        if Stopping.left is not None and rng.initial_seed() != Stopping.seed:
            Stopping.seed, Stopping.left = rng.initial_seed(), Stopping.left - 1
            if not Stopping.left:
                Stopping.left = None
                signal.raise_signal(signal.SIGINT)
        return super().loss(denoiser, batch, rng)


@contextmanager
def stopped_at(step: int, start: int = 0) -> Iterator[None]:
    """A run that goes on from step `start` gets a Ctrl-C in `step`."""
    Stopping.left = step - start
    try:
        with pytest.raises(Interrupted, match=rf"stopped at step {step} of .*the same command goes on"):
            yield
    finally:
        Stopping.left = None


def metrics(out: Path) -> list[dict[str, str]]:
    with open(out / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def column(out: Path, name: str) -> list[float]:
    return [float(row[name]) for row in metrics(out) if row[name]]


def assert_same_run(one: Path, two: Path) -> None:
    """Weights, optimiser, average and schedule of the last training state, and the published weights."""
    assert killing.same(killing.weights(one), killing.weights(two))
    a, b = (torch.load(states(out)[0], weights_only=True) for out in (one, two))
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "remask"):
        torch.testing.assert_close(a[part], b[part], rtol=0, atol=0)


def wait_for(what: Callable[[], bool], process: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.exitcode is None and time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("family", [Masked(), Autoregressive()], ids=lambda f: type(f).__name__)
def test_a_run_learns_and_publishes(fit: Fit, tmp_path: Path, family: Family) -> None:
    out = tmp_path / "run"
    latest = fit(out, steps=80, family=family, validation_rows=4, validate_every=20, save_every=40)
    assert latest == out / "latest"
    valid = column(out, "valid_nats_per_token")
    assert len(valid) == 4 and valid[-1] < valid[0] - 0.5 and valid[-1] < 3.6
    assert column(out, "loss")[-1] < column(out, "loss")[0] - 0.5
    assert column(out, "step") == [*range(10, 81, 10)]
    assert column(out, "tokens")[-1] == 80 * 8 * 64
    assert {row["valid_kind"] for row in metrics(out)} - {""} == {"exact" if family.exact else "bound"}

    m = remask.load(out)
    assert type(m.family) is type(family)
    assert m.about["step"] == m.about["steps"] == 80
    assert m.about["validation"]["nats"] / m.about["validation"]["tokens"] == pytest.approx(valid[-1])
    assert m.logits(torch.zeros(1, 64, dtype=torch.int64)).shape == (1, 64, 257)
    assert remask.load(out / "best").about["step"] == 20 * (1 + valid.index(min(valid)))
    assert [p.name for p in states(out)] == ["step-00000080.ckpt", "step-00000040.ckpt"]
    assert yaml.safe_load((out / "config.yaml").read_text())["family"]["class_path"] == type(family).__name__
    assert not [p for p in out.rglob("*") if p.name.endswith((".tmp", ".old"))]


def test_a_finished_run_returns_at_once(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    fit(out, steps=5)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file() and p.name != ".lock"}
    capsys.readouterr()
    assert fit(out, steps=5) == out / "latest"
    assert "is complete: 5 steps" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("at", [9, 20, 33], ids=lambda at: f"at{at}")
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"ema": 0.9, "validation_rows": 4, "validate_every": 7, "random_length": 0.5},
        {"accumulate": 2, "family": "count"},
    ],
    ids=["plain", "ema", "accumulate"],
)
def test_a_stopped_run_resumes_bit_for_bit(fit: Fit, tmp_path: Path, at: int, more: dict) -> None:
    objective = "count" if "family" in more else "bound"
    options = more | {"steps": 40, "save_every": 10, "family": Stopping(objective=objective)}
    fit(tmp_path / "whole", **options)
    with stopped_at(at):
        fit(tmp_path / "parts", **options)
    assert states(tmp_path / "parts")[0].name == f"step-{at:08}.ckpt"
    assert (tmp_path / "parts" / "latest" / "model.safetensors").exists()
    fit(tmp_path / "parts", **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_resumed_log_is_that_of_the_unbroken_run(fit: Fit, tmp_path: Path) -> None:
    """Stopped past the half, at a step that is not logged; and right at one that is."""
    options: dict[str, Any] = {"steps": 40, "log_every": 10, "family": Stopping(), "save_every": 5}
    fit(tmp_path / "whole", **options)
    for at in (26, 30):
        out = tmp_path / f"at{at}"
        with stopped_at(at):
            fit(out, **options)
        fit(out, **options)
        for name in ("step", "loss", "lr", "gradient_norm", "skipped"):
            assert column(out, name) == column(tmp_path / "whole", name), (at, name)


def test_ctrl_c_saves_and_exits_with_130(corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(corpus), *killing.OPTIONS, "--budget.steps", "3000", "--log_every", "1"]
    out, log = tmp_path / "run", tmp_path / "log"
    process = killing.start([*arguments, "--out", str(out)], log)
    wait_for(lambda: (out / "metrics.csv").exists() and len(metrics(out)) > 8, process)
    os.kill(process.pid, signal.SIGINT)
    assert killing.finish(process) == 130
    said = log.read_text()
    assert "stopping after this step" in said and "the same command goes on" in said and "Traceback" not in said
    last = int(column(out, "step")[-1])
    assert states(out)[0].name == f"step-{last:08}.ckpt"
    assert remask.load(out).about["step"] == last


def test_killed_at_random_instants(corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(corpus), *killing.OPTIONS]
    wanted, seconds = killing.unbroken(arguments, tmp_path / "unbroken")
    rng = random.Random()
    tries = [killing.attempt(arguments, tmp_path / f"try{i}", rng.uniform(0.3, 1) * seconds, wanted) for i in range(3)]
    assert all(t.identical and not t.left for t in tries), tries


def test_accumulated_steps_are_whole_steps(fit: Fit, tmp_path: Path) -> None:
    for accumulate in (1, 2, 4):
        fit(tmp_path / str(accumulate), steps=12, log_every=1, accumulate=accumulate)
    for accumulate in (2, 4):
        for name in ("loss", "gradient_norm", "lr", "tokens"):
            found = column(tmp_path / str(accumulate), name)
            assert found == pytest.approx(column(tmp_path / "1", name), rel=1e-4), name


def test_two_processes_make_the_steps_of_one(fit: Fit, corpus: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 8, "log_every": 1, "validation_rows": 4, "validate_every": 8}
    fit(tmp_path / "one", **options)
    arguments = "--model tiny --architecture.layers 2 --architecture.width 32 --architecture.heads 2 "
    arguments += "--architecture.ffn 64 --length 64 --batch 8 --precision fp32 --compile off --accelerator cpu "
    arguments += "--budget.steps 8 --log_every 1 --validation_rows 4 --validate_every 8 --devices 2"
    command = [sys.executable, "-m", "remask", "train", "--data", str(corpus), "--out", str(tmp_path / "two")]
    done = subprocess.run([*command, *arguments.split()], cwd=ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert len(metrics(tmp_path / "two")) == 8
    for name in ("step", "tokens", "loss", "gradient_norm", "lr"):
        assert column(tmp_path / "two", name) == pytest.approx(column(tmp_path / "one", name), rel=1e-4), name
    one, two = killing.weights(tmp_path / "one"), killing.weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)


def test_random_length_loses_no_token(fit: Fit, corpus: Path, tmp_path: Path) -> None:
    rows = Rows(open_tokens(corpus).train, 64)
    cut, whole = Batches(rows, 8, 0, random_length=1.0), Batches(rows, 8, 0)
    for index in range(5):
        batch = cut.share(index)
        assert torch.equal(batch.tokens, whole.share(index).tokens)
        assert batch.scored.all()
        assert batch.segments is not None and (batch.segments.amax(1) == 1).all()
    out = tmp_path / "run"
    fit(out, steps=60, random_length=1.0)
    assert json.loads((out / "run.json").read_text())["plan"]["tokens"] == 8 * 64
    assert column(out, "loss")[-1] < column(out, "loss")[0] - 0.5


@dataclass(frozen=True, kw_only=True)
class Watched(Masked):
    """Masked, remembering the weights at the start of each step."""

    seen: ClassVar[list[dict[str, Tensor]]] = []

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        assert isinstance(denoiser, torch.nn.Module)
        self.seen.append({k: v.clone() for k, v in denoiser.state_dict().items()})
        return super().loss(denoiser, batch, rng)


def test_the_average_is_published(fit: Fit, tmp_path: Path) -> None:
    Watched.seen.clear()
    fit(tmp_path, steps=25, ema=0.8, family=Watched())
    last = torch.load(states(tmp_path)[0], weights_only=True)["state_dict"]
    weights = [*Watched.seen, {k.removeprefix("denoiser."): v for k, v in last.items()}]
    assert len(weights) == 26
    average = {k: v.double() for k, v in weights[0].items()}
    for step, live in enumerate(weights[1:], 1):
        decay = min(0.8, (1 + step) / (10 + step))  # a short memory at first
        average = {k: decay * v + (1 - decay) * live[k].double() for k, v in average.items()}
    published = killing.weights(tmp_path)
    assert published.keys() == average.keys()
    for name, weight in published.items():
        torch.testing.assert_close(weight.double(), average[name], rtol=1e-5, atol=1e-6)
        assert not torch.equal(weight, weights[-1][name]) or "norm" in name


@dataclass(frozen=True, kw_only=True)
class Broken(Masked):
    """Masked, with a loss that is not finite in some steps of an unbroken run."""

    bad: tuple[int, ...] = ()
    """Those steps, from 1."""
    value: float = float("nan")
    seeds: ClassVar[list[int]] = []
    """Of the noise of the steps so far."""

    def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
        found = super().loss(denoiser, batch, rng)
        if rng.initial_seed() not in Broken.seeds:
            Broken.seeds.append(rng.initial_seed())
        if len(Broken.seeds) in self.bad:
            return Loss(found.total * 0 + self.value, found.tokens)
        return found


@pytest.fixture(autouse=True)
def first_step() -> None:
    Broken.seeds.clear()


@pytest.mark.parametrize("value", [float("nan"), float("inf")], ids=str)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_that_is_not_finite_is_skipped(fit: Fit, tmp_path: Path, value: float, accumulate: int) -> None:
    family = Broken(bad=(3, 6), value=value)
    fit(tmp_path, steps=6, family=family, save_every=1, log_every=1, accumulate=accumulate)
    assert column(tmp_path, "skipped") == [0, 0, 1, 1, 1, 2]
    after, before = (torch.load(path, weights_only=True) for path in states(tmp_path))
    assert (before["global_step"], after["global_step"]) == (5, 6)
    assert after["remask"] == {"skipped": 2, "in_a_row": 1}
    assert killing.same(before["state_dict"], after["state_dict"])
    torch.testing.assert_close(
        before["optimizer_states"][0]["state"], after["optimizer_states"][0]["state"], rtol=0, atol=0
    )
    assert all(w.isfinite().all() for w in killing.weights(tmp_path).values())


def test_ten_bad_steps_in_a_row_end_the_run(fit: Fit, tmp_path: Path) -> None:
    family = Broken(bad=(2, *range(6, 40)))
    with pytest.raises(RemaskError, match=r"10 steps in a row .*the last of them 15; .*checkpoints/step-.*\.ckpt") as e:
        fit(tmp_path, steps=40, family=family, save_every=4)
    assert str(states(tmp_path)[0]) in str(e.value)
    assert all(w.isfinite().all() for w in load_file(tmp_path / "latest" / "model.safetensors").values())


def test_ten_bad_steps_before_any_checkpoint(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match="there is no checkpoint yet"):
        fit(tmp_path, steps=40, family=Broken(bad=tuple(range(1, 41))), save_every=20)


def test_a_damaged_checkpoint_is_named_and_passed_over(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {"steps": 40, "save_every": 10, "family": Stopping()}
    fit(tmp_path / "whole", **options)
    out = tmp_path / "parts"
    with stopped_at(36):
        fit(out, **options)
    newest, before = states(out)
    assert (newest.name, before.name) == ("step-00000036.ckpt", "step-00000030.ckpt")
    os.truncate(newest, newest.stat().st_size // 2)
    damaged = newest.read_bytes()
    capsys.readouterr()
    with stopped_at(38, start=30):  # nothing is due to be saved before
        fit(out, **options)
    said = capsys.readouterr().err
    assert f"{newest} is damaged" in said and "resumed at step 30" in said
    assert newest.read_bytes() == damaged
    fit(out, **options)
    assert_same_run(tmp_path / "whole", out)


def test_only_damaged_checkpoints_start_anew(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"steps": 12, "save_every": 4, "family": Stopping()}
    fit(tmp_path / "whole", **options)
    out = tmp_path / "parts"
    with stopped_at(8):
        fit(out, **options)
    for path in states(out):
        path.write_bytes(b"")
    fit(out, **options)
    assert capsys.readouterr().err.count("is damaged") == 2
    assert_same_run(tmp_path / "whole", out)


def test_other_options_on_the_same_run(fit: Fit, tmp_path: Path) -> None:
    fit(tmp_path, steps=3)
    before = killing.weights(tmp_path)
    with pytest.raises(RemaskError) as error:
        fit(tmp_path, steps=3, batch=4, optimizer=Optimizer(lr=0.5), family=Autoregressive())
    said = str(error.value)
    assert str(tmp_path) in said and "batch 8 there, 4 now" in said and "'lr': 0.5" in said
    assert "Autoregressive" in said and "length" not in said and "another --out" in said
    assert killing.same(killing.weights(tmp_path), before)
    with pytest.raises(RemaskError, match=r"budget .*3.* there, .*4.* now"):
        fit(tmp_path, steps=4)


def test_a_damaged_run_file_is_named(fit: Fit, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"options": ')
    with pytest.raises(RemaskError, match=r"run\.json is damaged"):
        fit(tmp_path, steps=3)


def test_one_process_at_a_time(fit: Fit, corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(corpus), *killing.OPTIONS, "--budget.steps", "5000"]
    out = tmp_path / "run"
    process = killing.start([*arguments, "--out", str(out)], tmp_path / "log")
    try:
        wait_for((out / "run.json").exists, process)
        with pytest.raises(RemaskError, match=r"another process is training in .*run; choose another --out or wait"):
            fit(out, steps=5)
    finally:
        process.kill()
        process.join()
    fit(tmp_path / "free", steps=1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"length": 65, "architecture": SizeOverrides(layers=1, context=64)}, "length 65 is beyond the context 64"),
        ({"batch": 9, "accumulate": 2}, "batch 9 does not divide over 1 processes x 2 micro-batches"),
        ({"batch": 0}, "batch is 0"),
        ({"accumulate": 0}, "accumulate is 0"),
        ({"length": 0}, "length( of|\\.? is) 0"),
        (
            {"length": 10**6, "architecture": SizeOverrides(context=10**6)},
            "row length of 1000000 is longer than the 25",
        ),
        ({"model": "tinny"}, "unknown model size 'tinny'.*Did you mean 'tiny'"),
        ({"random_length": 1.5}, "random_length=1.5 must lie between 0 and 1"),
        ({"log_every": 0}, "log_every is 0"),
        ({"save_every": -1}, "save_every is -1"),
        ({"validate_every": -1, "validation_rows": 4}, "validate_every is -1"),
        ({"ema": 1.5}, "ema is 1.5"),
        ({"seed": -1}, "seed=-1"),
        ({"budget": Budget()}, "give a budget"),
        ({"budget": Budget(tokens=511)}, "less than one step"),
        ({"data": Path("nowhere")}, "'nowhere' is not a prepared corpus"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, dict) else "",
)
def test_wrong_options(fit: Fit, tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        fit(tmp_path / "run", **options)
    assert not (tmp_path / "run" / "run.json").exists()


def test_rows_too_long_for_the_validation_split(fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, steps=2, length=500, batch=1, validation_rows=4)
    assert "the validation split is shorter than one row of 500 tokens" in capsys.readouterr().err
    assert column(tmp_path, "valid_nats_per_token") == []


def stop_half_way(arguments: list[str], out: Path, log: Path) -> None:
    """Trains until two training states are there, then Ctrl-C."""
    process = killing.start([*arguments, "--out", str(out)], log)
    wait_for(lambda: len(states(out)) > 1, process)
    os.kill(process.pid, signal.SIGINT)
    assert killing.finish(process) == 130


def test_files_that_cannot_grow(corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(corpus), *killing.OPTIONS, "--budget.steps", "2000", "--ema", "0"]
    out, log = tmp_path / "run", tmp_path / "log"
    stop_half_way(arguments, out, log)
    before, log = [p.name for p in states(out)], tmp_path / "log2"
    limit = states(out)[0].stat().st_size // 2
    assert killing.finish(killing.start([*arguments, "--out", str(out)], log, file_size=limit)) == 1
    assert_whole_after_a_failed_write(out, before, log.read_text())


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting needs root")
def test_a_full_disk(corpus: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        arguments = ["train", "--data", str(corpus), *killing.OPTIONS, "--budget.steps", "2000", "--ema", "0"]
        out, log = disk / "run", tmp_path / "log"
        stop_half_way(arguments, out, log)
        before, log = [p.name for p in states(out)], tmp_path / "log2"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "ballast").write_bytes(bytes(free - states(out)[0].stat().st_size // 2))
        assert killing.finish(killing.start([*arguments, "--out", str(out)], log)) == 1
        assert_whole_after_a_failed_write(out, before, log.read_text())
    finally:
        subprocess.run(["umount", disk], check=True)


def assert_whole_after_a_failed_write(out: Path, before: list[str], said: str) -> None:
    assert "cannot write" in said and ".ckpt" in said and "The checkpoints before it are whole" in said
    assert "Traceback" not in said
    assert [p.name for p in states(out)] == before
    for path in states(out):
        torch.load(path, weights_only=True)
    remask.load(out)
    assert not [p for p in out.rglob("*") if p.name.endswith((".tmp", ".old"))]


def test_a_budget_in_minutes(fit: Fit, tmp_path: Path) -> None:
    begin = time.monotonic()
    fit(tmp_path, budget=Budget(minutes=0.03))
    plan = json.loads((tmp_path / "run.json").read_text())["plan"]
    assert plan["steps"] > 5
    assert column(tmp_path, "step")[-1] == plan["steps"]
    assert time.monotonic() - begin < 60
    fit(tmp_path, budget=Budget(minutes=0.03))  # keeps the plan: complete
    assert json.loads((tmp_path / "run.json").read_text())["plan"] == plan


def test_every_step_has_its_own_rows_in_order(fit: Fit, corpus: Path, tmp_path: Path) -> None:
    """What a step reads is a function of its number, over epochs too: 400 rows make 50 steps."""
    seen: list[Tensor] = []

    class Recording(Masked):
        def loss(self, denoiser: Denoiser, batch: Batch, rng: torch.Generator) -> Loss:
            seen.append(batch.tokens)
            return super().loss(denoiser, batch, rng)

    fit(tmp_path, steps=60, family=Recording())
    batches = Batches(Rows(open_tokens(corpus).train, 64), 8, 0)
    assert len(seen) == 60
    assert all(torch.equal(tokens, batches.share(i).tokens) for i, tokens in enumerate(seen))


def exact(language: HiddenMarkov, symbols: np.ndarray) -> np.ndarray:
    """(B,) nats: log p of rows that start at a random place of a long text, so in a state nobody knows."""
    start = np.linalg.matrix_power(language.transition, 500)[0]
    each = []
    for first in range(language.states):
        state, total = np.full(len(symbols), first), np.full(len(symbols), np.log(start[first]))
        for symbol in symbols.T:
            total += np.log(language.emission)[state, symbol]
            state = language.following[state, symbol]
        each.append(total)
    return np.logaddexp.reduce(each)


def test_the_bound_of_a_trained_model_is_just_above_the_entropy(fit: Fit, tmp_path: Path) -> None:
    """A language of known entropy, in texts so long that rows hardly ever hold an end.

    E[bound] is entropy + the mean of (bound + log p), whose two parts share the noise of the rows.
    """
    length = 16
    source = "synthetic:symbols=4,states=2,length=5000,documents=100,seed=0"
    data = prepare(source, tmp_path / "data", tokenizer="bytes").folder
    fit(
        tmp_path / "run",
        steps=500,
        data=data,
        family=Masked(objective="count"),
        optimizer=Optimizer(lr=1e-2, floor=0.02),
        length=length,
        batch=64,
        ema=0.99,
        save_every=500,
    )
    m, language = remask.load(tmp_path / "run"), HiddenMarkov(symbols=4, states=2, seed=0)
    symbols = language.sample(2048, length + 40, np.random.default_rng(9))[:, 40:]
    rows = torch.tensor([m.tokenizer.encode(language.render(row)) for row in symbols])
    batch = Batch(rows, torch.ones_like(rows, dtype=torch.bool))
    with torch.inference_mode():
        drawn = [m.family.bound(m.model, batch, torch.Generator().manual_seed(i)).numpy() for i in range(6)]
    above = (np.mean(drawn, 0) + exact(language, symbols)) / length  # nats per token
    error = above.std() / len(above) ** 0.5
    assert error < 0.006
    assert -3 * error < above.mean() < 0.05, (above.mean(), error)


RECIPES = sorted((ROOT / "configs").glob("**/*.yaml"))
SMALL = shlex.split("""
    --model tiny --architecture.layers 1 --architecture.width 32 --architecture.heads 4 --architecture.ffn 64
    --length 32 --batch 8 --accumulate 2 --budget.flops null --budget.tokens null --budget.minutes null
    --budget.steps 2 --precision fp32 --compile off --accelerator cpu --devices 1 --nodes 1 --validation_rows 4
""")


def leaves(tree: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key, value


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains(corpus: Path, tmp_path: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, but on a tiny corpus, network and budget. What is not overruled arrives in the run."""
    from remask.cli import main

    main(["train", "--config", str(recipe), "--data", str(corpus), "--out", str(tmp_path / "run"), *SMALL])
    assert remask.load(tmp_path / "run").about["step"] == 2
    text = recipe.read_text()
    assert "--config configs/" in text.split("\n\n")[0], "a recipe says at its top how it is run"
    found = dict(leaves(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())))
    overruled = {option.removeprefix("--") for option in SMALL if option.startswith("--")}
    for key, value in leaves(yaml.safe_load(text)):
        if key not in overruled:
            assert found[key] == value, key


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_a_possible_run(recipe: Path) -> None:
    """Sizes and budgets as they stand: the head width is even, the rows fit the context, one budget is given."""
    from dataclasses import replace

    from remask.model.sizes import size

    options = yaml.safe_load(recipe.read_text())
    shape = SizeOverrides(**options.get("architecture", {})).of(size(options.get("model", "tiny")))
    assert replace(shape, rows=32001, predicted=32000).parameters > 0
    assert options.get("length", 256) <= shape.context
    assert options.get("batch", 32) % options.get("accumulate", 1) == 0
    assert len(Budget(**options["budget"]).__dict__) == 4
    Optimizer(**options.get("optimizer", {}))


# From a checkpoint


def test_a_run_starts_from_a_checkpoint(fit: Fit, masked_run: Path, corpus: Path, tmp_path: Path) -> None:
    """With no learning to speak of, the weights stay those of the checkpoint; also of one in another's form."""
    shape = {"architecture": SizeOverrides(), "optimizer": Optimizer(lr=1e-12)}
    fit(tmp_path / "on", steps=2, model=str(masked_run), **shape)
    before, after = (load_file(p / "latest" / "model.safetensors") for p in (masked_run, tmp_path / "on"))
    assert all(torch.allclose(before[k], after[k], atol=1e-9) for k in before)
    llama = convert(masked_run, tmp_path / "llada", to="llada")
    fit(tmp_path / "from theirs", steps=2, model=str(llama), **shape)
    assert all(
        torch.allclose(before[k], v, atol=1e-9)
        for k, v in load_file(tmp_path / "from theirs" / "latest" / "model.safetensors").items()
    )


def test_a_llama_trains_on_as_a_masked_model(fit: Fit, autoregressive_run: Path, corpus: Path, tmp_path: Path) -> None:
    """Out as a Llama, in as a masked model with a row for the mask and shifted predictions, and on with training."""
    llama = convert(autoregressive_run, tmp_path / "llama", to="llama")
    masked = convert(llama, tmp_path / "masked", overrides=Overrides(family="Masked", shift=True))
    fit(tmp_path / "run", steps=30, model=str(masked), architecture=SizeOverrides(), validation_rows=4)
    m = remask.load(tmp_path / "run")
    assert m.model.architecture.shifted and m.family.vocabulary.mask == 257
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    assert len(remask.sample(m, prompt="ab", length=8, seed=0).tokens) <= 8


def test_a_run_that_goes_on_needs_its_beginning_no_more(
    fit: Fit, masked_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = convert(masked_run, tmp_path / "llada", to="llada")
    options: dict[str, Any] = {"steps": 5, "model": str(start), "architecture": SizeOverrides()}
    fit(tmp_path / "run", **options)
    shutil.rmtree(start)
    capsys.readouterr()
    fit(tmp_path / "run", **options)
    assert "is complete: 5 steps" in capsys.readouterr().err
    with pytest.raises(RemaskError, match="no checkpoint at"):
        fit(tmp_path / "other", **options)


def losses(out: Path) -> list[float]:
    return [float(x) for x in column(out, "loss") if x]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"architecture": SizeOverrides(layers=1)}, "is a checkpoint, whose shape is what it is"),
        ({"length": 65, "architecture": SizeOverrides()}, "length is 65, and the context of .* 64"),
    ],
)
def test_what_does_not_fit_a_checkpoint(fit: Fit, masked_run: Path, tmp_path: Path, options: dict, says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        fit(tmp_path / "run", model=str(masked_run), **options)


def test_a_checkpoint_and_data_of_another_tokenizer(fit: Fit, masked_run: Path, tmp_path: Path) -> None:
    other = prepare(
        "synthetic:symbols=8,states=4,length=64,documents=400,seed=0", tmp_path / "data", vocab_size=270
    ).folder
    with pytest.raises(RemaskError, match="prepared with another tokenizer"):
        fit(tmp_path / "run", model=str(masked_run), data=other, architecture=SizeOverrides())


def test_an_autoregressive_checkpoint_has_no_row_for_a_mask(fit: Fit, autoregressive_run: Path, tmp_path: Path) -> None:
    llama = convert(autoregressive_run, tmp_path / "llama", to="llama")
    with pytest.raises(RemaskError, match="has no row for a mask: make one with `remask convert"):
        fit(tmp_path / "run", model=str(llama), architecture=SizeOverrides())


# Compiled runs


def test_compiled_runs_repeat_bit_for_bit(corpus: Path, tmp_path: Path) -> None:
    """On two threads, in bfloat16: one unbroken, one stopped and resumed."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler")
    options = shlex.split(
        "--model tiny --length 64 --batch 16 --precision bf16 --compile on --accelerator cpu --ema 0.9 "
        "--validation_rows 4 --validate_every 30 --save_every 4 --log_every 1 --budget.steps 60"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    command = [sys.executable, "-m", "remask", "train", "--data", str(corpus), *options, "--out"]
    whole = subprocess.run([*command, str(tmp_path / "whole")], env=environment, capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    parts = subprocess.Popen([*command, str(tmp_path / "parts")], env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (tmp_path / "parts" / "checkpoints" / "step-00000004.ckpt").exists():
        assert parts.poll() is None and time.monotonic() < until
        time.sleep(0.005)
    parts.kill()
    parts.wait()
    again = subprocess.run([*command, str(tmp_path / "parts")], env=environment, capture_output=True, text=True)
    assert again.returncode == 0 and "resumed at step" in again.stderr, again.stderr
    one, two = (tmp_path / name / "latest" / "model.safetensors" for name in ("whole", "parts"))
    assert one.read_bytes() == two.read_bytes()


# Uniform-state diffusion


def test_a_uniform_model_is_told_the_time(fit: Fit, masked_run: Path, tmp_path: Path) -> None:
    """The named size gets its time embedding by itself; a checkpoint without one is refused."""
    fit(tmp_path / "run", steps=60, family=Uniform(), validation_rows=4)
    m = remask.load(tmp_path / "run")
    assert m.model.architecture.time and isinstance(m.family, Uniform)
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0]
    one, again = (remask.sample(m, prompt="ab", length=12, steps=8, seed=3) for _ in range(2))
    assert one == again and one.evaluations == 8 and 257 not in one.tokens
    filled = remask.sample(m, infill="ab[MASK:3]cd", steps=8)
    assert filled.text.startswith("ab") and filled.text.endswith("cd")
    found = remask.score(m, text="abcabc")
    assert found.kind == "bound" and found.stderr > 0
    with pytest.raises(RemaskError, match="guidance needs a model that reads masks, and this one is Uniform"):
        remask.sample(m, prompt="ab", length=4, guidance=1.0)
    with pytest.raises(RemaskError, match="is not conditioned on time, which Uniform models have to be"):
        fit(tmp_path / "other", family=Uniform(), model=str(masked_run), architecture=SizeOverrides())
    with pytest.raises(RemaskError, match=r"architecture\.time cannot be false"):
        fit(tmp_path / "other", family=Uniform(), architecture=SizeOverrides(time=False))


def test_a_range_of_gamma_is_checked_before_the_run_and_kept_over_it(fit: Fit, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 6, "family": Uniform(curriculum=0.5, gamma=(-3.0, -1.0))}
    fit(tmp_path / "run", **options)
    assert remask.load(tmp_path / "run").family == options["family"]
    fit(tmp_path / "run", **options)  # the same options, read from JSON
    with pytest.raises(RemaskError, match="gamma goes to 20, where fewer"):
        fit(tmp_path / "other", family=Uniform(curriculum=0.5, gamma=(-3.0, 20.0)))
    for family in (Interpolating(), Autoregressive()):
        with pytest.raises(RemaskError, match=r"tell no time; architecture\.time cannot be true"):
            fit(tmp_path / "other", family=family, architecture=SizeOverrides(time=True))
        with pytest.raises(RemaskError, match=r"is conditioned on time, which .* models do not tell"):
            fit(tmp_path / "other", family=family, model=str(tmp_path / "run"), architecture=SizeOverrides())
    assert not (tmp_path / "other" / "run.json").exists()


# Interpolating diffusion


@pytest.mark.parametrize(("alpha_0", "variant"), [(0.5, "B"), (0.5, "A"), (0.0, "B"), (1.0, "B")])
def test_an_interpolating_model_trains_writes_and_scores(
    fit: Fit, tmp_path: Path, alpha_0: float, variant: str
) -> None:
    family = Interpolating(alpha_0=alpha_0, variant="A" if variant == "A" else "B")
    out = tmp_path / "run"
    fit(out, steps=60, family=family, validation_rows=4, random_length=0.3, optimizer=Optimizer(lr=5e-3))
    m = remask.load(out)
    assert m.family == family and losses(out)[-1] < losses(out)[0] - 0.5
    assert {row["valid_kind"] for row in metrics(out)} - {""} == {"exact" if alpha_0 == 0 else "bound"}
    one, again = (remask.sample(m, prompt="ab", length=12, steps=4, seed=3) for _ in range(2))
    assert one == again and one.evaluations <= 4 + 12 and 257 not in one.tokens
    filled = remask.sample(m, infill="ab[MASK:3]cd[MASK:2]", steps=3)
    assert filled.text.startswith("ab") and filled.text[5:7] == "cd"
    more = remask.sample(m, prompt="ab", length=12, steps=4, seed=3, guidance=0.5)
    assert more.evaluations == 2 * one.evaluations
    found = remask.score(m, text="abcabc", prompt="ab", draws=16)
    assert found.kind == ("exact" if alpha_0 == 0 else "bound") and (found.stderr > 0) == (alpha_0 > 0)
    if variant == "B":
        kind = remask.score(m, text="abcabc", estimator="orders", draws=8).kind
        assert kind == ("exact" if alpha_0 == 0 else "bound")
    with pytest.raises(RemaskError, match="guidance in scoring needs a masked model, and this one is Interpolating"):
        remask.score(m, text="abc", guidance=1.0)
    with pytest.raises(RemaskError, match="strata is for the estimators smdm and llada"):
        remask.score(m, text="abc", strata=4)
    with pytest.raises(RemaskError, match="for autoregressive models, and this one is Interpolating"):
        convert(out, tmp_path / "llama", to="llama")
    with pytest.raises(RemaskError, match="for masked models, and this one is Interpolating"):
        convert(out, tmp_path / "llada", to="llada")
    ids = torch.tensor([[97, 257, 98, 257]])
    noisy = family.over(m.family.vocabulary).inputs_for(
        Batch(ids, torch.ones_like(ids, dtype=torch.bool)), ids == 257, torch.ones(1)
    )
    torch.testing.assert_close(m.logits(ids)[ids == 257], m.model(noisy.tokens, ask=noisy.ask, **noisy.reading()))


def test_an_interpolating_run_counts_what_it_reads(fit: Fit, tmp_path: Path) -> None:
    """At equal FLOPs the sequential term, which reads twice as much for half of the rows, has 2/3 of the steps."""
    steps = {}
    for alpha_0 in (0.0, 0.5, 1.0):
        shape = SizeOverrides(layers=2, width=32, heads=2, ffn=64)
        out = tmp_path / str(alpha_0)
        fit(
            out, budget=Budget(flops=6 * 20640 * 8 * 64 * 30), family=Interpolating(alpha_0=alpha_0), architecture=shape
        )
        plan = json.loads((out / "run.json").read_text())["plan"]
        steps[alpha_0] = plan["steps"]
        assert plan["flops_6n"] * plan["steps"] == pytest.approx(6 * 20640 * 8 * 64 * 30, rel=0.1)
    assert steps[0.5] == pytest.approx(steps[1.0] / 1.5, abs=1) and steps[0.0] == pytest.approx(steps[1.0] / 2, abs=1)
