"""What befalls a process: killed, interrupted, out of disk, its streams closed or full, its letters few.

What it leaves is whole, it says no traceback, and it ends with a code that tells how.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzz.experiments import check_whole

COMMANDS = (
    ["simulate", "hare-lynx"], ["gradient", "hare-lynx"], ["run", "scalar"], ["simulate", "fitzhugh-nagumo"],
    ["equilibrium", "hare-lynx"], ["fixed-points", "three-bits"], ["portrait", "two-neurons"],
    ["continue", "morris-lecar"], ["cycle", "fitzhugh-nagumo"], ["lyapunov", "random-network"],
    ["learn", "mackey-glass"], ["train", "flip-flop", "--set", "train.epochs=1"], ["simulate", "noisy-decision"],
)  # fmt: skip
KINDS = ("kill", "interrupt", "no disk", "closed", "pipe", "full", "letters", "no home", "few files", "no folder")


def warm_up() -> None:
    """What the commands compile."""
    for command in COMMANDS[:1]:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(_line(command, folder), capture_output=True, check=True)


def _line(command: list[str], folder: str) -> list[str]:
    return [sys.executable, "-m", "ctrnn", *command, "--no-figures", "--out", str(Path(folder, "out"))]


def case(random: Random) -> tuple[str, Callable[[], str]]:
    """A command, and what happens to it."""
    command, kind, delay = random.choice(COMMANDS), random.choice(KINDS), random.uniform(0.1, 4.0)
    size = random.choice((0, 100, 1000, 10_000))

    def run() -> str:
        with tempfile.TemporaryDirectory() as folder:
            environment, options = dict(os.environ) | {"PYTHONDONTWRITEBYTECODE": "1"}, {}
            out: int | None = subprocess.PIPE
            if kind == "no disk":  # no file may be larger
                options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            elif kind == "few files":
                options["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12))
            elif kind == "closed":
                options["preexec_fn"] = lambda: [os.close(number) for number in range(random.choice((1, 2, 3)))]
            elif kind == "letters":
                environment |= {"PYTHONIOENCODING": random.choice(("ascii", "latin-1", "cp1252")), "COLUMNS": "²"}
            elif kind == "no home":
                environment |= {"HOME": "/nowhere"}
            elif kind == "full" and Path("/dev/full").exists():
                out = os.open("/dev/full", os.O_WRONLY)
            elif kind == "no folder":
                Path(folder, "out").write_text("a file in its place")
            process = subprocess.Popen(
                _line(command, folder), stdout=out, stderr=subprocess.PIPE, env=environment, **options
            )
            if kind in ("kill", "interrupt"):
                time.sleep(delay)
                process.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGINT)
            if kind == "pipe" and process.stdout is not None:
                process.stdout.close()
                process.stdout = None
            _, errors = process.communicate(timeout=50)
            if out not in (None, subprocess.PIPE):
                os.close(out)
            code, said = process.returncode, errors.decode(errors="replace")
            early = kind == "interrupt" and "KeyboardInterrupt" in said and "ctrnn" not in said  # while Python starts
            assert "Traceback" not in said or early, said[-2000:]
            expected = {"kill": (-9, 0), "interrupt": (130, 0, -2, 1), "no folder": (2,)}.get(kind, (0, 1, 2))
            assert code in expected, f"exit code {code}\n{said[-2000:]}"
            if kind == "no disk":
                hidden = [f for f in Path(folder).rglob(".*") if f.is_file()]
                assert not hidden, f"temporary files stay: {hidden}"
            if kind != "kill":
                check_whole(Path(folder, "out"), code)
            return "done" if code == 0 else "stopped"

    return f"{' '.join(command)}: {kind} ({delay:.2f} s, {size} bytes)", run
