"""All gradient methods, one line each: whoever lists, chooses, prints or documents methods reads this list.

A new method is one file with a ``GradientMethod`` (ctrnn.gradients.method) and one line here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.gradients.costs import Cost, Size
from ctrnn.gradients.independent.autograd import Autograd
from ctrnn.gradients.independent.differences import CentralDifference, ComplexStep
from ctrnn.gradients.method import Exact, Facts, GradientMethod, Passes
from ctrnn.gradients.online.eprop import EProp
from ctrnn.gradients.online.kronecker import KFRTRL
from ctrnn.gradients.online.rflo import RFLO
from ctrnn.gradients.online.sketch import Sketch
from ctrnn.gradients.online.snap import SnAp
from ctrnn.gradients.online.uoro import UORO
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.schedules.adjoint import Adjoint
from ctrnn.gradients.schedules.rtrl import RTRL
from ctrnn.gradients.schedules.truncated import TruncatedBPTT
from ctrnn.problem import Problem, Settings

_ALL: tuple[GradientMethod, ...] = (
    RTRL(),
    RTRL(mode="continuous"),
    Adjoint(),
    Adjoint("checkpoint"),
    Adjoint("backsolve"),
    Adjoint("interpolate"),
    TruncatedBPTT(),
    RFLO(),
    SnAp(1),
    SnAp(2),
    EProp(),
    UORO(),
    KFRTRL(),
    Sketch(),
    Autograd(),
    ComplexStep(),
    CentralDifference(),
)

#: name -> method with its default options
METHODS: dict[str, GradientMethod] = {method.facts.name: method for method in _ALL}
_ALIASES = {alias: method for method in _ALL for alias in method.facts.aliases}


@dataclass(frozen=True)
class Foreign(GradientMethod):
    """A method object with a name and ``compute`` but no facts: taken to be exact for the steps, which checks see."""

    method: Any
    facts = Facts(
        name="",
        summary="a method object without facts",
        exact_for=Exact.STEPS,
        passes=Passes.BACKWARD,
        cost="not known",
        memory="not known",
        own_steps=False,
    )

    @property
    def name(self) -> str:
        """What a result says that it was computed by."""
        return str(self.method.name)

    def cost(self, size: Size) -> Cost:
        """Flops and bytes on a problem of that size, counted."""
        return Cost(math.nan, math.nan, "not known")

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The loss and its gradient."""
        found: Gradient = self.method.compute(problem, settings)
        return found


def named(method: Any) -> GradientMethod:
    """The method object behind a name, a class or an object with ``name`` and ``compute``.

    Raises UnknownNameError for another name, UsageError for what is no method.

    >>> named("BPTT").name, named("rtrl").facts.exact_for.value
    ('adjoint, discrete', 'the steps taken')
    """
    if isinstance(method, str):
        found = METHODS.get(method.lower()) or _ALIASES.get(method.lower())
        if found is None:
            raise UnknownNameError("method", method, [*METHODS, "auto"])
        return found
    if isinstance(method, type) and hasattr(method, "compute"):
        method = method()
    if isinstance(method, GradientMethod):
        return method
    if hasattr(method, "compute"):
        return Foreign(method)
    raise UsageError("method", given=method, allowed=f"a name ({', '.join(METHODS)}, auto) or a method object")


def described(method: Any) -> dict[str, Any] | None:
    """A method by its name and options, as JSON has them; None for an object that is not in the list.

    >>> described(SnAp(3)), described("rtrl")
    ({'name': 'snap-1', 'options': {'k': 3}}, {'name': 'rtrl', 'options': {}})
    """
    if isinstance(method, str):
        return {"name": method, "options": {}}
    known: Any
    for name, known in METHODS.items():
        if type(known) is type(method):
            options = {f.name: getattr(method, f.name) for f in fields(known)}
            return {"name": name, "options": options}
    return None


def method_described(text: dict[str, Any]) -> Any:
    """What ``described`` described; raises UnknownNameError.

    >>> method_described(described(SnAp(3)))
    SnAp(k=3)
    """
    method: Any = named(text["name"])
    return replace(method, **text["options"]) if text["options"] else text["name"]


def of_table(given: Mapping[str, Any]) -> Any:
    """The method of a table of a name and options; raises UnknownNameError for what is not known.

    >>> of_table({"name": "tbptt", "window": 25})
    TruncatedBPTT(window=25)
    """
    options = dict(given)
    name = options.pop("name", None)
    known: Any = named(name)
    names = [f.name for f in fields(known)]
    for key in options:
        if key not in names:
            raise UnknownNameError(f"option of the method {name}", key, names)
    return method_described({"name": name, "options": options})


def table() -> str:
    """What README says of the methods, as a table in Markdown."""
    lines = ["| method | what it is, and when | exact for | cost | memory |", "|---|---|---|---|---|"]
    for name, method in METHODS.items():
        f = method.facts
        lines.append(f'| `"{name}"` | {f.summary} | {f.exactness} | {f.cost} | {f.memory} |')
    return "\n".join(lines)


def names_where(fact: str, *values: Any) -> tuple[str, ...]:
    """The names of the methods whose fact has one of these values.

    >>> names_where("approximates", True)
    ('tbptt', 'rflo', 'snap-1', 'snap-2', 'e-prop', 'uoro', 'kf-rtrl', 'sketch')
    """
    return tuple(name for name, method in METHODS.items() if getattr(method.facts, fact) in values)
