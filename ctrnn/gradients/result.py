"""What a gradient is: a loss and its derivatives.

    dl/dw, dl/dr0 and, with a trained read-out, dl/dV, dl/dc     of   l = Σ_k a_k ℓ(o(t_k), y_k)  or  ∫ a(t) ℓ(o, y) dt

What computes one is ctrnn.gradients.method; the call for all of them is ctrnn.gradients.api.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ctrnn.errors import one_of
from ctrnn.fields.base import Array
from ctrnn.gradients.finite import check_gradient
from ctrnn.problem import Problem
from ctrnn.trajectory import Stats


class Assessment(Protocol):
    """What stands behind a gradient (ctrnn.gradients.check): its estimated relative error, and what else is known."""

    @property
    def error(self) -> float | None:
        """‖g − g*‖/‖g*‖; None without a second opinion."""

    @property
    def digits(self) -> float | None:
        """Decimal digits, −log10 of the error."""

    @property
    def lost(self) -> bool:
        """Whether chaos has left no digit."""

    @property
    def text(self) -> str:
        """All of it, in lines."""


@dataclass(frozen=True, repr=False, eq=False)
class Gradient:
    """A loss and its derivatives.

    Attributes
    ----------
    loss : float
        l.
    vector : (m,) array
        dl/dw, flat, in the order of ``field.parameter_names``.
    parameters : dict of arrays
        The same by name, each shaped as its parameter.
    r0 : (n,) array
        dl/dr0.
    readout : dict of arrays or None
        "V" (p, n) and "c" (p,) of a trained read-out; None without one.
    stats : Stats
        The cost of both passes.
    method : str
        What computed it.
    labels : callable
        Gives a name for each entry of the vector, made when asked for, as there may be millions.
    certificate : Certificate or TrialsCertificate or None
        What stands behind the number, with ``certify=True``.
    reason : str
        Why ``method="auto"`` took this method; empty for one that was asked for.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 2.0})
    >>> objective = ctrnn.Objective("squared_error", target=[0.0], at=[1.0])
    >>> g = ctrnn.gradient(
    ...     ctrnn.Problem(decay, [1.0], (0.0, 1.0), objective=objective), "adjoint", solver="rk4", dt=0.1
    ... )
    >>> sorted(g.parameters), g.vector.shape, g.r0.shape, g.labels(), g.method
    (['k'], (1,), (1,), ['k'], 'adjoint, discrete')
    >>> bool(g["k"] == g.parameters["k"])
    True
    """

    loss: float
    vector: Array
    parameters: dict[str, Array]
    r0: Array
    readout: dict[str, Array] | None
    stats: Stats
    method: str
    labels: Callable[[], list[str]] = list
    certificate: Assessment | None = None
    reason: str = ""

    def __getitem__(self, name: str) -> Array:
        """dl/dw of one parameter, or of "V" and "c" of the read-out where no parameter has that name.

        Raises UnknownNameError for any other name.
        """
        known = (self.readout or {}) | self.parameters
        one_of("parameter", name, list(known))
        return known[name]

    def __repr__(self) -> str:
        why = f" ({self.reason})" if self.reason else ""
        lines = [f"Gradient by {self.method}{why}: loss = {self.loss:.10g}"]
        if self.vector.size <= 8:
            lines += [f"  dl/d{name:<10} {value: .8e}" for name, value in zip(self.labels(), self.vector, strict=True)]
        else:
            lines += [
                f"  |dl/d{name}| = {np.linalg.norm(value):.6e}, {value.shape}"
                for name, value in self.parameters.items()
            ]
        lines.append(f"  |dl/dr0| = {np.linalg.norm(self.r0):.6e}")
        lines.append(f"  {self.stats}")
        return "\n".join(lines if self.certificate is None else [*lines, self.certificate.text])


def result(
    problem: Problem, method: str, loss: float, vector: Array, r0: Array, readout: Array, stats: Stats
) -> Gradient:
    """Put a gradient together, and refuse one that is not finite."""
    objective = problem.needs_objective(method)
    check_gradient(problem, loss, vector, r0, readout)
    named = objective.unflatten_readout(readout) if objective.readout_size else None
    f = problem.field
    return Gradient(float(loss), vector, f.unflatten(vector), r0, named, stats, method, partial(getattr, f, "labels"))
