"""The coordinates in which a fit moves: one vector theta for parameters, initial state, read-out.

A positive quantity w moves as theta = log w. Then w = exp theta is positive wherever the optimiser
goes, factors become steps, so that rates of 0.02 and 1 are on one scale, and by the chain rule

    dl/dtheta = w dl/dw,        d²l/dtheta² = diag(w) d²l/dw² diag(w) + diag(w dl/dw).

Everything else moves as itself, theta = w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import UnknownNameError, UsageError, one_of
from ctrnn.fields.checks import as_mapping, name_list
from ctrnn.gradients.continuous.scales import typical
from ctrnn.losses import Readout
from ctrnn.numbers import flag, real_array
from ctrnn.problem import Trials

Array = NDArray[np.float64]

TRANSFORMS = ("none", "log")


class Coordinates:
    """The vector theta (k,): the chosen parameters, then r0 if asked, then a trained read-out's V and c.

    Of trials, r0 is that of every trial in turn, or the one that they share, and the read-out is common to all.

    Attributes
    ----------
    start : ndarray (k,)
        theta at the given problem.
    lower, upper : ndarray (k,)
        Bounds on theta, from the field's own.
    log : ndarray (k,) of bool
        Which entries are logarithms.
    columns : ndarray (k,) of int
        Their indices among all parameters (m), r0 (n, or n a trial) and the read-out's entries, in this order.
    sizes : ndarray (k,)
        A typical size of each entry, 1 for logarithms.
    free : ndarray (k,) of bool
        Which entries count: weights outside a mask do not.
    labels : list of str
        A name for each entry.

    Raises
    ------
    UnknownNameError
        For a parameter that does not exist or is not fitted, or a transform that does not exist.
    UsageError
        For a logarithm of a number that is not positive, a start out of bounds, and when nothing is left to fit.
    """

    def __init__(
        self,
        problem: Any,
        parameters: Sequence[str] | None,
        r0: bool,
        transform: str | Mapping[str, str],
        bounds: Mapping[str, Any] | None = None,
        fixed: Sequence[str] = (),
    ) -> None:
        field = problem.field
        names = list(field.parameter_names) if parameters is None else name_list("parameters", parameters)
        for name in names:
            one_of("parameters", name, field.parameter_names)
        # In the field's own order, so that an entry keeps its place in theta however it was named.
        fixed = name_list("fixed", fixed)
        self.names = [name for name in field.parameter_names if name in names and name not in fixed]
        self.fits_r0 = r0 = flag("r0", r0) and "r0" not in fixed
        self._problem = problem

        parts: list[tuple[str, list[str], Array]] = []  # (name, labels, values)
        low, high = (field.unflatten(bound) for bound in field.bounds)
        places, labels = field.unflatten(np.arange(field.m)), field.labels
        for name in self.names:
            here = [labels[i] for i in np.ravel(places[name])]
            parts.append((name, here, np.ravel(field.parameters[name])))
        if r0:
            here = problem.r0_labels if isinstance(problem, Trials) else [f"r0[{s}]" for s in field.state_names]
            parts.append(("r0", here, np.ravel(problem.r0)))
        self.readout = trained_readout(problem)
        for name, value in self.readout.items():
            here = [f"readout.{name}[{i}]" for i in range(value.size)]
            parts.append((f"readout.{name}", here, np.ravel(value)))
        n, m = problem.r0.size, field.m
        ranges = [np.ravel(places[name]) for name in self.names] + ([np.arange(m, m + n)] if r0 else [])
        whole = m + n + sum(value.size for value in self.readout.values())
        self.columns = np.concatenate([*ranges, np.arange(m + n, whole)]).astype(int)
        counts = np.zeros(whole, dtype=bool)
        counts[m:] = True
        # of weights outside a mask nothing moves; what g alone reads of the parameters does
        first = problem[0] if isinstance(problem, Trials) else problem
        index = (field if first.noise is None else first.noise.noisy(field))._kernel.index
        counts[index[index >= 0]] = True
        self.free = counts[self.columns]
        if not parts:
            hint = "name a parameter, or r0=True"
            raise UsageError("parameters", given=parameters, allowed="something to fit", hint=hint)

        log = self._transforms(transform)
        self.labels = [label for _, here, _ in parts for label in here]
        #: name -> (first entry, shape) of each quantity
        self.where: dict[str, tuple[int, tuple[int, ...]]] = {}
        shapes = [np.shape(field.parameters[name]) for name in self.names]
        shapes += [np.shape(problem.r0)] * r0 + [value.shape for value in self.readout.values()]
        first = 0
        for (name, _, values), shape in zip(parts, shapes, strict=True):
            self.where[name], first = (first, shape), first + values.size
        for name in fixed:
            if name not in field.parameter_names and name != "r0":
                self.free[self.entries("fixed", name)[0]] = False
        self.log = np.concatenate([np.full(v.size, log.get(name, False)) for name, _, v in parts])
        w = np.concatenate([v for _, _, v in parts])
        lower, upper = (
            np.concatenate([np.ravel(b.get(name, np.full(v.size, inf))) for name, _, v in parts])
            for b, inf in ((low, -np.inf), (high, np.inf))
        )
        for name, pair in (bounds or {}).items():
            entries, shape = self.entries("bounds", name)
            low_here, high_here = _pair(name, pair, shape)
            lower[entries] = np.maximum(lower[entries], low_here)
            upper[entries] = np.minimum(upper[entries], high_here)
        for k in range(len(w)):
            if self.log[k] and not w[k] > 0:
                raise UsageError(
                    self.labels[k],
                    given=float(w[k]),
                    allowed="a positive start, since it is fitted as its logarithm",
                    hint='another start, or transform="none" for it',
                )
            if not lower[k] <= w[k] <= upper[k]:
                allowed = f"a start within its bounds, {lower[k]:g} to {upper[k]:g}"
                raise UsageError(self.labels[k], given=float(w[k]), allowed=allowed)
        self.start = self._theta(w)
        sizes = [np.maximum(np.abs(np.ravel(v)), typical(np.asarray(v))) for _, _, v in parts]
        self.sizes = np.where(self.log, 1.0, np.concatenate(sizes))
        self.lower, self.upper = (
            self._theta(np.maximum(lower, np.where(self.log, 0, -np.inf))),
            (self._theta(upper)),
        )

    def problem(self, theta: Array) -> Any:
        """The problem at theta."""
        field, w, k = self._problem.field, self.w(theta), 0
        named = {}
        for name in self.names:
            shape = np.shape(field.parameters[name])
            size = int(np.prod(shape))
            named[name], k = w[k : k + size].reshape(shape), k + size
        changes: dict[str, Any] = {"field": field.with_parameters(**named)}
        if self.fits_r0:
            size = self._problem.r0.size
            changes["r0"], k = w[k : k + size].reshape(self._problem.r0.shape), k + size
        if self.readout:
            new = {}
            for name, value in self.readout.items():
                new[name], k = w[k : k + value.size].reshape(value.shape), k + value.size
            moved = [replace(o, readout=replace(o.readout, **new)) for o in _objectives(self._problem)]
            changes["objective"] = moved if isinstance(self._problem, Trials) else moved[0]
        return self._problem.replace(**changes)

    def gradient(self, g: Any, theta: Array) -> Array:
        """dl/dtheta (k,) from the gradient ``g`` at theta."""
        parts = [np.ravel(g.parameters[name]) for name in self.names]
        if self.fits_r0:
            shared = isinstance(self._problem, Trials) and self._problem.shares_r0
            parts.append(g.r0.sum(axis=0) if shared else np.ravel(g.r0))
        parts += [np.ravel(g.readout[name]) for name in self.readout]
        dl_dw = np.concatenate(parts)
        return np.where(self.free, self.scale(theta) * dl_dw, 0.0)

    def entries(self, argument: str, name: str) -> tuple[NDArray[Any], tuple[int, ...]]:
        """The entries of theta behind a name ("W", "r0") or a label ("W[0,1]", "r0[prey]"), and their shape.

        Raises UnknownNameError for what is not fitted.
        """
        if not isinstance(name, str):
            raise UnknownNameError(argument, name, [*self.where, *self.labels][:40])
        if name in self.where:
            first, shape = self.where[name]
            return np.arange(first, first + int(np.prod(shape))), shape
        if name in self.labels:
            return np.array([self.labels.index(name)]), ()
        raise UnknownNameError(argument, name, [*self.where, *self.labels][:40])

    @property
    def is_bounded(self) -> bool:
        """Whether some entry has a bound."""
        return bool(np.any(np.isfinite(self.lower) | np.isfinite(self.upper)))

    def scale(self, theta: Array) -> Array:
        """dw/dtheta (k,)."""
        return np.where(self.log, self.w(theta), 1.0)

    def w(self, theta: Array) -> Array:
        """The quantities themselves (k,); inf where exp theta is beyond float64."""
        with np.errstate(over="ignore"):
            return np.where(self.log, np.exp(np.where(self.log, theta, 0.0)), theta)

    def clip(self, theta: Array) -> Array:
        """The nearest point within the bounds."""
        return np.clip(theta, self.lower, self.upper)

    def _theta(self, w: Array) -> Array:
        with np.errstate(divide="ignore"):
            return np.where(self.log, np.log(np.where(self.log, w, 1.0)), w)

    def _transforms(self, transform: str | Mapping[str, str]) -> dict[str, bool]:
        """Whether each fitted name moves as its logarithm; a read-out never does."""
        fitted = [*self.names, *(["r0"] if self.fits_r0 else [])]
        if isinstance(transform, str):
            transform = dict.fromkeys(fitted, _known(transform))
        transform = as_mapping("transform", transform)
        for name in transform:
            one_of("transform", name, fitted)
        return {name: _known(word) == "log" for name, word in transform.items()}


def _pair(name: str, pair: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Lower and upper bounds, flat, of a quantity of this shape; None is no bound."""
    allowed = "(lower, upper) with lower < upper, numbers or arrays of its shape, None for no bound"
    try:
        low, high = pair
        ends = [
            np.broadcast_to(real_array(f"bounds of {name}", inf if v is None else v), shape).ravel()
            for v, inf in ((low, -np.inf), (high, np.inf))
        ]
    except (TypeError, ValueError):
        raise UsageError(f"bounds of {name}", given=pair, allowed=allowed) from None
    if not (ends[0] < ends[1]).all():
        raise UsageError(f"bounds of {name}", given=pair, allowed=allowed, hint=f'fixed=["{name}"] to hold it')
    return ends[0], ends[1]


def _known(transform: str) -> str:
    one_of("transform", transform, TRANSFORMS)
    return transform


def trained_readout(problem: Any) -> dict[str, Array]:
    """V (p, n) and c (p,) of a trained read-out; empty where there is none.

    Raises UsageError for trials that differ in theirs.
    """
    first, *others = _objectives(problem)
    has_one = isinstance(first.readout, Readout)
    for b, other in enumerate(others, 1):
        if isinstance(other.readout, Readout) != has_one or (has_one and not first.readout.equals(other.readout)):
            allowed = "one and the same read-out in all trials, or none, as it is fitted for all"
            raise UsageError("objective", given=f"another read-out in trial {b} than in trial 0", allowed=allowed)
    return {"V": np.asarray(first.readout.V, float), "c": np.asarray(first.readout.c, float)} if has_one else {}


def _objectives(problem: Any) -> list[Any]:
    trials = problem if isinstance(problem, Trials) else [problem]
    return [trial.needs_objective("a fit").objective for trial in trials]
