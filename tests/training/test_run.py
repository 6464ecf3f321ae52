"""Real runs on a tiny corpus: they learn, stop, resume bit for bit, survive kills, and repeat."""

import os
import random
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import killing
import numpy as np
import pytest
import torch
import yaml
from runs import Stopping, assert_same_run, column, losses, metrics, stopped_at, wait_for

import remask
from remask import machine
from remask.batch import Batch
from remask.checkpoints.convert import convert
from remask.data.synthetic import HiddenMarkov
from remask.data.tokens import prepare
from remask.errors import RemaskError
from remask.families import Family
from remask.families.autoregressive import Autoregressive
from remask.families.interpolating import Interpolating
from remask.families.masked import Masked
from remask.families.uniform import Uniform
from remask.model.sizes import SizeOverrides
from remask.training.optim import Optimizer
from remask.training.states import list_states

Fit = Callable[..., Path]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("family", [Masked(), Autoregressive()], ids=lambda f: type(f).__name__)
def test_a_run_learns_and_publishes(fit: Fit, tmp_path: Path, family: Family) -> None:
    out = tmp_path / "run"
    latest = fit(out, steps=80, family=family, validation_rows=4, validate_every=20, save_every=40)
    assert latest == out / "latest"
    valid = column(out, "valid_nats_per_token")
    assert len(valid) == 4 and valid[-1] < valid[0] and valid[-1] < 1.8, "8 symbols, so 2.1 nats for who knows nothing"
    assert column(out, "step") == [*range(10, 81, 10)]
    assert column(out, "tokens")[-1] == 80 * 8 * 64
    assert {row["valid_kind"] for row in metrics(out)} - {""} == {"exact" if family.exact else "bound"}

    m = remask.load(out)
    assert type(m.family) is type(family)
    assert m.about["step"] == m.about["steps"] == 80
    assert m.about["validation"]["nats"] / m.about["validation"]["tokens"] == pytest.approx(valid[-1])
    assert m.logits(torch.zeros(1, 64, dtype=torch.int64)).shape == (1, 64, 257)
    assert remask.load(out / "best").about["step"] == 20 * (1 + valid.index(min(valid)))
    assert [p.name for p in list_states(out)] == ["step-00000080.ckpt", "step-00000040.ckpt"]
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


@pytest.mark.parametrize(
    ("at", "more"),
    [
        (5, {}),
        (12, {"accumulate": 2, "family": "count"}),
        (12, {"ema": 0.9, "validation_rows": 4, "validate_every": 5, "random_length": 0.5}),
        (20, {"ema": 0.9, "validation_rows": 4, "validate_every": 5, "random_length": 0.5}),
    ],
    ids=["plain at 5", "accumulated at 12", "averaged at 12", "averaged at 20"],
)
def test_a_stopped_run_resumes_bit_for_bit(fit: Fit, tmp_path: Path, at: int, more: dict) -> None:
    objective = "count" if "family" in more else "bound"
    options = more | {"steps": 24, "save_every": 6, "family": Stopping(objective=objective)}
    fit(tmp_path / "whole", **options)
    with stopped_at(at):
        fit(tmp_path / "parts", **options)
    assert list_states(tmp_path / "parts")[0].name == f"step-{at:08}.ckpt"
    assert (tmp_path / "parts" / "latest" / "model.safetensors").exists()
    fit(tmp_path / "parts", **options)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_state_with_other_groups_of_weights_is_named(fit: Fit, tmp_path: Path) -> None:
    """As those of earlier versions have, in which all of AdamW's vectors learnt at one rate."""
    options = {"steps": 6, "save_every": 3, "family": Stopping()}
    with stopped_at(3):
        fit(tmp_path, **options)
    (path,) = list_states(tmp_path)
    state = torch.load(path, weights_only=True)
    state["optimizer_states"][0]["param_groups"].pop()
    torch.save(state, path)
    with pytest.raises(RemaskError, match=r"an earlier version of remask.*--model and another --out"):
        fit(tmp_path, **options)


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
    assert list_states(out)[0].name == f"step-{last:08}.ckpt"
    assert remask.load(out).about["step"] == last


