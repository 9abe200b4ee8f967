"""A loss and its gradient as a function of numbers, made ready once and called many times.

    f = value_and_gradient(problem, …)        loss, g = f(w)

What does not depend on numbers (checks, course, tableau, compiled addresses, memory) is done when f is made
(ctrnn.gradients.recording.select.Prepared); a call checks what can have changed: w, r0 and x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ctrnn.errors import one_of
from ctrnn.gradients.check.alive import warn_if_zero_gradient
from ctrnn.gradients.dispatch import check_memory, compute
from ctrnn.gradients.method import GradientMethod
from ctrnn.gradients.result import Gradient, result
from ctrnn.gradients.trials import trials_gradient
from ctrnn.names import check_order, labels
from ctrnn.numbers import checked_array
from ctrnn.problem import Problem, Settings, Trials
from ctrnn.solvers.noise import with_noise


class ValueAndGradient:
    """The loss of a problem and its gradient, as a function of the parameters; `ctrnn.value_and_gradient` makes it.

    Attributes
    ----------
    problem : Problem or Trials
        What it was made from; its numbers are the defaults of a call.
    """

    def __init__(
        self, problem: Problem | Trials, method: Any, settings: Settings, resolved: GradientMethod | None
    ) -> None:
        self.problem, self._method, self._settings = problem, method, settings
        self._resolved = resolved
        self._prepared: Any = None
        if resolved is not None and resolved.needs is not None and isinstance(problem, Problem) and not problem.events:
            schedule: Any = resolved  # a method with needs is a schedule over recordings
            self._driven = with_noise(problem, settings)
            check_memory(resolved, self._driven, settings)
            self._prepared = schedule.prepare([self._driven], settings)

    def __repr__(self) -> str:
        return f"value_and_gradient of {self.problem!r}"

    def __call__(self, w: Any = None, r0: Any = None, x: Any = None) -> tuple[float, Any]:
        """The loss, and the gradient by w: by name, or flat (m,) where w is flat."""
        g = self.gradient(w, r0, x)
        is_flat = w is not None and not isinstance(w, Mapping)
        return g.loss, g.vector if is_flat else g.parameters

    def gradient(self, w: Any = None, r0: Any = None, x: Any = None) -> Gradient:
        """The whole Gradient, with dl/dr0 and dl/d(V, c) too.

        Parameters
        ----------
        w : array_like (m,) or dict, optional
            Parameters, flat or by name (those that change); by default the field's own.
        r0 : array_like, optional
            Initial state, as in `ctrnn.Problem`.
        x : Input, optional
            Input, as in `ctrnn.Problem`.

        Returns
        -------
        Gradient
            As of `ctrnn.gradient`.
        """
        return self.at(self._changed(w, r0, x))

    def at(self, problem: Problem | Trials) -> Gradient:
        """The Gradient of this problem with other numbers, as ``problem.replace`` gives it.

        Parameters
        ----------
        problem : Problem or Trials
            What the function was made from, with another field of the same kind, another r0 or another input.

        Returns
        -------
        Gradient
            As of `ctrnn.gradient`.
        """
        problem = with_noise(problem, self._settings)
        if isinstance(problem, Trials):
            return warn_if_zero_gradient(trials_gradient(problem, self._method, self._settings))
        method: Any = self._resolved
        if self._prepared is None or problem.driven_by is not self._driven.driven_by:
            return warn_if_zero_gradient(compute(method, problem, self._settings))
        found = self._prepared.totals([problem], method.schedule)
        return warn_if_zero_gradient(
            result(problem, method.name, float(found.loss[0]), found.vector, found.r0[0], found.readout, found.stats)
        )

    def _changed(self, w: Any, r0: Any, x: Any) -> Any:
        problem, changes = self.problem, {}
        if w is not None:
            field = problem.field
            if isinstance(w, Mapping):
                for name in w:
                    one_of("parameter", name, field.parameters)
                changes["field"] = field.with_parameters(**w)
            else:
                if named := labels(w):
                    check_order("w", named, field.parameters.labels)
                changes["field"] = field.with_vector(checked_array("w", w, (field.m,)))
        changes |= {name: value for name, value in (("r0", r0), ("x", x)) if value is not None}
        return problem.replace(**changes) if changes else problem
