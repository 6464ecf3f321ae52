"""Two processes that share a run: each with the whole network, or with a part of every layer."""

import json
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import pytest
import torch
from runs import column
from torch import nn

from remask.training.fine_tuning import FineTuning
from remask.training.optim import Optimizer
from remask.training.sharding import gather, gather_weights, local, spread_like

Fit = Callable[..., Path]
ROOT = Path(__file__).parents[2]
OPTIONS = shlex.split(
    "--model tiny --architecture.layers 2 --architecture.width 32 --architecture.heads 2 --architecture.ffn 64 "
    "--length 64 --batch 8 --precision fp32 --compile off --accelerator cpu --budget.steps 6 --log_every 1 "
    "--validation_rows 4 --validate_every 3 --save_every 3 --ema 0.9 --left_to_right_rows 0 --devices 2 --strategy"
)


def train_with_two_processes(data: Path, out: Path, strategy: str, *more: str) -> None:
    """Started by a launcher, such as torchrun, which tells each process its number."""
    arguments = ["train", "--data", str(data), "--out", str(out), *OPTIONS, strategy, *more]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "WORLD_SIZE": "2"}
    logs = [out.with_suffix(f".{rank}.log") for rank in range(2)]
    both = [
        killing.start(arguments, log, environment={**told, "LOCAL_RANK": str(rank), "RANK": str(rank)})
        for rank, log in enumerate(logs)
    ]
    assert [killing.finish(process, 200) for process in both] == [0, 0], [log.read_text() for log in logs]
    other = [line for line in logs[1].read_text().splitlines() if not line.startswith("fine-tuned on")]
    assert "6 steps of" in logs[0].read_text() and not other, "only the first process reports on the training"


def train_by_one_command(corpus: Path, out: Path, strategy: str) -> None:
    """The command starts the second process itself."""
    command = [sys.executable, "-m", "remask", "train", "--data", str(corpus), "--out", str(out), *OPTIONS, strategy]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("steps of 512 tokens") == 1, "only the first process reports"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_make_the_steps_of_one(fit: Fit, corpus: Path, tmp_path: Path, strategy: str) -> None:
    """To rounding, which Muon enlarges where singular values are small.

    And the state of step 3 leads to the same end: to the bit with two processes, also with one.
    """
    options: dict[str, Any] = {"steps": 6, "log_every": 1, "validation_rows": 4, "validate_every": 3, "save_every": 3}
    options |= {"ema": 0.9}
    fit(tmp_path / "one", **options)
    (train_by_one_command if strategy == "ddp" else train_with_two_processes)(corpus, tmp_path / "two", strategy)
    for name in ("step", "tokens", "loss", "gradient_norm", "lr", "valid_bits_per_byte"):
        found = column(tmp_path / "two", name)
        assert found == pytest.approx(column(tmp_path / "one", name), rel=5e-3) and found, name
    one, two = killing.weights(tmp_path / "one"), killing.weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-2, atol=3e-3)
    for goes_on in ("again", "alone"):
        shutil.copytree(tmp_path / "two", tmp_path / goes_on)
        (tmp_path / goes_on / "checkpoints" / "step-00000006.ckpt").unlink()
    fit(tmp_path / "alone", **options)
    for name, weight in killing.weights(tmp_path / "alone").items():
        torch.testing.assert_close(two[name], weight, rtol=1e-2, atol=3e-3)
    train_with_two_processes(corpus, tmp_path / "again", strategy)
    assert killing.same(killing.weights(tmp_path / "again"), two)


@pytest.mark.slow
def test_two_processes_make_the_steps_of_one_from_conversations(fit: Fit, tmp_path: Path) -> None:
    """Replies of many lengths, so that the processes have unequal shares of a step's scored tokens."""
    chats = tmp_path / "chats.jsonl"
    lines = ({"prompt": f"{i}?", "completion": "yes " * (1 + i % 9)} for i in range(64))
    chats.write_text("".join(json.dumps(line) + "\n" for line in lines))
    sft = FineTuning(tokenizer="bytes", validation_share=0.0)
    fit(tmp_path / "one", steps=6, log_every=1, data=chats, sft=sft, ema=0.9, optimizer=Optimizer(kind="adamw"))
    chosen = "--sft.tokenizer bytes --sft.validation_share 0 --validation_rows 0 --optimizer.kind adamw"
    train_with_two_processes(chats, tmp_path / "two", "ddp", *chosen.split())
    for name in ("step", "tokens", "loss", "gradient_norm"):
        assert column(tmp_path / "two", name) == pytest.approx(column(tmp_path / "one", name), rel=1e-3), name
    one, two = killing.weights(tmp_path / "one"), killing.weights(tmp_path / "two")
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, rtol=1e-3, atol=1e-4)


def test_what_is_not_sharded_is_left_as_it_is() -> None:
    network = nn.Linear(3, 2)
    assert gather(network.weight) is network.weight and local(network.weight) is network.weight
    assert torch.equal(spread_like(network.weight, torch.zeros(2, 3)), network.weight)
    whole = gather_weights(network)
    assert list(whole) == ["weight", "bias"] and torch.equal(whole["weight"], network.weight)
