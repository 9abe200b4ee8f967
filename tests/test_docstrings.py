"""Docstrings of everything public: numpydoc's sections, in its order, with every parameter, and an example that runs.

The examples run with the doctests. What a call may raise is named where it checks its arguments.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from importlib import import_module
from typing import Any

import pytest

ROOMS = (
    "ctrnn",
    "ctrnn.analysis",
    "ctrnn.inputs",
    "ctrnn.inverse",
    "ctrnn.learning",
    "ctrnn.learning.tasks",
    "ctrnn.nn",
    "ctrnn.plotting",
)
ORDER = (
    "Parameters",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "See Also",
    "Notes",
    "References",
    "Examples",
)


def public() -> dict[str, Any]:
    """Every class and function, by the name that a user writes; each once."""
    found: dict[int, tuple[str, Any]] = {}
    for room in ROOMS:
        module = import_module(room)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found.setdefault(id(value), (f"{room}.{name}", value))
    return dict(found.values())


PUBLIC = public()


def sections(doc: str) -> dict[str, str]:
    """Title -> text of the underlined sections."""
    parts = re.split(r"^([A-Z][A-Za-z ]+)\n-{3,}\n", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def listed(text: str) -> list[str]:
    """The names that a section defines: those at the margin before a colon, "a, b : float" being two."""
    heads = re.findall(r"^(\S.*?)(?: : .*)?$", text, flags=re.MULTILINE)
    return [name.strip().lstrip("*") for head in heads for name in head.split(",")]


def arguments(value: Any) -> list[str]:
    try:
        names = list(inspect.signature(value).parameters)
    except ValueError:
        return []
    return [name for name in names if name not in ("self", "cls")]


def faults(value: Any) -> list[str]:
    """What the docstring of a class or a function lacks."""
    doc, found = inspect.cleandoc(value.__doc__ or ""), []
    parts = sections(doc)
    titles = list(parts)
    if not re.match(r".+\.(\n\n|$)", doc):
        found.append("a summary of one line, which ends in a full stop")
    found += [f"a section of numpydoc's in the place of {title!r}" for title in titles if title not in ORDER]
    if titles != sorted(titles, key=lambda title: ORDER.index(title) if title in ORDER else 99):
        found.append(f"numpydoc's order of sections, {titles}")
    if ">>> " not in parts.get("Examples", ""):
        found.append("Examples")
    result = inspect.isclass(value) and dataclasses.is_dataclass(value)
    given, named = arguments(value), listed(parts.get("Parameters", ""))
    if result:  # what we give back: its fields, and what else its author lists
        fields = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        named += listed(parts.get("Attributes", ""))
        found += [f"attribute {name}" for name in fields if name not in named]
        found += [
            f"no {name}, which it does not have" for name in named if not hasattr(value, name) and name not in fields
        ]
    elif given and not inspect.isabstract(value):
        found += [f"parameter {name}" for name in given if name not in named]
        found += [f"no {name}, which it does not take" for name in named if name not in given]
    if inspect.isfunction(value):
        if inspect.signature(value).return_annotation not in (None, "None") and not {"Returns", "Yields"} & set(parts):
            found.append("Returns")
        if given and "Raises" not in parts:
            found.append("Raises")
    elif hasattr(value, "__post_init__") and "Raises" not in parts:
        found.append("Raises")
    return found


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_docstring_has_its_sections(name: str) -> None:
    found = faults(PUBLIC[name])
    assert not found, f"{name} lacks {', '.join(found)}"


def test_the_check_finds_what_lacks() -> None:
    def good(a: int, b: int) -> int:
        """Add.

        Parameters
        ----------
        a, b : int

        Returns
        -------
        int

        Raises
        ------
        UsageError

        Examples
        --------
        >>> 1 + 1
        2
        """
        return a + b

    assert faults(good) == []
    for part in ("a, b : int", "Returns\n", "Raises\n", ">>> ", "Add."):
        bad = type(good)(good.__code__, {})
        bad.__doc__, bad.__annotations__ = (good.__doc__ or "").replace(part, "x\n", 1), good.__annotations__
        assert faults(bad), part


if __name__ == "__main__":
    for name, value in sorted(PUBLIC.items()):
        print(name, "|", ", ".join(faults(value)))
