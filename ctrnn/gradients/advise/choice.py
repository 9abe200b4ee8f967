"""method="auto": which method, by n, m, T, the memory at hand and the solver.

By counts of flops and bytes (ctrnn.gradients.costs) and by nothing that is measured, so that the same problem gets the
same method, but for memory:

    steps of our own, whose record fits     discrete adjoint: E f + T s (v + a), the least of all that is exact
    ... does not fit                        checkpoints, E (f + CALL) more; or, where that is less, RTRL,
                                            T s (q − 1)(v + a) + (T/K) 2q² entries more
    ... whose number is not known before    the discrete adjoint, which turns to checkpoints should its record
                                            outgrow the memory
    fields that call Python                 torch's own graph, as long as it fits
    another library's steps                 sensitivities forward while n(m + n) ≤ FEW, else the adjoint that does
                                            not run r backwards
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from ctrnn import memory as machine
from ctrnn.errors import UsageError
from ctrnn.gradients.costs import Size, in_bytes
from ctrnn.gradients.method import GradientMethod
from ctrnn.gradients.methods import METHODS, named
from ctrnn.gradients.schedules.adjoint import BoundedAdjoint
from ctrnn.numbers import MOST
from ctrnn.problem import Problem, Settings

#: the part of the memory at hand that a gradient may take by itself
SHARE = 0.5
#: flops that the call of a field is worth, however small it is
CALL = 64.0
#: numbers of sensitivities up to which another library's solver carries them forward
FEW = 200


class Choice(NamedTuple):
    """A method's name, and why; ``room`` bytes that the record of a run of unknown length may take."""

    name: str
    reason: str
    room: int | None = None


def resolve(method: Any, problem: Problem, settings: Settings) -> tuple[GradientMethod, str]:
    """The method object behind a name, a class or an object; of "auto" the one that suits the problem, and why.

    Raises what ctrnn.gradients.methods.named raises.
    """
    if not (isinstance(method, str) and method.lower() == "auto"):
        return named(method), ""
    if problem.events:
        return METHODS["adjoint"], "of the two methods that go through events, the one that costs less"
    choice = choose(problem, settings, machine.available_memory())
    if choice.room is not None:
        return BoundedAdjoint(limit=choice.room), choice.reason
    return METHODS[choice.name], choice.reason


def choose(problem: Problem, settings: Settings, memory: int) -> Choice:
    """The best exact method, by sizes alone and in well under a millisecond.

    memory : bytes at hand, of which a gradient takes at most the part SHARE. Steps of our own: the discrete adjoint,
    the fewest flops of all exact methods; where its record would not fit, the cheaper of the two whose memory does not
    grow with T: checkpoints, that is a second run of E (f + CALL), or RTRL, q − 1 more rows and Φ P. Others' solvers:
    sensitivities forward while they are few, else the adjoint that does not run the state backwards.
    """
    n, m, room = problem.field.n, problem.field.m, int(SHARE * memory)
    if settings.library:
        count = n * (m + n)
        what = f"{settings.solver} shows no steps, and n(m + n) = {count:,} sensitivities are"
        return (
            Choice("rtrl-continuous", f"{what} few") if count <= FEW else Choice("adjoint-interpolate", f"{what} many")
        )
    _calls_python = problem.field._calls_python
    own_graph = Choice("autograd", "a torch field: torch's own graph costs less than a call into it for each stage")
    if settings.dt is None:
        if _calls_python:
            return own_graph
        why = f"fewest flops; T is not known before the run, so checkpoints should the record outgrow {in_bytes(room)}"
        return Choice("adjoint", why, room)
    z = Size.of(problem, settings, fixed_steps(problem, settings.dt))
    adjoint, other = (METHODS[name].cost(z) for name in ("adjoint", "rtrl"))
    plain = METHODS["autograd"].cost(z) if _calls_python else adjoint
    if plain.memory <= room:
        return own_graph if _calls_python else Choice("adjoint", f"fewest flops, and {in_bytes(plain.memory)} fit")
    again = z.calls * (z.f + CALL)
    rows = other.flops - adjoint.flops
    too_much = f"{z.steps:,} steps would take {in_bytes(plain.memory)}, more than {in_bytes(room)}"
    if rows < again and other.memory <= room:
        return Choice("rtrl", f"{too_much}; RTRL's {z.rows} rows cost less than a second run")
    return Choice("adjoint-checkpoint", f"{too_much}; a second run costs less than RTRL's {z.rows} rows")


def fixed_steps(problem: Problem, dt: float) -> int:
    """T of a run with steps of ``dt``: its grid, and the stops beside it (StepperRecording.steps_ahead)."""
    with np.errstate(over="ignore"):
        at = abs(problem.course.stops - problem.course.start) / dt
    if not at[-1] < MOST:
        raise UsageError("dt", given=dt, allowed=f"a step of which fewer than 2**53 fill t_span: {problem.t_span}")
    beside = abs(at - at.round()) > 1e-9
    return max(1, math.ceil(at[-1] - 1e-9) + int(beside[:-1].sum()))
