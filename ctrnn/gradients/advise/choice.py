"""method="auto": which method, by n, m, T, the memory at hand and the solver.

By counts of flops and bytes (ctrnn.gradients.advise.cost) and by nothing that is measured, so that the same problem gets the same method, but for memory:

    steps of our own, whose record fits           discrete adjoint: E f + T s (v + a), the least of all that is exact
    ... does not fit                              checkpoints, E (f + CALL) more; or RTRL, T s (q − 1)(v + a) + (T/K) 2q² entries more, where that is less
    ... whose number is not known before          the discrete adjoint, which turns to checkpoints should its record outgrow the room
    torch fields                                  torch's own graph, as long as it fits
    another library's steps                       sensitivities forward while n(m + n) ≤ FEW, else the adjoint that does not run r backwards
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ctrnn.fields.torch_field import TorchField
from ctrnn.gradients.advise.cost import Size, discrete, forward, graph, in_bytes
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


def choose(problem: Problem, settings: Settings, memory: int) -> Choice:
    """The best exact method, by sizes alone and in well under a millisecond.

    memory : bytes at hand, of which a gradient takes at most the part SHARE. Steps of our own: the discrete adjoint, the fewest flops of all exact
    methods; where its record would not fit, the cheaper of the two whose memory does not grow with T: checkpoints, that is a second run of
    E (f + CALL), or RTRL, q − 1 more rows and Φ P.
    Others' solvers: sensitivities forward while they are few, else the adjoint that does not run the state backwards.
    """
    n, m, room = problem.field.n, problem.field.m, int(SHARE * memory)
    if settings.library:
        count = n * (m + n)
        what = f"{settings.solver} shows no steps, and n(m + n) = {count:,} sensitivities are"
        return (
            Choice("rtrl-continuous", f"{what} few") if count <= FEW else Choice("adjoint-interpolate", f"{what} many")
        )
    is_torch = isinstance(problem.field, TorchField)
    own_graph = Choice("autograd", "a torch field: torch's own graph costs less than a call into it for each stage")
    if settings.dt is None:
        if is_torch:
            return own_graph
        why = f"fewest flops; T is not known before the run, so checkpoints should the record outgrow {in_bytes(room)}"
        return Choice("adjoint", why, room)
    z = Size.of(problem, settings, fixed_steps(problem, settings.dt))
    plain = graph(z) if is_torch else discrete(z)
    if plain.memory <= room:
        return own_graph if is_torch else Choice("adjoint", f"fewest flops, and {in_bytes(plain.memory)} fit")
    again, other = z.calls * (z.f + CALL), forward(z)
    rows = other.flops - discrete(z).flops
    too_much = f"{z.steps:,} steps would take {in_bytes(plain.memory)}, more than {in_bytes(room)}"
    if rows < again and other.memory <= room:
        return Choice("rtrl", f"{too_much}; RTRL's {z.rows} rows cost less than a second run")
    return Choice("adjoint-checkpoint", f"{too_much}; a second run costs less than RTRL's {z.rows} rows")


def fixed_steps(problem: Problem, dt: float) -> int:
    """T of a run with steps of ``dt``: its grid, and the stops beside it (ctrnn.gradients.schedules.checkpoint.steps_ahead)."""
    at = abs(problem.course.stops - problem.course.start) / dt
    beside = abs(at - at.round()) > 1e-9
    return max(1, math.ceil(at[-1] - 1e-9) + int(beside[:-1].sum()))
