"""Runs on preferences, from real tiny models of every family: they learn, resume, and lose nothing."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import assert_adapted, assert_same_run, column, metrics

import remask
from remask.batch import Batch
from remask.checkpoints.checkpoint import open_checkpoint
from remask.errors import Interrupted, RemaskError
from remask.families import Loss
from remask.families.interpolating import Interpolating
from remask.families.uniform import Uniform
from remask.model.networks import network
from remask.training.adapters import LowRank
from remask.training.adversarial import Adversarial
from remask.training.optim import Budget, Optimizer
from remask.training.preference.loss import PreferenceLoss
from remask.training.preference.pairs import PairReading
from remask.training.preference.run import Preferences, prefer, set_up
from remask.training.run import carry_out
from remask.training.states import list_states


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The letter a is better than the letter b, whatever was said before."""
    rows = [
        {"prompt": f"{i:o}", "chosen": "a" * (1 + i % 5), "rejected": "b" * (1 + i % 3)} for i in range(8, 48)
    ]  # fmt: skip
    return write(tmp_path_factory.mktemp("pairs") / "pairs.jsonl", rows)


def recipe(model: Path, data: Path, out: Path, **more: Any) -> Preferences:
    options: dict[str, Any] = {
        "budget": Budget(steps=6), "batch": 4, "objective": "DPO:draws=3,beta=0.3", "log_every": 1, "save_every": 2,
        "optimizer": Optimizer(kind="adamw", lr=3e-3, weight_decay=0.0), "precision": "fp32", "accelerator": "cpu",
        "validation_pairs": 4, "sft": PairReading(validation_share=0.1),
    }  # fmt: skip
    return Preferences(model=str(model), data=data, out=out, **options | more)


@pytest.mark.parametrize("kind", ["masked", "autoregressive"])
def test_the_command_learns_the_preference(
    kind: str, data: Path, tmp_path: Path, call: Any, request: pytest.FixtureRequest
) -> None:
    model, out = request.getfixturevalue(f"{kind}_run"), tmp_path / "out"
    options = f"--data {data} --out {out} --objective DPO:draws=2 --budget.epochs 2 --batch 8 --precision fp32".split()
    options += ["--optimizer.lr", "3e-3", "--log_every", "1", "--sft.validation_share", "0.2"]
    status, _, said = call("prefer", model, *options)
    assert status == 0, said
    assert "fine-tuned on 32 pairs of replies" in said and "8 held-out pairs: accuracy" in said
    accuracy = column(out, "accuracy")
    assert accuracy[0] == 0.5 and sum(accuracy[-3:]) / 3 > 0.9 and len(accuracy) == 8, accuracy
    first, last = metrics(out)[0], metrics(out)[-1]
    assert float(first["loss"]) == pytest.approx(0.6931, abs=1e-3) and float(last["loss"]) < 0.5
    assert float(last["margin"]) == pytest.approx(float(last["chosen"]) - float(last["rejected"]), abs=1e-6)
    held = json.loads((out / "preferences.json").read_text())
    assert held["pairs"] == 8 and held["accuracy"]["mean"] > 0.9 and held["margin"]["stderr"] > 0
    found = remask.load(out)
    assert type(found.family) is type(remask.load(model).family) and found.about["step"] == 8
    assert remask.sample(found, prompt="33", length=3, temperature=0.0).text[0] == "a"
    before = (out / "preferences.json").read_bytes()
    (out / "preferences.json").unlink()
    _, _, said = call("prefer", model, *options)  # complete: only what is missing is measured, by the run's reference
    assert "is complete: 8 steps" in said and (out / "preferences.json").read_bytes() == before
    status, _, said = call("prefer", model, *options, "--objective", "IPO")
    assert status == 1 and "other options: --objective DPO:draws=2 there, IPO now" in said


@pytest.mark.parametrize("family", [Uniform(), Interpolating(alpha_0=0.5)], ids=str)
def test_every_family_learns(family: Any, fit: Any, data: Path, tmp_path: Path) -> None:
    fit(tmp_path / "start", steps=4, family=family)
    rate = Optimizer(kind="adamw", lr=1e-2, weight_decay=0.0)
    more = {"objective": "IPO:draws=4,beta=0.1", "budget": Budget(steps=14), "batch": 8, "optimizer": rate}
    prefer(recipe(tmp_path / "start", data, tmp_path / "out", **more))
    assert sum(column(tmp_path / "out", "accuracy")[-3:]) / 3 > 0.75


class Stopping(PreferenceLoss):
    """A loss during which Ctrl-C is pressed in one call."""

    left = 0

    def forward(self, policy: Any, batch: Batch, rng: torch.Generator) -> Loss:
        Stopping.left -= 1
        if not Stopping.left:
            signal.raise_signal(signal.SIGINT)
        return super().forward(policy, batch, rng)


HARD = {"objective": "IPO:draws=2", "adversarial": Adversarial(radius=0.2, steps=2), "accumulate": 2, "ema": 0.9}


