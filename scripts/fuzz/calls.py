"""The Python calls, each argument of each with what it does not expect: drawn, or each with everything in turn.

A call may refuse, by an error of ctrnn.errors, or give numbers, none of them NaN. Anything else is a fault.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import numpy as np
from fuzz.hostile import VALUES, put

from ctrnn.errors import CtrnnError

#: name -> the call, and what makes arguments with which it is right
Calls = dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]]
Case = tuple[str, Callable[[], str]]


#: a prime that is larger than the number of arguments and values: its multiples come to each place once
STRIDE = 999_983


def cases(
    calls: Calls,
) -> tuple[Callable[[], None], Callable[[Random], Case], Callable[[int, int], Case | None]]:
    """``warm_up``, ``case`` and ``walk`` of a part."""

    def warm_up() -> None:
        """Each call as it should be: what it compiles is compiled, and a call that has changed is a fault of ours."""
        for call, make in calls.values():
            call(**make())

    def case(random: Random) -> Case:
        """What one case does, in words, and the case itself; it returns how it went, and raises what is a fault."""
        name = random.choice(list(calls))
        arguments = _arguments(*calls[name])
        return _case(name, calls[name][0], arguments, put(random, arguments))

    @cache
    def places() -> list[tuple[str, str, str]]:
        return [(n, key, value) for n, its in calls.items() for key in _arguments(*its) for value in VALUES]

    def walk(seed: int, number: int) -> Case | None:
        """The next of all arguments with all values, in an order of the seed's; None when all have been."""
        if number >= len(places()):
            return None
        name, key, value = places()[(seed + number) * STRIDE % len(places())]
        arguments = _arguments(*calls[name]) | {key: VALUES[value]()}
        return _case(name, calls[name][0], arguments, f"{key} = {value}")

    return warm_up, case, walk


def _arguments(call: Callable[..., Any], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """All that the call takes: its own defaults, and what makes it right."""
    try:
        known = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return make()
    return {p.name: p.default for p in known if p.default is not p.empty} | make()


def _case(name: str, call: Callable[..., Any], arguments: dict[str, Any], what: str) -> Case:
    def run() -> str:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = call(**arguments)
        except CtrnnError as error:
            str(error)
            return "refused"
        for number in _numbers(found):
            if np.isnan(number).any():
                raise AssertionError("NaN, and no word about it")
        return "taken"

    return f"{name}({what})", run


def _numbers(found: Any) -> list[Any]:
    """The arrays of a result."""
    names = ("r", "loss", "vector", "p", "exponents", "value")
    parts = [getattr(found, name, None) for name in names] if not isinstance(found, np.ndarray) else [found]
    return [part for part in parts if isinstance(part, float | np.ndarray) and np.asarray(part).dtype.kind == "f"]
