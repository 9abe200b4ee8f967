"""What a fit found, with its errors."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import CtrnnError, UsageError
from ctrnn.files import atomic_path, loading
from ctrnn.learning.bands import Bands, bands
from ctrnn.learning.laplace import Fitted, Laplace, posterior
from ctrnn.learning.loss import Statement
from ctrnn.learning.noise import noise_named
from ctrnn.learning.priors import priors_of
from ctrnn.learning.profile import Profile, profile
from ctrnn.learning.transforms import Coordinates, trained_readout
from ctrnn.problem import Trials

Array = NDArray[np.float64]

#: fitted numbers, and ends of several starts, that are printed one by one
SHOWN, VALLEYS = 12, 8


class StandardErrors(dict[str, float]):
    """Name of an entry -> its standard error; of a whole array by its name, NaN where an entry was not fitted."""

    def __init__(self, entries: Mapping[str, float], coordinates: Coordinates) -> None:
        super().__init__(entries)
        self._coordinates = coordinates

    def __missing__(self, name: str) -> Array:
        """Those of an array; raises UnknownNameError for what is not fitted."""
        places, shape = self._coordinates.entries("standard_errors", name)
        return np.reshape([self.get(self._coordinates.labels[k], np.nan) for k in places], shape)


@dataclass(frozen=True)
class Valley:
    """One end of a fit from several starts.

    Its loss, how many starts ended in it, how many of those converged, and where it is.
    """

    loss: float
    reached: int
    converged: int
    values: Array
    labels: tuple[str, ...]


@dataclass(frozen=True, repr=False, eq=False)
class Fit(Fitted):
    """What a fit found; it prints as a small table.

    Attributes
    ----------
    problem : Problem or Trials
        The problem at the best point seen.
    start : Problem or Trials
        The problem as it was given.
    loss : float
        l there, with priors and the logarithms of an estimated sigma where these were asked for.
    initial_loss : float
        l at the start.
    history : ndarray (iterations + 1,)
        l at the start and after each iteration.
    converged : bool
        Whether no further descent is to be had: a Gauss–Newton step promises none and moves nothing, and another method
        finds none.
    reason : str
        Why it is, or is not, in a sentence.
    message : str
        Why the optimiser stopped, in its own words, and how many trial points had no solution.
    evaluations : int
        Gradients, or Jacobians of the residuals, computed.
    rejected : int
        Trial points at which the solution failed.
    optimizer : str
        Its name.
    statement : Statement
        What was asked: which quantities, transforms, bounds, priors, noise, solver.
    sigma : ndarray (p,) or None
        Standard deviations that were estimated along.
    valleys : tuple of Valley
        Of a fit from several starts, where they ended, best first.
    failed : int
        Of these, the starts without a solution.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0})
    >>> data = ctrnn.Objective(target=np.exp([[-0.5], [-1.0]]), at=[1.0, 2.0])
    >>> found = ctrnn.fit(ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=data))
    >>> found.converged, round(float(found.parameters["k"]), 6)
    (True, 0.5)
    """

    problem: Any
    start: Any
    loss: float
    initial_loss: float
    history: Array
    converged: bool
    reason: str
    message: str
    evaluations: int
    rejected: int
    optimizer: str
    statement: Statement
    sigma: Array | None = None
    valleys: tuple[Valley, ...] = ()
    failed: int = 0
    _kept: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameters that were fitted."""
        return tuple(self.statement.coordinates(self.problem).names)

    @property
    def fits_r0(self) -> bool:
        """Whether r0 was fitted too."""
        return self.statement.coordinates(self.problem).fits_r0

    @property
    def settings(self) -> dict[str, Any]:
        """solver, rtol, atol and dt of every solution."""
        return dict(self.statement.settings)

    @property
    def parameters(self) -> dict[str, Array]:
        """All parameters of the fitted field, by name."""
        return self.problem.field.parameters

    @property
    def r0(self) -> Array:
        """The initial state (n,) of the fitted problem; of trials (B, n), or (n,) where they share it."""
        return self.problem.r0

    @property
    def readout(self) -> dict[str, Array] | None:
        """V (p, n) and c (p,) of a trained read-out, or None."""
        return trained_readout(self.problem) or None

    @property
    def iterations(self) -> int:
        """The iterations that the optimiser took."""
        return len(self.history) - 1

    # --- errors

    @cached_property
    def errors(self) -> Laplace:
        """Standard errors and correlations, as ctrnn.laplace tells them; raises what that raises."""
        return posterior(self.problem, self.statement, self.sigma)

    @property
    def standard_errors(self) -> StandardErrors:
        """Name -> standard error of each fitted quantity, as "a", "W[0,1]" and "r0[prey]" (``errors`` says more).

        By the name of an array, as "W" or "r0", the array of them, NaN where an entry was not fitted.
        """
        entries = dict(zip(self.errors.labels, map(float, self.errors.standard_errors), strict=True))
        return StandardErrors(entries, self.statement.coordinates(self.problem))

    @cached_property
    def errors_or_why(self) -> tuple[Laplace | None, str]:
        """The errors of few quantities, or None and the reason; no reason where nobody expects errors."""
        first = self.problem[0] if isinstance(self.problem, Trials) else self.problem
        if not first.objective.is_named or first.objective.times is None:
            return None, ""
        if len(self.statement.coordinates(self.problem).columns) > SHOWN:
            return None, ""
        try:
            return self.errors, ""
        except CtrnnError as error:
            return None, str(error)

    def profile(self, name: str, level: float = 0.95) -> Profile:
        """The profile likelihood of one fitted quantity and its interval of confidence; see ctrnn.learning.profile."""
        return profile(self, name, level)

    def bands(self, t: Any, level: float = 0.95) -> Bands:
        """The fitted outputs at times t (T,) with the uncertainty of the curve and of a new observation.

        Behind the data it is a forecast. See ctrnn.learning.bands.
        """
        return bands(self, t, level)

    # --- in a file

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all numbers and what was asked to one .npz file, without any code in it.

        The field itself is not in the file: ``Fit.load(path, problem)`` takes the problem that was fitted.
        ``ctrnn.fit(Fit.load(…))`` goes on.
        """
        s = self.statement
        asked = {
            "parameters": s.parameters,
            "r0": s.r0,
            "transform": s.transform if isinstance(s.transform, str) else dict(s.transform),
            "bounds": {k: [_listed(v) for v in pair] for k, pair in s.bounds.items()},
            "fixed": s.fixed,
            "prior": {k: [type(v).__name__.lower(), _listed(v.mean), _listed(v.sd)] for k, v in s.prior.items()},
            "noise": s.noise.name,
            "sigma": _listed(s.sigma),
            "robust": s.robust,
            "robust_scale": s.robust_scale,
            "settings": {k: _listed(v) for k, v in s.settings.items()},
            "method": s.method if isinstance(s.method, str) else "auto",
        }
        told = {
            name: getattr(self, name)
            for name in (
                "loss",
                "initial_loss",
                "converged",
                "reason",
                "message",
                "evaluations",
                "rejected",
                "optimizer",
                "failed",
            )
        }
        arrays: dict[str, Any] = {f"parameters.{k}": v for k, v in self.parameters.items()} | {
            "r0": self.r0,
            "history": self.history,
        }
        arrays |= {f"readout.{k}": v for k, v in (self.readout or {}).items()}
        if self.sigma is not None:
            arrays["sigma"] = self.sigma
        text = json.dumps({"format": 1, "asked": asked, "told": told})
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, told=np.array(text), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], problem: Any) -> Fit:
        """A fit that was saved, of the problem, or trials, that it was a fit of.

        Raises UsageError for a file that is none, and for a problem with other parameters or states.
        """
        with loading(path, "a file that Fit.save has written"):
            with np.load(Path(path), allow_pickle=False) as file:
                arrays = dict(file)
            text = json.loads(str(arrays.pop("told")))
            field = problem.field
            parameters = {k.partition(".")[2]: v for k, v in arrays.items() if k.startswith("parameters.")}
            shapes = {k: np.shape(v) for k, v in parameters.items()}, arrays["r0"].shape
            if shapes != ({k: np.shape(v) for k, v in field.parameters.items()}, np.shape(problem.r0)):
                raise UsageError(
                    "problem",
                    given=repr(problem),
                    allowed="the problem that was fitted, with the same parameters and states",
                )
            a, told = text["asked"], text["told"]
            statement = Statement(
                None if a["parameters"] is None else tuple(a["parameters"]), a["r0"], a["transform"],
                {k: tuple(v) for k, v in a["bounds"].items()}, tuple(a["fixed"]), priors_of(a["prior"]),
                noise_named(a["noise"]), a["sigma"], a["robust"], a["robust_scale"], a["method"], a["settings"],
            )  # fmt: skip
            changes: dict[str, Any] = {"field": field.with_parameters(**parameters), "r0": arrays["r0"]}
            readout = {k.partition(".")[2]: v for k, v in arrays.items() if k.startswith("readout.")}
            fitted = with_readout(problem, readout).replace(**changes)
            return cls(
                problem=fitted,
                start=problem,
                history=arrays["history"],
                statement=statement,
                sigma=arrays.get("sigma"),
                **told,
            )

    # --- in words

    def __repr__(self) -> str:
        ending = "converged" if self.converged else f"not converged: {self.reason}"
        lines = [
            f"Fit by {self.optimizer}: loss {self.initial_loss:.6g} -> {self.loss:.6g} in "
            f"{self.iterations} iterations, {self.evaluations} gradients; {ending}",
        ]
        errors, why = self.errors_or_why
        s = self.standard_errors if errors is not None else {}
        lines.append(f"{'':16}{'start':>14}{'fitted':>14}" + (f"{'std. error':>14}" if s else ""))
        for name, label, a, b in self._rows():
            if np.size(a) == 1:
                error = f"{s[label]:14.4g}" if label in s else ""
                lines.append(f"{name:16}{np.ravel(a)[0]:14.6g}{np.ravel(b)[0]:14.6g}{error}")
            else:
                shape = "x".join(map(str, np.shape(a)))
                rms = [f"rms {np.sqrt(np.mean(np.square(v))):.4g}" for v in (a, b)]
                lines.append(f"{f'{name} ({shape})':16}{rms[0]:>14}{rms[1]:>14}")
        if errors is not None:
            lines += [f"{k:16}{'':14}{v:14.6g}{s[k]:14.4g}" for k, v in self._sigmas(errors).items()]
            if 1 < len(errors.labels) <= SHOWN:
                lines.append("correlations")
                for i, label in enumerate(errors.labels):
                    lines.append(f"{label:16}" + "".join(f"{c:7.3f}" for c in errors.correlations[i, : i + 1]))
        elif why:
            lines.append(f"no standard errors: {why}")
        if self.valleys:
            lines.append(valley_table(self.valleys, self.failed))
        return "\n".join([*lines, self.message])

    def _rows(self) -> list[tuple[str, str, Any, Any]]:
        """Name, label of its standard error, start and end of what is printed."""
        was, now = self.start.field.parameters, self.parameters
        rows = []
        for name in now:
            if now[name].size:
                label = name if np.ndim(now[name]) == 0 else f"{name}[{','.join('0' * np.ndim(now[name]))}]"
                rows.append((name, label, was[name], now[name]))
        if self.r0.ndim == 1 and self.r0.size <= 6:
            names = self.problem.field.state_names
            rows += [(f"r0[{s}]", f"r0[{s}]", a, b) for s, a, b in zip(names, self.start.r0, self.r0, strict=True)]
        elif self.r0.ndim == 2 and self.fits_r0:
            rows.append(("r0", "", self.start.r0, self.r0))
        if self.readout is not None:
            old = trained_readout(self.start)
            rows += [(f"readout {k}", f"readout.{k}[0]", old[k], v) for k, v in self.readout.items()]
        return rows

    def _sigmas(self, errors: Laplace) -> Mapping[str, float]:
        return {k: float(v) for k, v in zip(errors.labels, errors.values, strict=True) if k.startswith("sigma[")}


def valley_table(valleys: tuple[Valley, ...], failed: int) -> str:
    """Where the starts of a fit ended."""
    first = valleys[0]
    few = len(first.labels) <= 6
    lines = [
        f"{'valley':16}{'loss':>14}{'reached':>9}{'converged':>11}"
        + ("".join(f"{k:>12}" for k in first.labels) if few else "")
    ]
    for i, v in enumerate(valleys[:VALLEYS]):
        values = "".join(f"{x:12.5g}" for x in v.values) if few else ""
        lines.append(f"{i + 1:<16}{v.loss:14.7g}{v.reached:9}{v.converged:11}{values}")
    if len(valleys) > VALLEYS:
        rest = valleys[VALLEYS:]
        lines.append(f"and {len(rest)} more, reached {sum(v.reached for v in rest)} times")
    if failed:
        lines.append(f"{failed} starts had no solution")
    return "\n".join(lines)


def with_readout(problem: Any, readout: Mapping[str, Array]) -> Any:
    """The problem, or trials, with other numbers in its trained read-out."""
    if not readout:
        return problem
    trials = hasattr(problem, "problems")
    objectives = [one.objective.objective for one in (problem if trials else [problem])]
    moved = [replace(o, readout=replace(o.readout, **readout)) for o in objectives]
    return problem.replace(objective=moved if trials else moved[0])


def _listed(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
