"""Names of numbers in arrays: "r[0]", "r[1]" are the vector r, "W[0,0]" … "W[1,2]" the matrix W, "v" is a number.

A rate network's units are r0, r1, …: they are the vector r too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np

from ctrnn.errors import UnknownNameError, UsageError, nearest, short
from ctrnn.numbers import is_whole

_ENTRY = re.compile(r"(\w+)\[(\d+(?:,\d+)*)\]|([^\W\d]\w*?)(0|[1-9]\d*)", re.ASCII)


@lru_cache(maxsize=256)
def arrays(names: tuple[str, ...]) -> dict[str, tuple[slice, tuple[int, ...]]]:
    """Array -> where its numbers lie among the names, and its shape.

    >>> arrays(("v", "r[0]", "r[1]", "W[0,0]", "W[0,1]"))
    {'r': (slice(1, 3, None), (2,)), 'W': (slice(3, 5, None), (1, 2))}
    """
    found: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    for i, name in enumerate(names):
        entry = _ENTRY.fullmatch(name)
        if entry is not None:
            found.setdefault(entry[1] or entry[3], []).append((i, tuple(map(int, (entry[2] or entry[4]).split(",")))))
    made = {}
    for array, entries in found.items():
        start, (_, last) = entries[0][0], entries[-1]
        shape = tuple(k + 1 for k in last)
        size = 1
        for k in shape:
            size *= k
        # whole arrays only: a trajectory may hold a choice of their numbers
        whole = len(entries) == size and [i for i, _ in entries] == list(range(start, start + size))
        if whole and array not in names:
            made[array] = (slice(start, start + size), shape)
    return made


def labels(value: Any) -> tuple[str, ...]:
    """The names that a table, of pandas say, gives its columns, or a series its entries; () of anything without."""
    given = getattr(value, "columns", None)
    if given is None and hasattr(value, "to_numpy") and hasattr(value, "keys"):
        given = value.keys()
    try:
        found = tuple(given)  # type: ignore[arg-type]
    except TypeError:  # None, or somebody's own attribute
        return ()
    return found if all(isinstance(name, str) for name in found) else ()


def check_order(argument: str, found: Sequence[str], names: Sequence[str]) -> None:
    """Raise UsageError where labels name what the numbers are of, but stand in another order: it would be lost.

    >>> check_order("target", ["pred", "prey"], ["prey", "pred"])
    Traceback (most recent call last):
    ctrnn.errors.UsageError: target: got 'columns pred, prey'; allowed: prey, pred, in this order
    """
    if list(found) != list(names) and not set(found).isdisjoint(names):
        raise UsageError(
            argument, given=f"columns {', '.join(found[:8])}", allowed=f"{', '.join(names[:8])}, in this order"
        )


def position(argument: str, given: Any, names: Sequence[str]) -> int:
    """The number of a state, an event or an input, from its name or its number; −1 is the last.

    Raises UnknownNameError for any other.

    >>> position("state", "w", ["v", "w"]), position("state", -1, ["v", "w"])
    (1, 1)
    """
    n = len(names)
    if is_whole(given) and -n <= given < n:
        return int(given) % n
    if isinstance(given, str) and given in names:
        return list(names).index(given)
    every = known(names)
    hint = nearest(given, every) if isinstance(given, str) else f"a name, or a number from 0 to {n - 1}"
    raise UnknownNameError(argument, given, few(every), hint)


def few(names: Sequence[str]) -> list[str]:
    """The names, cut where an error message would run over."""
    return list(names) if len(names) <= 12 else [*names[:11], f"... ({len(names)} in all)"]


def known(names: Sequence[str]) -> list[str]:
    """What may be asked for: arrays by their name, then each number."""
    return [*arrays(tuple(names)), *names]


def as_call(made: Any) -> str:
    """What a dataclass was made with, but for what is usual; arrays by their shapes."""
    given = [(f.name, getattr(made, f.name), f.default) for f in fields(made) if f.init and f.repr]
    own = [(name, v) for name, v, usual in given if v is not usual and (np.ndim(v) > 0 or v != usual)]
    return f"{type(made).__name__}({', '.join(f'{name}={short(v)}' for name, v in own)})"
