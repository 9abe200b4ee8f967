"""The Python calls, each argument of each in turn with what it does not expect.

A call may refuse, by an error of ctrnn.errors, or give numbers, none of them NaN. Anything else is a fault.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
from fuzz.hostile import put

from ctrnn.errors import CtrnnError

#: name -> the call, and what makes arguments with which it is right
Calls = dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]]
Case = tuple[str, Callable[[], str]]


def cases(calls: Calls) -> tuple[Callable[[], None], Callable[[Random], Case]]:
    """``warm_up`` and ``case`` of a part."""

    def warm_up() -> None:
        """Each call as it should be: what it compiles is compiled, and a call that has changed is a fault of ours."""
        for call, make in calls.values():
            call(**make())

    def case(random: Random) -> Case:
        """What one case does, in words, and the case itself; it returns how it went, and raises what is a fault."""
        name = random.choice(list(calls))
        call, make = calls[name]
        try:
            known = inspect.signature(call).parameters.values()
            arguments = {p.name: p.default for p in known if p.default is not p.empty} | make()
        except (TypeError, ValueError):
            arguments = make()
        what = put(random, arguments)

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

    return warm_up, case


def _numbers(found: Any) -> list[Any]:
    """The arrays of a result."""
    names = ("r", "loss", "vector", "p", "exponents", "value")
    parts = [getattr(found, name, None) for name in names] if not isinstance(found, np.ndarray) else [found]
    return [part for part in parts if isinstance(part, float | np.ndarray) and np.asarray(part).dtype.kind == "f"]
