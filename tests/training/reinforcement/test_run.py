"""Runs of reinforcement, on real tiny models: that they learn, resume, and lose nothing."""

import signal
from pathlib import Path
from typing import Any

import pytest
from runs import assert_adapted, assert_same_run, column, metrics

import remask
from remask.checkpoints.folder import save
from remask.cli import main
from remask.conversation import reply_end, trained_template
from remask.errors import Interrupted, RemaskError
from remask.tasks.base import Example, Task
from remask.training.adapters import LowRank
from remask.training.optim import Budget, Optimizer
from remask.training.reinforcement.run import Reinforcement, reinforce
from remask.training.states import list_states, step_of


def recipe(model: Path, out: Path, **more: Any) -> Reinforcement:
    options: dict[str, Any] = {
        "tasks": ["Copy:items=1"], "objective": "JustGRPO:group=4", "budget": Budget(steps=6), "batch": 16, "length": 4,
        "optimizer": Optimizer(kind="adamw", lr=3e-3, weight_decay=0.0), "log_every": 1, "save_every": 2,
        "precision": "fp32", "accelerator": "cpu",
    }  # fmt: skip
    return Reinforcement(model=str(model), out=out, **options | more)


def letters(task: Task, example: Example, text: str) -> float:
    """The share of the room that holds the letter a."""
    return text.count("a") / 4


