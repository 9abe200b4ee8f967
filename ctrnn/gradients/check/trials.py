"""What stands behind the gradient of a sum over trials: the certificate of each, and the error of the sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.advise.choice import resolve
from ctrnn.gradients.check.certificate import Certificate, certify
from ctrnn.gradients.continuous.scales import parameter_scales, typical
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.trials import TrialsGradient, each_gradient
from ctrnn.problem import Problem, Settings, Trials
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.threads import map_parallel


@dataclass(frozen=True, repr=False)
class TrialsCertificate:
    """What stands behind a sum over trials: the certificate of each, and the error of the sum.

    Attributes
    ----------
    error, digits
        ‖g − g*‖/‖g*‖ and −log10 of it, of [Σ_b dl_b/dw, each dl_b/dr0_b, Σ_b dl_b/d(V, c)], entries of w and r0 times
        their size; g* from the trials' second opinions. None where a trial has none.
    worst
        The number of the trial with the largest error.
    trials
        The B certificates.
    """

    error: float | None
    digits: float | None
    worst: int
    trials: tuple[Certificate, ...]

    @property
    def lost(self) -> bool:
        """Whether some trial runs beyond its horizon and its gradient shows it."""
        return any(one.lost for one in self.trials)

    @property
    def text(self) -> str:
        """All of it, in lines."""
        B = len(self.trials)
        if self.digits is None:
            head = f"certificate of {B} trials: none, for want of a second opinion on trial {self.worst}"
        else:
            head = f"certificate of {B} trials: {self.digits:.1f} digits; "
            head += f"estimated relative error of their sum {self.error:.1e}"
        return f"{head}; the worst is trial {self.worst}:\n{self.trials[self.worst].text}"

    def __repr__(self) -> str:
        return self.text


def certified_trials(trials: Trials, method: Any, settings: Settings) -> TrialsGradient:
    """The gradient of a sum over trials, each by itself and with its certificate; raises what each_gradient raises."""
    g = each_gradient(trials, method, settings)

    def one(job: tuple[Problem, Gradient]) -> Gradient:
        problem, found = job
        its = resolve_auto_solver(problem, settings)
        its_method = resolve(method, problem, its)[0]
        return replace(found, certificate=certify(found, its_method, problem, its))

    jobs = list(zip(trials.problems, g.trials, strict=True))
    g = replace(g, each=partial(tuple, map_parallel(jobs, one, "certificates")))
    return replace(g, certificate=_certificate(trials, g))


def _certificate(trials: Trials, g: TrialsGradient) -> TrialsCertificate:
    its = tuple(one.certificate for one in g.trials if isinstance(one.certificate, Certificate))
    worst = int(np.argmax([np.inf if one.error is None else one.error for one in its]))
    stars = [one.reference for one in its if one.reference is not None]
    if len(stars) < len(its):
        return TrialsCertificate(None, None, worst, its)
    ours, theirs = _relative(trials, g.trials), _relative(trials, stars)
    off, size = float(np.linalg.norm(ours - theirs)), float(np.linalg.norm(theirs))
    error = off / size if size > 0.0 else float(off > 0.0)
    return TrialsCertificate(error, float(np.clip(-np.log10(max(error, 1e-16)), 0.0, 16.0)), worst, its)


def _relative(trials: Trials, found: Sequence[Gradient]) -> Array:
    """[Σ_b dl_b/dw, each dl_b/dr0_b, Σ_b dl_b/d(V, c)] in relative coordinates."""
    w = parameter_scales(trials.field) * sum(g.vector for g in found)
    r0 = [typical(problem.r0) * g.r0 for problem, g in zip(trials, found, strict=True)]
    readouts = [np.concatenate([part.ravel() for part in g.readout.values()]) for g in found if g.readout]
    return np.concatenate([w, *r0, *([np.sum(readouts, axis=0)] if readouts else [])])
