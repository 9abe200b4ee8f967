"""Values that no argument expects, and where they are put."""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import numpy as np


class Broken:
    """An object each of whose conversions fails in its own way."""

    def __repr__(self) -> str:
        raise KeyError("repr")

    def __float__(self) -> float:
        raise LookupError("float")

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AttributeError("array")

    def __len__(self) -> int:
        raise OSError("len")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    __hash__ = object.__hash__


class Anything:
    """A class that takes whatever it is called with."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass


def _nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    found: list[Any] = [1.0]
    for _ in range(depth):
        found = [found]
    return found


def _itself() -> list[Any]:
    """A list that holds itself."""
    found: list[Any] = []
    found.append(found)
    return found


def _tensor(needs: bool) -> Any:
    import torch

    return torch.tensor([1.0], dtype=torch.float64, requires_grad=needs)


def _sparse() -> Any:
    from scipy.sparse import csr_array

    return csr_array(np.eye(2))


#: name -> what makes the value
VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "text": lambda: "abc",
    "empty text": lambda: "",
    "number as text": lambda: "0.1",
    "NUL": lambda: "a\x00b",
    "long text": lambda: "a" * 100_000,
    "surrogate": lambda: "\udcff",
    "bytes": lambda: b"x",
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "0": lambda: 0,
    "-1": lambda: -1,
    "1": lambda: 1,
    "0.5": lambda: 0.5,
    "2**63": lambda: 2**63,
    "-2**63": lambda: -(2**63),
    "10**20": lambda: 10**20,
    "10**400": lambda: 10**400,
    "10**5000": lambda: 10**5000,
    "1e308": lambda: 1e308,
    "5e-324": lambda: 5e-324,
    "1e-12": lambda: 1e-12,
    "complex": lambda: 1 + 2j,
    "[]": list,
    "[[]]": lambda: [[]],
    "ragged": lambda: [1.0, [2.0]],
    "[nan]": lambda: [float("nan")],
    "[None]": lambda: [None],
    "[10**400]": lambda: [10**400],
    "[text]": lambda: ["0.1"],
    "{}": dict,
    "{a: 1}": lambda: {"a": 1},
    "{1: 2}": lambda: {1: 2},
    "{k: text}": lambda: {"k": "0.1"},
    "array of text": lambda: np.array(["0.1"]),
    "datetime64": lambda: np.array(["2020-01-01"], dtype="datetime64[D]"),
    "timedelta64": lambda: np.timedelta64(3, "s"),
    "date": lambda: datetime.date(2020, 1, 1),
    "masked": lambda: np.ma.masked_array([1.0, 2.0], [True, False]),
    "[masked]": lambda: [np.ma.masked],
    "structured": lambda: np.zeros(2, dtype=[("a", float)]),
    "matrix": lambda: np.matrix([[1.0, 2.0]]),
    "complex array": lambda: np.array([1.0 + 2.0j]),
    "object array": lambda: np.array([None, "x"], dtype=object),
    "float128": lambda: np.longdouble("1e400"),
    "no numbers": lambda: np.zeros(0),
    "no rows": lambda: np.zeros((0, 2)),
    "(2, 2, 2)": lambda: np.zeros((2, 2, 2)),
    "0-d": lambda: np.array(1.0),
    "float16": lambda: np.float16(1.0),
    "Fraction": lambda: Fraction(1, 3),
    "Decimal": lambda: Decimal("0.1"),
    "sNaN": lambda: Decimal("sNaN"),
    "tensor": lambda: _tensor(False),
    "tensor with grad": lambda: _tensor(True),
    "sparse": lambda: _sparse(),
    "object": lambda: object(),
    "class": lambda: Anything,
    "function": lambda: lambda *a: None,
    "generator": lambda: (k for k in range(3)),
    "range": lambda: range(3),
    "set": lambda: {1.0, 2.0},
    "Path": lambda: Path("/nowhere/x"),
    "slice": lambda: slice(None),
    "Ellipsis": lambda: ...,
    "nested": lambda: _nested(200),
    "itself": _itself,
    "broken": Broken,
}


def put(random: Random, arguments: dict[str, Any]) -> str:
    """Put one of the values in the place of an argument, or of a part of one; says what was done."""
    name = random.choice(list(arguments))
    value = random.choice(list(VALUES))
    hostile, where = VALUES[value](), name
    whole = arguments[name]
    if isinstance(whole, dict | list) and whole and random.random() < 0.4:
        whole = copy.deepcopy(whole)
        key = random.choice(list(whole) if isinstance(whole, dict) else range(len(whole)))
        if isinstance(whole, dict) and random.random() < 0.2:
            try:
                whole[hostile] = whole.pop(key)
                where += ", a key"
            except (TypeError, RuntimeError):
                whole[key] = hostile
        else:
            whole[key] = hostile
        where += f"[{key!r}]"
        arguments[name] = whole
    else:
        arguments[name] = hostile
    return f"{where} = {value}"
