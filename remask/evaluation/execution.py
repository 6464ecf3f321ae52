"""Programs that a model wrote, run with their tests in a sandbox: bubblewrap, with limits on time and memory.

    passes("def f():\\n    return 1\\n\\nassert f() == 1")

A program sees the Python that runs remask, the system's libraries and an empty folder: no file of anybody, no network,
no other process. That holds as far as the kernel's namespaces do, which is not what a virtual machine offers. So
nothing is run unless it is asked for, and without bubblewrap nothing at all.
"""

import os
import secrets
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from remask.errors import RemaskError

SECONDS = 3.0
"""Of a program, as HumanEval-infilling has it; one that takes longer has failed."""
MEMORY = 2**30
"""Bytes of address space of a program."""
FILE = 2**20
"""Bytes of a file that it writes."""
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache")
"""What Python itself reads."""

START = """
import resource, sys
seconds, memory, size = (int(word) for word in sys.argv[1:4])
for what, most in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, memory), (resource.RLIMIT_FSIZE, size)):
    resource.setrlimit(what, (most, most))
program = sys.stdin.read()
sys.argv = ["program"]
exec(compile(program, "program", "exec"), {"__name__": "__main__"})
"""


def check_sandbox() -> None:
    """RemaskError where programs cannot be run here."""
    if shutil.which("bwrap") is None:
        raise RemaskError(
            "programs that a model wrote are run only in a sandbox, and bubblewrap (bwrap) is not installed: "
            "apt install bubblewrap; or write the completions by --out and run them in a container of your own"
        )
    if not passes("assert 1 + 1 == 2") or passes("assert 1 + 1 == 3"):
        raise RemaskError("bubblewrap (bwrap) is installed, but cannot make a sandbox here: run remask outside of one")


def passes(program: str, seconds: float = SECONDS) -> bool:
    """Whether a program runs to its end, without an exception and in time, in a sandbox."""
    # a program that leaves early, by sys.exit(0), does not end with this status
    status = 64 + secrets.randbelow(60)
    text = f"{program}\n\nimport os as _os\n_os._exit({status})\n"
    limits = [str(max(1, int(seconds + 1))), str(MEMORY), str(FILE)]
    try:
        done = subprocess.run(
            [*sandbox(), "-I", "-c", START, *limits],
            input=text.encode("utf-8", "surrogatepass"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:  # --die-with-parent: what runs inside ends with bwrap
        return False
    return done.returncode == status


def sandbox() -> list[str]:
    """The command that runs this Python in a sandbox; its arguments follow."""
    python = Path(os.path.realpath(sys.executable))
    home = Path(sysconfig.get_config_var("installed_base") or sys.base_prefix)
    visible = [*SYSTEM, *(str(path) for path in dict.fromkeys((home, home.resolve(), python.parent)))]
    bound = [word for path in visible if os.path.exists(path) for word in ("--ro-bind", path, path)]
    apart = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    inside = ["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--chdir", "/tmp"]
    return ["bwrap", *bound, *inside, *apart, "--", str(python)]


def pass_all(programs: Sequence[str], tick: Callable[[int], None], seconds: float = SECONDS) -> list[bool]:
    """Whether each of some programs passes; as many run at once as there are cores. `tick` counts them."""

    def one(program: str) -> bool:
        found = passes(program, seconds)
        tick(1)
        return found

    with ThreadPoolExecutor(os.cpu_count() or 1, "remask-programs") as pool:
        return list(pool.map(one, programs))
