"""Kills a training run with SIGKILL at random instants, and resumes it until it is done.

    python tests/training/killing.py 10

Each try starts `remask train`, kills it without warning at an instant drawn uniformly from the time
an unbroken run takes, and gives the same command again. The published weights must be those of the
unbroken run, bit for bit. Prints one line per try; exits with 1 if any differed.
"""

import argparse
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["REMASK_ALLOCATOR"] = "set"

STEPS = 60
OPTIONS = (
    "--model tiny --architecture.layers 2 --architecture.width 32 --architecture.heads 2 --architecture.ffn 64 "
    f"--length 64 --batch 8 --precision fp32 --compile off --accelerator cpu --budget.steps {STEPS} "
    "--validation_rows 4 --validate_every 7 --save_every 5 --ema 0.9"
).split()

# forkserver: a command starts at once, from a process that has imported everything and run nothing
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.training.imported"])


def start(
    arguments: list[str], log: Path, file_size: int | None = None, environment: dict[str, str] | None = None
) -> Any:
    """`remask ARGUMENTS` as a process of its own, its output in `log`; files beyond `file_size` bytes fail."""
    process = _context.Process(target=_command, args=(arguments, str(log), file_size, environment or {}))
    process.start()
    return process


def begin(code: str, log: Path, *arguments: object) -> Any:
    """`python -c CODE ARGUMENTS` as a process of its own, where remask and torch have been imported already."""
    process = _context.Process(target=_program, args=(code, [str(one) for one in arguments], str(log)))
    process.start()
    return process


def output_of(code: str, log: Path, *arguments: object) -> str:
    """What `begin(...)` prints on both streams."""
    status = finish(begin(code, log, *arguments), 250)
    assert status == 0, f"status {status}: {log.read_text()}"
    return log.read_text()


def _program(code: str, arguments: list[str], log: str) -> None:
    _write_to(log)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "-c", "exec"), {"__name__": "__main__"})


def _write_to(log: str) -> None:
    """Both streams of this process go to a file."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _command(arguments: list[str], log: str, file_size: int | None, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    _write_to(log)
    import torch

    from remask.cli import main

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if file_size is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    main(arguments)


def finish(process: Any, seconds: float = 300) -> int:
    """Waits for a process; its exit status, minus the signal that ended it."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"still running after {seconds} s")
    return process.exitcode


def weights(out: Path) -> dict[str, Any]:
    """The published weights of a run."""
    from safetensors.torch import load_file

    return load_file(out / "latest" / "model.safetensors")


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    """Whether two sets of weights are equal bit for bit."""
    import torch

    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one)


@dataclass(frozen=True)
class Try:
    """One killed and resumed run."""

    seconds: float
    """After which it was killed."""
    kept: str
    """The newest training state then; empty where there was none."""
    done: bool
    """Whether the kill came too late."""
    identical: bool
    left: tuple[str, ...]
    """Half-written files that the finished run still has."""


def attempt(arguments: list[str], out: Path, seconds: float, wanted: dict[str, Any]) -> Try:
    """Runs `remask ARGUMENTS --out OUT`, kills it after `seconds`, runs it again to its end."""
    command, log = [*arguments, "--out", str(out)], out.with_suffix(".log")
    process = start(command, log)
    process.join(seconds)
    done = process.exitcode is not None
    if not done:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    kept = max((p.name for p in (out / "checkpoints").glob("step-*.ckpt")), default="")
    status = finish(start(command, log))
    if status:
        raise RuntimeError(f"the resumed run ended with {status}:\n{log.read_text()}")
    left = [str(p.relative_to(out)) for p in sorted(out.rglob("*")) if p.name.endswith((".tmp", ".old"))]
    return Try(seconds, kept, done, same(weights(out), wanted), tuple(left))


def unbroken(arguments: list[str], out: Path) -> tuple[dict[str, Any], float]:
    """Weights of an unbroken run, and the seconds it took."""
    begin = time.monotonic()
    log = out.with_suffix(".log")
    if finish(start([*arguments, "--out", str(out)], log)):
        raise RuntimeError(log.read_text())
    return weights(out), time.monotonic() - begin


def main() -> None:
    """The measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tries", type=int, nargs="?", default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="remask-killing-"))
    from remask.data.tokens import prepare

    source = "synthetic:symbols=8,states=4,length=64,documents=400,seed=0"
    prepare(source, folder / "data", tokenizer="bytes")
    arguments = ["train", "--data", str(folder / "data"), *OPTIONS]
    unbroken(arguments, folder / "warm")  # the first one also starts the fork server
    wanted, whole = unbroken(arguments, folder / "unbroken")
    print(f"unbroken: {STEPS} steps in {whole:.2f} s")
    rng, failed = random.Random(options.seed), 0
    for number in range(options.tries):
        found = attempt(arguments, folder / f"try{number}", rng.uniform(0, whole), wanted)
        failed += not found.identical
        print(
            f"try {number + 1}: killed after {found.seconds:.3f} s, "
            f"{'too late' if found.done else found.kept or 'before the first checkpoint'}: "
            f"{'identical' if found.identical else 'DIFFERENT'}"
            + (f", left behind: {', '.join(found.left)}" if found.left else ""),
            flush=True,
        )
    print(f"{options.tries - failed} of {options.tries} identical")
    shutil.rmtree(folder)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