@pytest.mark.parametrize("more", [{}, HARD], ids=["DPO", "C-AdvIPO"])
def test_a_stopped_run_resumes_bit_for_bit(masked_run: Path, data: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    """The reference too, which is the checkpoint that the run began from and not the one that it goes on from."""
    Stopping.left = 3 * more.get("accumulate", 1)
    options, start = recipe(masked_run, data, tmp_path / "parts", **more), open_checkpoint(str(masked_run))
    reference = network(start.architecture)
    with pytest.raises(Interrupted):
        carry_out(
            set_up(options, start),
            lambda *_: Stopping(options.preference, start.family, reference, options.adversarial),
        )
    assert len(metrics(tmp_path / "parts")) == 3
    for name in ("parts", "whole"):
        prefer(recipe(masked_run, data, tmp_path / name, **more))
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    for name in ("loss", "accuracy", "margin", "chosen"):
        assert column(tmp_path / "parts", name) == column(tmp_path / "whole", name), name
    state = torch.load(list_states(tmp_path / "whole")[0], weights_only=True)["state_dict"]
    for name, weight in remask.load(masked_run).model.state_dict().items():
        assert torch.equal(state[f"objective.reference.{name}"], weight), name


def test_a_finished_run_is_given_more_steps(masked_run: Path, data: Path, tmp_path: Path) -> None:
    rate = Optimizer(kind="adamw", lr=1e-3, weight_decay=0.0, floor=1.0, schedule="wsd", decay=0.01, warmup=0)
    for steps in (3, 5):
        prefer(recipe(masked_run, data, tmp_path / "longer", budget=Budget(steps=steps), optimizer=rate))
    prefer(recipe(masked_run, data, tmp_path / "whole", budget=Budget(steps=5), optimizer=rate))
    assert_same_run(tmp_path / "longer", tmp_path / "whole")


@pytest.mark.parametrize(
    ("more", "says"),
    [({"budget": Budget(minutes=1)}, "preferences take a budget of epochs or steps"),
     ({"budget": Budget()}, r"give a budget: --budget\.epochs or --budget\.steps"),
     ({"objective": "PPO"}, "unknown objective 'PPO'.*DPO"), ({"objective": "DPO:beta=0"}, "DPO: beta is 0"),
     ({"objective": "IPO:draws=0"}, "IPO: draws is 0; it must be at least 1"),
     ({"objective": "IPO:bta=1"}, "unknown option of IPO 'bta'"), ({"length": 65}, "length is 65, beyond the context"),
     ({"length": 6}, r"pairs.jsonl, line \d+: its \d tokens do not fit a row of 6: give --length \d or more"),
     ({"adversarial": Adversarial(radius=1.0, away=0.1)}, r"adversarial\.away is 0\.1; it must be 0 here"),
     ({"data": Path("nowhere")}, "data is 'nowhere', where no .jsonl file is.*chosen"),
     ({"sft": PairReading(template="chat")}, "line 1: this tokenizer has no chat template"),
     ({"validation_pairs": -1}, "validation_pairs is -1"), ({"batch": 3, "accumulate": 2}, "batch is 3, which does")],
)  # fmt: skip
def test_what_is_refused(masked_run: Path, data: Path, tmp_path: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        prefer(recipe(masked_run, more.pop("data", data), tmp_path / "out", **more))
    assert not (tmp_path / "out").exists()


def test_bad_rows_stop_the_run_or_are_left_out(masked_run: Path, data: Path, tmp_path: Path) -> None:
    good = [json.loads(line) for line in data.read_text().splitlines()]
    same = {"prompt": "x", "chosen": "ab", "rejected": "ab"}
    bad = write(tmp_path / "bad.jsonl", [*good[:2], same, {**same, "rejected": "b" * 99}, *good[2:]])
    out = tmp_path / "out"
    with pytest.raises(RemaskError, match=r"bad.jsonl, line 3: chosen and rejected are the same.*--sft.skip_bad"):
        prefer(recipe(masked_run, bad, out))
    assert not out.exists()
    prefer(recipe(masked_run, bad, out, budget=Budget(steps=1), sft=PairReading(skip_bad=True)))
    about = remask.load(out).about["conversations"]
    assert about["skipped"] == 2 and about["templates"] == {"none": 40} and about["kind"] == "pairs of replies"
    assert "fine-tuned on 39 pairs of replies" in (out / "latest" / "README.md").read_text()


def test_options_that_mean_nothing_here_are_not_taken(masked_run: Path, data: Path, tmp_path: Path, call: Any) -> None:
    status, said, _ = call("prefer", "--help")
    assert status == 0 and "--sft.template" in said and "--adversarial.radius" in said and "--sft.pack" not in said
    for option in ("--sft.pack", "--sft.padding", "--compile", "--validation_rows"):
        status, _, _ = call("prefer", masked_run, "--data", data, "--out", tmp_path / "out", option, "1")
        assert status == 2, option


def test_adapters_alone_are_trained_against_the_model_without_them(
    masked_run: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    rate = Optimizer(kind="adamw", lr=3e-3, weight_decay=0.0, floor=1.0, schedule="wsd", decay=0.01, warmup=0)
    options: dict[str, Any] = {"lora": LowRank(rank=2, targets=("q_proj", "down_proj")), "optimizer": rate}
    with pytest.raises(RemaskError, match=r"lora.targets has 'query'; this network has .*q_proj"):
        prefer(recipe(masked_run, data, tmp_path / "bad", lora=LowRank(rank=1, targets=("query",))))
    assert not (tmp_path / "bad").exists()
    prefer(recipe(masked_run, data, tmp_path / "parts", **options, budget=Budget(steps=3)))
    for name in ("parts", "whole"):
        prefer(recipe(masked_run, data, tmp_path / name, **options))
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert column(tmp_path / "whole", "margin")[0] == pytest.approx(0, abs=1e-4)
    assert column(tmp_path / "whole", "margin")[-1] > 0
    assert_adapted(masked_run, tmp_path / "whole", {"q_proj", "down_proj"})