@pytest.mark.slow
def test_killed_at_random_instants(corpus: Path, tmp_path: Path) -> None:
    arguments = ["train", "--data", str(corpus), *killing.OPTIONS]
    wanted, seconds = killing.unbroken(arguments, tmp_path / "unbroken")
    rng = random.Random(0)
    tries = [killing.attempt(arguments, tmp_path / f"try{i}", rng.uniform(0.3, 1) * seconds, wanted) for i in range(3)]
    assert all(t.identical and not t.left for t in tries), tries


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


@pytest.mark.slow
def test_compiled_runs_repeat_bit_for_bit(corpus: Path, tmp_path: Path) -> None:
    """On two threads, in bfloat16 where the processor is fast at it: another process does the second half again.

    The first steps are those of a run that is not compiled, to rounding.
    Nothing is compiled twice: validation, whose last rows are fewer than a step's, has no graph of its own.
    """
    if machine.compiler() is None:
        pytest.skip("no C++ compiler")
    options = shlex.split(
        "--model tiny --architecture.layers 1 --architecture.heads 2 --architecture.kv_heads 2 --length 64 --batch 16 "
        "--precision auto --compile on --accelerator cpu "
        "--ema 0.9 --validation_rows 20 --validate_every 10 --save_every 10 --log_every 1 --budget.steps 20"
    )

    settings = {"OMP_NUM_THREADS": "2", "TORCH_LOGS": "recompiles"}

    def run(out: Path, *more: str) -> str:
        arguments, log = ["train", "--data", str(corpus), *options, "--out", str(out), *more], out.with_suffix(".log")
        assert not killing.finish(killing.start(arguments, log, environment=settings)), log.read_text()
        return log.read_text()

    whole, again = tmp_path / "whole", tmp_path / "again"
    said = run(whole)
    assert "compiled" in said and "Recompiling" not in said
    shutil.copytree(whole, again)
    (again / "checkpoints" / "step-00000020.ckpt").unlink()
    assert "resumed at step 10" in run(again)
    assert killing.same(killing.weights(whole), killing.weights(again))
    assert column(whole, "gradient_norm") == column(again, "gradient_norm")
    run(tmp_path / "eager", "--compile", "off")
    for name in ("loss", "gradient_norm"):
        assert column(whole, name)[:3] == pytest.approx(column(tmp_path / "eager", name)[:3], rel=0.01), name


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


@pytest.mark.slow
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


@pytest.mark.parametrize(("alpha_0", "variant"), [(0.5, "B"), (0.5, "A"), (0.0, "B"), (1.0, "B")])
def test_an_interpolating_model_trains_writes_and_scores(
    fit: Fit, tmp_path: Path, alpha_0: float, variant: str
) -> None:
    family = Interpolating(alpha_0=alpha_0, variant="A" if variant == "A" else "B", objective="bound")
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
    if variant == "B" and alpha_0 > 0:
        assert remask.score(m, text="abcabc", estimator="orders", draws=8).kind == "bound"
    with pytest.raises(RemaskError, match="for autoregressive models, and this one is Interpolating"):
        convert(out, tmp_path / "llama", to="llama")
    with pytest.raises(RemaskError, match="for masked models, and this one is Interpolating"):
        convert(out, tmp_path / "llada", to="llada")
    ids = torch.tensor([[97, 257, 98, 257]])
    noisy = family.over(m.family.vocabulary).inputs_for(
        Batch(ids, torch.ones_like(ids, dtype=torch.bool)), ids == 257, torch.ones(1)
    )
    torch.testing.assert_close(m.logits(ids)[ids == 257], m.model(noisy.tokens, ask=noisy.ask, **noisy.conditions))


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
