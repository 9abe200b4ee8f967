"""The gradient of a sum over trials: each trial's own, side by side, then added in their order.

    l(w, r0_1 … r0_B) = Σ_b l_b(w, r0_b)

and where all trials start from one r0, dl/dr0 is a sum too. (ctrnn.gradients.second.trials has the second derivatives.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.gradients.api import compute, method_named
from ctrnn.gradients.check.certificate import Certificate, certify
from ctrnn.gradients.continuous.scales import parameter_scales, typical
from ctrnn.gradients.recording import network_adjoint as together
from ctrnn.gradients.recording.lockstep import TogetherGradient, of_trials
from ctrnn.gradients.result import Gradient
from ctrnn.gradients.schedules.adjoint import Adjoint
from ctrnn.problem import Problem, Settings, Trials
from ctrnn.solvers.auto import resolve_auto_solver
from ctrnn.threads import side_by_side
from ctrnn.trajectory import Stats


@dataclass(frozen=True, repr=False, eq=False)
class TrialsGradient(Gradient):
    """A Gradient whose loss, vector, parameters and readout are sums over trials, and r0 is (B, n); ``trials`` are the B gradients.

    Where the trials share one r0, dl/dr0 is the sum of its rows.
    """

    trials: tuple[Gradient, ...] = ()

    @property
    def losses(self) -> Array:
        """(B,) the loss of each trial."""
        return np.array([g.loss for g in self.trials])


@dataclass(frozen=True, repr=False)
class TrialsCertificate:
    """What stands behind a sum over trials: the certificate of each, and the error of the sum.

    error, digits   ‖g − g*‖/‖g*‖ and −log10 of it, of [Σ_b dl_b/dw, each dl_b/dr0_b, Σ_b dl_b/d(V, c)], entries of w and r0 times their size;
                    g* from the trials' second opinions. None where a trial has none
    worst           the number of the trial with the largest error
    trials          the B certificates
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
        B = len(self.trials)
        if self.digits is None:
            head = f"certificate of {B} trials: none, for want of a second opinion on trial {self.worst}"
        else:
            head = f"certificate of {B} trials: {self.digits:.1f} digits; estimated relative error of their sum {self.error:.1e}"
        return f"{head}; the worst is trial {self.worst}:\n{self.trials[self.worst].text}"

    def __repr__(self) -> str:
        return self.text


def trials_gradient(
    trials: Trials, method: Any, settings: Settings, certified: bool = False
) -> TrialsGradient | TogetherGradient:
    """Each trial by the same method, or all together where that is faster; raises what the first trial that fails raises."""
    trials.readout_size("a gradient")
    if not certified and together.goes(trials.problems, settings):
        its_method = method_named(method, trials[0], settings)
        if isinstance(its_method, Adjoint) and its_method.is_plain:
            all_of_them = together.adjoint(trials.problems, settings, its_method.name)
            return of_trials(trials, its_method.name, all_of_them, partial(its_method.compute, settings=settings))

    def one(problem: Problem) -> Gradient:
        its = resolve_auto_solver(problem, settings)
        its_method = method_named(method, problem, its)
        found = compute(its_method, problem, its)
        return replace(found, certificate=certify(found, its_method, problem, its)) if certified else found

    found = side_by_side(trials.problems, one, "trials")
    readout = None
    if found[0].readout is not None:
        readout = {name: np.sum([g.readout[name] for g in found if g.readout], axis=0) for name in found[0].readout}
    vector = reduce(add, (g.vector for g in found))
    g = TrialsGradient(
        loss=float(sum(g.loss for g in found)),
        vector=vector,
        parameters=trials.field.unflatten(vector),
        r0=np.stack([g.r0 for g in found]),
        readout=readout,
        stats=reduce(add, (g.stats for g in found), Stats()),
        method=f"{found[0].method}, {len(found)} trials",
        labels=found[0].labels,
        trials=tuple(found),
    )
    return replace(g, certificate=_certificate(trials, g)) if certified else g


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
