"""The recorded steps taken again in torch: the same tableau, the same t, h and x, another arithmetic.

An independent route to every gradient: F comes from the same formula, but its derivatives from torch's autograd or from
complex numbers, and not from the compiled pullback.

An implicit stage r_i = y + hγ F(t, r_i, w) is not solved again. It keeps its recorded value, and depends on y and w as
the implicit function theorem says, by one Newton step from that value:

    dr_i = M⁻¹ (dy + hγ F_w dw),   M = I − hγ J(r_i),   k_i = (r_i − y)/(hγ)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.fields.base import Array, Field
from ctrnn.gradients.recording.control import refined_recording
from ctrnn.kernels.stepper import Record
from ctrnn.problem import Problem, Settings
from ctrnn.trajectory import Stats


@dataclass(frozen=True)
class RecordedSteps:
    """A forward run and what its losses ask of the states.

    loss, l_r0 (n,), readout : the loss, its part at t0, the read-out's gradient
    jumps (C, n), sources (C, s, n) : ∂l/∂r⁺ of each step and ∂l/∂r_i of each stage (quadrature weights included), or
        empty
    """

    record: Record
    a: Array
    b: Array
    loss: float
    l_r0: Array
    readout: Array
    jumps: Array
    sources: Array
    stats: Stats


def recorded(problem: Problem, settings: Settings, caller: str) -> RecordedSteps:
    """Run forward with our own solver and keep every step."""
    run = refined_recording(problem, settings, caller)
    n, b = problem.field.n, run.b
    (loss,), (l_r0,), readout = run.start()
    records, jumps, sources = [], [], []
    for record, part in run.blocks():
        loss, readout = float(loss) + part.loss, readout + part.readout
        records.append(record)
        jumps.append(part.jumps if part.jumps.size else np.zeros((record.h.size, n)))
        sources.append(part.sources * (record.h[:, None] * b)[:, :, None] if part.sources.size else part.sources)
    whole = Record(*(np.concatenate(parts) for parts in zip(*records, strict=True)))
    return RecordedSteps(
        whole, run.a, b, loss, l_r0, readout, np.concatenate(jumps), np.concatenate(sources), run.stats
    )


def replay(
    steps: RecordedSteps, function: Any, w: dict[str, Any], r: Any, matrices: Any
) -> tuple[list[Any], list[Any]]:
    """Take the steps again from r with the torch function F(t, r, w, x): states r⁺ of each step, and stages r_i.

    matrices : M of each implicit stage, from ``newton_matrices``
    """
    import torch

    record, s = steps.record, len(steps.b)
    x = torch.from_numpy(record.stage_x).to(r.dtype)
    solved = torch.from_numpy(record.stage_r)
    states, stages = [], []
    for m in range(record.h.size):
        h = float(record.h[m])
        k: list[Any] = []
        for i in range(s):
            t = float(record.stage_t[m, i])
            ri = r
            for j in range(i):
                if steps.a[i, j] != 0.0:
                    ri = ri + (h * float(steps.a[i, j])) * k[j]
            if steps.a[i, i] == 0.0:
                k.append(function(t, ri, w, x[m, i]))
            else:
                y, hg = ri, h * float(steps.a[i, i])
                at = y + hg * function(t, solved[m, i].to(r.dtype), w, x[m, i])
                moved = at - at.detach().real  # zero, but for its derivative
                ri = solved[m, i] + torch.linalg.solve(matrices[m, i].to(r.dtype), moved[:, None])[:, 0]
                k.append((ri - y) / hg)
            stages.append(ri)
        for i in range(s):
            if steps.b[i] != 0.0:
                r = r + (h * float(steps.b[i])) * k[i]
        states.append(r)
    return states, stages


def newton_matrices(steps: RecordedSteps, function: Any, parameters: dict[str, Array]) -> Any:
    """M = I − hγ J of every stage (C, s, n, n), with torch's J; None for an explicit method."""
    import torch

    if not np.diag(steps.a).any():
        return None
    C, s, n = steps.record.stage_r.shape
    w = {k: torch.tensor(v) for k, v in parameters.items()}
    x, r = torch.from_numpy(steps.record.stage_x), torch.from_numpy(steps.record.stage_r)
    M = torch.eye(n, dtype=r.dtype).repeat(C, s, 1, 1)
    for m in range(C):
        for i in range(s):
            if steps.a[i, i] != 0.0:
                t, hg = float(steps.record.stage_t[m, i]), float(steps.record.h[m] * steps.a[i, i])
                M[m, i] -= hg * torch.func.jacrev(lambda q: function(t, q, w, x[m, i]))(r[m, i])  # noqa: B023
    return M


def within_mask(field: Field, vector: Array) -> Array:
    """A gradient (m,) with 0 for the weights outside a mask: they have a place in the vector but are no parameters."""
    held = np.zeros(field.m, dtype=bool)
    held[field._kernel.index[field._kernel.index >= 0]] = True
    return np.where(held, vector, 0.0)


def field_inputs(problem: Problem) -> Any:
    """The field's torch function, reading its own channels of x only."""
    function, nx = problem.field.torch_function(), problem.field.input_size
    return lambda t, r, w, x: function(t, r, w, x[..., :nx])
