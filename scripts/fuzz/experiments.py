"""Experiment files: shipped ones and the template, with lines and values changed, through the command line.

A command ends with 0, 1 or 2 and without a traceback; what it leaves behind is whole.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

import numpy as np

from ctrnn.cli import main as cli
from ctrnn.cli.new import TEMPLATE
from ctrnn.experiment.examples import example_names, examples_folder

VALUES = [
    "-1", "0", "1", "2.5", "nan", "inf", "-inf", "1e400", "9" * 30, "9" * 5000, '"text"', '""', '"a\\u0000b"', "true",
    "[]", "[[]]", "[1, [2]]", "[nan]", "{}", "{ a = 1 }", "{ seed = -1 }", "{ kind = 3 }", "1979-05-27", "07:32:00",
    "[" * 300 + "]" * 300, "[" * 3000 + "]" * 3000, '"data"', '"../../etc/passwd"', '"__import__(1)"', "1e-300", "'''",
    "1_000", "0x10", "-0.0", '"r0"', '{ file = "nowhere.csv" }', "[1.0, 2.0, 3.0]", '["v"]', '"tsit5"', '"auto"',
]  # fmt: skip
COMMANDS = ("simulate", "gradient", "plan", "equilibrium", "simulate")
#: tables of a file, and the command that reads them; training may be as long as it likes
OF_TABLE = {"fixed_points": "fixed-points", "portrait": "portrait", "continue": "continue", "cycle": "cycle",
            "lyapunov": "lyapunov", "train": "plan", "learn": "plan"}  # fmt: skip


def warm_up() -> None:
    """What the commands compile."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), tempfile.TemporaryDirectory() as folder:
        for name in ("simulate", "gradient", "equilibrium"):
            cli.run([name, "hare-lynx", "--no-figures", "-q", "--out", folder])


def _text(random: Random) -> tuple[bytes, str]:
    """The bytes of a file, and what was done to it."""
    name = random.choice([*example_names(), "template"])
    text = TEMPLATE if name == "template" else (examples_folder() / f"{name}.toml").read_text(encoding="utf-8")
    lines, done = text.splitlines(), [name]
    for _ in range(random.choice((1, 1, 2, 3))):
        k = random.randrange(len(lines))
        kind = random.choice(("value", "value", "value", "value", "drop", "twice", "swap", "cut", "letter"))
        done.append(f"{kind} in line {k + 1}")
        if kind == "value" and (found := re.match(r"(\s*[\w.\"-]+\s*=\s*)", lines[k])):
            value = random.choice(VALUES)
            lines[k], done[-1] = found[1] + value, f"{found[1].strip()} {value[:40]} in line {k + 1}"
        elif kind == "drop":
            del lines[k]
        elif kind == "twice":
            lines.insert(k, lines[k])
        elif kind == "swap":
            other = random.randrange(len(lines))
            lines[k], lines[other] = lines[other], lines[k]
        elif kind == "cut":
            lines[k] = lines[k][: random.randrange(len(lines[k]) + 1)]
        elif kind == "letter":
            lines[k] = lines[k].replace(random.choice('=[]{}",.e0'), random.choice("=[]{}\"'\\,.\x00é"), 1)
        lines = lines or [""]
    data = "\n".join(lines).encode("utf-8")
    if random.random() < 0.1:
        at = random.randrange(len(data) + 1)
        data, done = data[:at] + bytes([random.randrange(256)]) + data[at + 1 :], [*done, f"byte {at}"]
    if random.random() < 0.05:
        data, done = b"\xef\xbb\xbf" + data, [*done, "BOM"]
    return data, "; ".join(done)


def case(random: Random) -> tuple[str, Callable[[], str]]:
    """A file and a command on it."""
    data, done = _text(random)
    own = [command for table, command in OF_TABLE.items() if f"\n[{table}".encode() in data]
    command = random.choice([*COMMANDS, *own, *own])

    def run() -> str:
        with tempfile.TemporaryDirectory() as folder:
            for file in examples_folder().glob("*.csv"):
                shutil.copy(file, folder)
            path, out = Path(folder, "x.toml"), Path(folder, "out")
            path.write_bytes(data)
            arguments = [command, str(path), *([] if command == "plan" else ["--no-figures", "-q", "--out", str(out)])]
            errors = io.StringIO()
            with redirect_stdout(io.StringIO()), redirect_stderr(errors):
                code = cli.run([*arguments, "--set", "solver.max_steps=20000"])
            assert code in (0, 1, 2), f"exit code {code}"
            assert code == 0 or "rror" in errors.getvalue(), errors.getvalue()
            check_whole(out, code)
        return ("done", "failed", "refused")[code]

    return f"{command}: {done}", run


def check_whole(folder: Path, code: int) -> None:
    """Whether each file in the folder is whole, and the folder says of itself what it is."""
    if not folder.is_dir():
        return
    names = os.listdir(folder)  # noqa: PTH208
    for name in names:
        path = folder / name
        assert not name.startswith("."), f"a temporary file stays: {name}"
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".npz":
            with np.load(path) as held:
                _ = [held[key] for key in held]
        elif path.suffix == ".csv":
            rows = path.read_text(encoding="utf-8")
            assert rows.endswith("\n"), f"{name} breaks off"
    if names:
        assert "summary.json" in names or (code and "unfinished.json" in names), names