@pytest.mark.parametrize("objective", ["JustGRPO:group=8", "WD1:group=8"])
@pytest.mark.parametrize("kind", ["masked", "autoregressive"])
def test_a_trivial_task_is_learnt(kind: str, objective: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(f"{kind}_run")
    steps = {"budget": Budget(steps=12), "batch": 32, "optimizer": Optimizer(kind="adamw", lr=1e-2, weight_decay=0.0)}
    folder = reinforce(recipe(model, tmp_path / "out", objective=objective, **steps), letters)
    rewards = column(tmp_path / "out", "reward")
    assert rewards[0] < 0.35 and sum(rewards[-3:]) / 3 > 0.6, rewards
    found = remask.load(folder)
    assert type(found.family) is type(remask.load(model).family) and found.about["step"] == 12
    assert "aa" in remask.sample(found, prompt="Copy: hen\nAnswer:", length=4, temperature=0.0).text
    assert (tmp_path / "out" / "reward.png").stat().st_size > 1000
    last = metrics(tmp_path / "out")[-1]
    assert 0 <= float(last["informative"]) <= 1 and 0 < float(last["text_tokens"]) <= 4 and last["right"] == "0.0"


class Stopping:
    """A reward during which Ctrl-C is pressed, or which raises, in one step."""

    def __init__(self, step: int, error: Exception | None = None) -> None:
        self.calls, self.step, self.error = 0, step, error

    def __call__(self, task: Task, example: Example, text: str) -> float:
        self.calls += 1
        if self.calls == 16 * self.step - 3:
            if self.error is None:
                signal.raise_signal(signal.SIGINT)
            else:
                raise self.error
        return letters(task, example, text)


@pytest.mark.parametrize("more", [{}, {"accumulate": 2, "objective": "WD1:group=4", "ema": 0.9}])
def test_a_stopped_run_resumes_bit_for_bit(masked_run: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(Interrupted):
        reinforce(recipe(masked_run, tmp_path / "parts", **more), Stopping(3))
    assert len(metrics(tmp_path / "parts")) == 3
    for name in ("parts", "whole"):
        reinforce(recipe(masked_run, tmp_path / name, **more), letters)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    for name in ("step", "loss", "reward", "weight", "text_tokens"):
        assert column(tmp_path / "parts", name) == column(tmp_path / "whole", name), name


@pytest.mark.parametrize("more", [{}, {"accumulate": 2}])
def test_a_reward_that_raises_is_named_and_nothing_is_lost(
    masked_run: Path, tmp_path: Path, more: dict[str, Any]
) -> None:
    out, options = tmp_path / "parts", {"save_every": 100, **more}
    with pytest.raises(
        RemaskError, match=r"the reward of '.*' behind the prompt '.*' raised ZeroDivisionError: by nought.*is saved"
    ):
        reinforce(recipe(masked_run, out, **options), Stopping(4, ZeroDivisionError("by nought")))
    assert step_of(list_states(out)[0]) == 3 and remask.load(out).about["step"] == 3
    reinforce(recipe(masked_run, out, **options), letters)
    reinforce(recipe(masked_run, tmp_path / "whole", **options), letters)
    assert_same_run(out, tmp_path / "whole")


def test_a_reward_that_is_no_number(masked_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RemaskError, match="is nan; it must be finite"):
        reinforce(recipe(masked_run, tmp_path / "out"), lambda *_: float("nan"))
    assert not list_states(tmp_path / "out")


def test_a_finished_run_is_given_more_steps(masked_run: Path, tmp_path: Path) -> None:
    """The learning rate stays, so that the run is one that had the larger budget from the start."""
    rate = Optimizer(kind="adamw", lr=1e-3, weight_decay=0.0, floor=1.0, schedule="wsd", decay=0.01, warmup=0)
    for steps in (4, 7):
        reinforce(recipe(masked_run, tmp_path / "longer", budget=Budget(steps=steps), optimizer=rate), letters)
    reinforce(recipe(masked_run, tmp_path / "whole", budget=Budget(steps=7), optimizer=rate), letters)
    assert_same_run(tmp_path / "longer", tmp_path / "whole")
    assert len(column(tmp_path / "longer", "reward")) == 7


def test_adapters_alone_are_trained_and_resume(masked_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    options = {"lora": LowRank(rank=2, targets=("q_proj", "down_proj"))}
    with pytest.raises(RemaskError, match=r"lora.targets has 'query'; this network has .*q_proj"):
        reinforce(recipe(masked_run, tmp_path / "bad", lora=LowRank(rank=1, targets=("query",))), letters)
    assert not (tmp_path / "bad").exists()
    with pytest.raises(Interrupted):
        reinforce(recipe(masked_run, tmp_path / "parts", **options), Stopping(3))
    for name in ("parts", "whole"):
        reinforce(recipe(masked_run, tmp_path / name, **options), letters)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert_adapted(masked_run, tmp_path / "whole", {"q_proj", "down_proj"})


def test_what_conversations_taught_is_kept(masked_run: Path, tmp_path: Path) -> None:
    """The template of a fine-tuned model, by which `remask chat` and others ask it, is that of the reinforced one."""
    m, learnt = remask.load(masked_run), {"conversations": {"templates": {"vicuna": 3}}}
    folder = tmp_path / "tuned"
    save(folder, m.model.state_dict(), m.model.architecture, m.family, m.tokenizer, {**m.about, **learnt}, "# card\n")
    found = remask.load(reinforce(recipe(folder, tmp_path / "out", budget=Budget(steps=1)), letters))
    assert trained_template(found) == "vicuna" and reply_end(found)


def test_the_command(masked_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    options = ["--tasks", "[Copy:items=1,Copy:items=2]", "--out", str(out), "--budget.steps", "2", "--batch", "8"]
    options += ["--objective", "JustGRPO:group=4", "--length", "3", "--precision", "fp32"]
    main(["reinforce", str(masked_run), *options])
    assert len(metrics(out)) == 1 and (out / "reward.png").exists()
    assert "mask rates" not in capsys.readouterr().err
    main(["reinforce", str(masked_run), *options])  # complete: nothing happens
    assert "is complete: 2 steps" in capsys.readouterr().err
    main(["reinforce", str(masked_run), "--config", str(out / "config.yaml"), "--out", str(tmp_path / "again")])
    assert_same_run(out, tmp_path / "again")
    with pytest.raises(SystemExit):
        main(["reinforce", str(masked_run), *options, "--objective", "WD1:group=4"])
    assert "other options: --objective JustGRPO:group=4 there, WD1:group=4 now" in capsys.readouterr().err


def test_word_problems_of_a_file_are_rewarded(masked_run: Path, tmp_path: Path) -> None:
    """What cannot be asked is named before the run begins, and a run goes on with the problems that it had."""
    out, path = tmp_path / "out", tmp_path / "train.jsonl"
    problem = '{"question": "1+1?", "answer": "1+1=<<1+1=2>>2\\n#### 2"}\n'
    path.write_text(2 * problem)
    reinforce(recipe(masked_run, out, tasks=[f"gsm8k:{path}"], budget=Budget(steps=2)))
    assert column(out, "right") == column(out, "reward") and len(metrics(out)) == 2
    path.write_text(3 * problem)
    with pytest.raises(RemaskError, match=r"was trained on another corpus than task:gsm8k:.*train.jsonl holds"):
        reinforce(recipe(masked_run, out, tasks=[f"gsm8k:{path}"], budget=Budget(steps=3)))
    path.write_text(150 * problem + problem.replace("1+1?", 30 * "1+") + problem)
    with pytest.raises(RemaskError, match=r"a prompt of .*train.jsonl, line 151 has \d+ tokens"):
        reinforce(recipe(masked_run, tmp_path / "long", tasks=[f"gsm8k:{path}"]))
    assert not (tmp_path / "long").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [({"budget": Budget(tokens=1e6)}, r"give --budget\.steps"), ({"budget": Budget()}, "give a budget: --budget"),
     ({"tasks": []}, "tasks is empty"), ({"tasks": ["gsm8k:none.jsonl"]}, "no file of GSM8K at 'none.jsonl'"),
     ({"tasks": ["Copi"]}, "unknown task 'Copi'.*Did you mean 'Copy'"),
     ({"batch": 18}, "batch is 18, of which 18 texts .* multiple of the group of 4"),
     ({"accumulate": 8}, "of which 2 texts are written at once"), ({"length": 60}, "context of 64"),
     ({"objective": "PPO"}, "unknown objective 'PPO'")],
)  # fmt: skip
def test_what_is_refused(masked_run: Path, tmp_path: Path, more: dict[str, Any], says: str) -> None:
    with pytest.raises(RemaskError, match=says):
        reinforce(recipe(masked_run, tmp_path / "out", **more))
    assert not (tmp_path / "out").exists()


def test_options_that_mean_nothing_here_are_not_taken(masked_run: Path, tmp_path: Path) -> None:
    """An option that is taken and does nothing would be believed to do something."""
    for option in ("--adversarial.radius", "--sft.pack", "--data"):
        with pytest.raises(SystemExit) as ended:
            main(["reinforce", str(masked_run), "--out", str(tmp_path), "--tasks", "[Copy]", option, "1"])
        assert ended.value.code == 2
