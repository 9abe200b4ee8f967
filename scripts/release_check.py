"""A release, checked as its users meet it: a wheel, installed outside the source tree, on each version of Python.

    python scripts/release_check.py                    # every interpreter that is found; the others are skipped
    python scripts/release_check.py --tests            # and a quick part of the tests, against the installed package
    python scripts/release_check.py --warm             # and: after `ctrnn warm` the shipped examples compile nothing
    python scripts/release_check.py --environments /tmp/venvs      # kept there, for the next time

Interpreters are looked for as python3.X on PATH and in pyenv's folder. Exit code 1 if a check fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
#: a part of the tests that touches every layer, in a few minutes
QUICK = ("cache_faults", "memory", "fields", "inputs", "problem", "solvers", "events", "ensemble", "equilibria", "cli")
#: of what is tested, beside the package
TESTED_WITH = ("pytest", "hypothesis", "mpmath", "xarray", "scikit-learn")


def interpreter(version: str) -> Path | None:
    """A Python of this version that starts."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)]
    ask = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in filter(None, found):
        ran = subprocess.run([path, "-c", ask], capture_output=True, text=True)
        if ran.stdout.strip() == version:
            return Path(path)
    return None


def run(command: list[str | Path], folder: Path, cache: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command in a folder that has no sources of ours."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if cache is not None:
        environment["CTRNN_CACHE_DIR"] = str(cache)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def install(python: Path, wheel: Path, environment: Path, tests: bool) -> Path:
    """The Python of an environment with the wheel in it."""
    own = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [own, "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt")]
    steps: list[list[str | Path]] = [] if own.exists() else [[python, "-m", "venv", environment]]
    steps += [[*pip, str(wheel)], [*pip, "--force-reinstall", "--no-deps", str(wheel)]]
    steps += [[*pip, *TESTED_WITH]] if tests else []
    for step in steps:
        ran = run(step, environment.parent)
        if ran.returncode:
            raise SystemExit(f"{' '.join(map(str, step))}\n{ran.stdout}{ran.stderr}")
    return own


def check(python: Path, folder: Path, tests: bool, warm: bool) -> list[str]:
    """What is wrong with the package that this Python has, in an empty folder."""
    wrong, cache = [], folder / "cache"
    where = run([python, "-c", "import ctrnn; print(ctrnn.__file__)"], folder).stdout.strip()
    if not where or ROOT in Path(where).parents:
        wrong.append(f"the package is not the installed one: {where or 'not found'}")
    ran = run([python, "-m", "ctrnn", "run", "hare-lynx"], folder, cache)
    if ran.returncode or not (folder / "results" / "hare-lynx" / "summary.json").exists():
        wrong.append(f"ctrnn run hare-lynx: exit code {ran.returncode}\n{ran.stderr}")
    if warm:
        wrong += check_warm(python, folder)
    if tests:
        shutil.copytree(ROOT / "tests", folder / "tests")
        shutil.copy(ROOT / "pyproject.toml", folder)
        ran = run([python, "-m", "pytest", "-q", *(f"tests/test_{name}.py" for name in QUICK)], folder, cache)
        click.echo(f"    {ran.stdout.strip().splitlines()[-1] if ran.stdout.strip() else ran.stderr}")
        if ran.returncode:
            wrong.append(f"tests: exit code {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return wrong


def check_warm(python: Path, folder: Path) -> list[str]:
    """Whether a cache that `ctrnn warm` has filled is all that the examples need."""
    cache = folder / "warm"
    ran = run([python, "-m", "ctrnn", "warm"], folder, cache)
    click.echo(f"    {ran.stdout.strip()}")
    before, wrong = set(cache.glob("kernel_*")), [] if ran.returncode == 0 else [f"ctrnn warm\n{ran.stderr}"]
    names = run([python, "-c", "from ctrnn.experiment.examples import example_names as e; print(*e())"], folder)
    for name in names.stdout.split():
        run([python, "-m", "ctrnn", "run", name, "--no-figures"], folder, cache)
        new = sorted(file.name for file in set(cache.glob("kernel_*")) - before)
        before |= set(cache.glob("kernel_*"))
        if new:
            wrong.append(f"after `ctrnn warm`, {name} compiled {', '.join(new)}")
    return wrong


@click.command()
@click.option("--tests", is_flag=True, help="Run a quick part of the tests too.")
@click.option("--warm", is_flag=True, help="Check that `ctrnn warm` leaves nothing to compile.")
@click.option("--versions", default=",".join(VERSIONS), show_default=True, help="Versions of Python.")
@click.option("--environments", type=click.Path(path_type=Path), help="Where environments are kept.")
def main(tests: bool, warm: bool, versions: str, environments: Path | None) -> None:
    """Build a wheel and check it on each version of Python."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="release-check-") as name:
        folder = Path(name)
        environments = (environments or folder / "environments").absolute()
        environments.mkdir(parents=True, exist_ok=True)
        made = run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], folder)
        if made.returncode:
            raise SystemExit(made.stderr)
        (wheel,) = folder.glob("*.whl")
        for version in versions.split(","):
            python = interpreter(version)
            if python is None:
                click.echo(f"Python {version}: skipped, there is none here")
                continue
            began, place = time.perf_counter(), folder / version
            place.mkdir()
            wrong = check(install(python, wheel, environments / version, tests), place, tests, warm)
            click.echo(f"Python {version}: {'wrong' if wrong else 'right'} ({time.perf_counter() - began:.0f} s)")
            failed += wrong
    for text in failed:
        click.echo(text, err=True)
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
