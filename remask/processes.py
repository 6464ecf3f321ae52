"""Work divided among processes of this machine, whose results come back as they are found.

for result in in_processes(work, 4, questions): ...   # work(0, 4, questions) in one process, work(1, 4, ...) ...
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from remask.errors import RemaskError
from remask.signals import ignored

T = TypeVar("T")

START = "forkserver" if sys.platform == "linux" else "spawn"
"""How a process begins: on Linux as a copy of one that has imported torch and done nothing, so that torch is imported
once and its memory shared, however many there are. Elsewhere each imports for itself."""


def in_processes(work: Callable[..., Iterator[T]], number: int, *arguments: Any) -> Generator[T]:
    """The results of `work(i, number, *arguments)` for each i below `number`, in the order in which they are found.

    Each is a process that has its share of the threads of this one. `work` is a function of a module, and arguments and
    results can be pickled. The processes end with this one, whatever ends it, and when the iterator is closed; a Ctrl-C
    reaches this process only.

    RemaskError where one of them raises it, or is killed.
    """
    import torch

    context, threads = get_context(START), max(1, torch.get_num_threads() // number)
    context.set_forkserver_preload(["torch", __name__, work.__module__])
    processes: list[Any] = []
    pipes: dict[Connection, Any] = {}
    try:
        with ignored(signal.SIGINT):  # which is inherited
            for i in range(number):
                here, there = context.Pipe(duplex=False)
                told = (there, dict(os.environ), threads, work, i, number, *arguments)
                process: Any = context.Process(target=send, args=told, daemon=True)  # type: ignore[attr-defined]
                process.start()
                there.close()  # so that the end of the process is the end of the pipe
                processes.append(process)
                pipes[here] = process
        while pipes:
            for pipe in wait(list(pipes)):
                assert isinstance(pipe, Connection)
                try:
                    found, error = pipe.recv()
                except (EOFError, OSError):
                    process = pipes.pop(pipe)
                    process.join()
                    if process.exitcode:
                        raise RemaskError(f"{ended(process.exitcode)}; take fewer workers") from None
                    continue
                if error is not None:
                    raise error
                yield found
    finally:
        for process in processes:
            process.terminate()
            process.join()


def ended(status: int, what: str = "a worker process") -> str:
    """What is said of a process that did not end by itself."""
    how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"failed with status {status}"
    memory = ", as the system does where memory is short" if status == -signal.SIGKILL else ""
    return f"{what} {how}{memory}"


def send(
    pipe: Connection,
    environment: dict[str, str],
    threads: int,
    work: Callable[..., Iterator[Any]],
    place: int,
    number: int,
    *arguments: Any,
) -> None:
    """What a worker process does."""
    import torch

    threading.Thread(target=end_with_parent, daemon=True).start()
    os.environ.update(environment)  # as it is now, not when the process that this one is a copy of began
    torch.set_num_threads(threads)
    with suppress(BrokenPipeError):  # nobody reads any more
        try:
            for found in work(place, number, *arguments):
                pipe.send((found, None))
        except RemaskError as error:
            pipe.send((None, RemaskError(str(error))))


def end_with_parent() -> None:
    """Ends this process when the one that started it ends, even of kill -9."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
