"""The experiments that come with the package."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def examples_folder() -> Path:
    """Where the shipped experiments and their data stand."""
    return Path(str(resources.files("ctrnn") / "examples"))


def example_names() -> list[str]:
    """Names of the shipped experiments.

    >>> "hare-lynx" in example_names()
    True
    """
    return sorted(file.stem for file in examples_folder().glob("*.toml"))
