"""What continuation of equilibria finds: a branch, with the special points on it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any

import numpy as np

from ctrnn.analysis import special_points
from ctrnn.analysis.family import Family
from ctrnn.analysis.linear import shortest
from ctrnn.errors import SingularJacobianError, UsageError, optional_module
from ctrnn.fields.base import Array, Field
from ctrnn.numbers import number

__all__ = ["Branch", "SpecialPoint"]


@dataclass(frozen=True, eq=False, repr=False)
class SpecialPoint:
    """A fold, a Hopf point or a branch point of equilibria.

    Attributes
    ----------
    kind : "fold", "hopf" or "branch"
    parameter, r : value of the parameter and state (n,) there
    eigenvalues : (n,) of J there, real parts descending
    name : of the parameter
    omega : of a Hopf point the frequency, rad per unit of t: the pair is ±iω, and cycles are born with the period
        2π/ω. None for others
    lyapunov : of a Hopf point the first Lyapunov coefficient l1 = Re G21/(2ω) with ⟨q, q⟩ = ⟨p, q⟩ = 1 (Kuznetsov
        2004, chapter 5): negative is supercritical. None for others
    crossing : of a Hopf point d Re λ/dμ along the branch. None for others
    coefficient : of a fold ½⟨p, B(q, q)⟩ with ⟨q, q⟩ = ⟨p, q⟩ = 1. None for others
    type : of a Hopf point "supercritical", "subcritical" or "degenerate" (l1 = 0; or there is no l1, as another
        eigenvalue is 0 or a symmetry makes the pair double), of a branch point "pitchfork" or "transcritical"; "" else,
        as where a symmetry makes several branches meet
    directions : of a branch point the tangents (2, n + 1) of its two branches, in (r, parameter): that of this branch
        first. None for others
    place : the number of the branch's point before it
    field, x, t : the field with the parameter at this point's value; the input and the time held

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import continue_equilibria
    >>> field = Equations({"u": "a*u - v - u*(u**2 + v**2)", "v": "u + a*v - v*(u**2 + v**2)"}, {"a": -0.5})
    >>> point = continue_equilibria(field, [0.0, 0.0], "a", (-1.0, 1.0)).special[0]
    >>> point.kind, point.type, round(point.omega, 9), round(point.lyapunov, 9)
    ('hopf', 'supercritical', 1.0, -2.0)
    """

    kind: str
    parameter: float
    r: Array
    eigenvalues: Array
    name: str
    field: Field = member(repr=False)
    x: Array | None = None
    t: float = 0.0
    omega: float | None = None
    lyapunov: float | None = None
    crossing: float | None = None
    coefficient: float | None = None
    type: str = ""
    directions: Array | None = None
    place: int = 0

    def gradient(self) -> dict[str, Array]:
        """How the point's parameter changes with all parameters of the field, name -> dμ/dw, exact.

        It is 0 for the parameter itself.
        Raises UsageError for a branch point, which is lost under a general change.
        """
        family, mu = Family(self.field, (self.name,), self.x, self.t), np.array([self.parameter])
        try:
            if self.kind == "fold":
                found = special_points.fold_gradient(family, self.field, self.r, mu)
            elif self.kind == "hopf" and self.omega is not None:
                found = special_points.hopf_gradient(family, self.field, self.r, mu, self.omega)
            else:
                raise UsageError("gradient", given=f"a point of kind {self.kind!r}", allowed="a fold or a Hopf point")
        except np.linalg.LinAlgError as error:
            what = f"the system that defines this {self.kind} point"
            raise SingularJacobianError(np.inf, what, "a point at which no other one meets it") from error
        kind, place = family.places[0]
        if kind == "w":
            found[place] = 0.0
        return self.field.unflatten(found)

    def __repr__(self) -> str:
        text = f"{self.kind}{f' ({self.type})' if self.type else ''} at {self.name} = {self.parameter:.10g}"
        if self.omega is not None and self.lyapunov is not None:
            text += f", ω = {self.omega:.8g}, l1 = {self.lyapunov:.6g}"
        if self.coefficient is not None:
            text += f", a = {self.coefficient:.6g}"
        return text


@dataclass(frozen=True, eq=False, repr=False)
class Branch:
    """A branch of equilibria in one parameter, in the order of its arc length.

    Attributes
    ----------
    parameter : (K,) values of the parameter
    r : (K, n) states
    eigenvalues : (K, n) of J, real parts descending
    stable : (K,) whether all real parts are negative
    special : the special points, a tuple of `SpecialPoint`, in their order along the branch
    tangent : (K, n + 1) d(r, parameter)/ds
    start : the number of the point where the continuation began
    ends : why it ended before the first and after the last point: "span" (the parameter's), "box" (a state's),
        "closed" (the branch is a closed
        curve; the last point is the first), "unbounded" (the states have grown beyond 10⁶ times their size while the
        parameter has come to a stand: the branch goes to infinity at about its last value), "max_points", "lost" (no
        shorter step is possible: F may not be smooth, or ends there)
    name, states : names of the parameter and of the states
    field, x, t : the field as it was given, the input and the time held

    Examples
    --------
    >>> from ctrnn import Equations
    >>> from ctrnn.analysis import continue_equilibria
    >>> branch = continue_equilibria(Equations({"r": "b + r - r**3"}, {"b": 0.0}), [1.0], "b", (-1.0, 1.0))
    >>> branch.at(0.0).ravel().round(9) + 0.0
    array([-1.,  0.,  1.])
    >>> branch.ends
    ('span', 'span')
    """

    parameter: Array
    r: Array
    eigenvalues: Array
    stable: Array
    special: tuple[SpecialPoint, ...]
    tangent: Array
    start: int
    ends: tuple[str, str]
    name: str
    states: tuple[str, ...]
    field: Field = member(repr=False)
    x: Array | None = None
    t: float = 0.0

    def __len__(self) -> int:
        return self.parameter.size

    def __iter__(self) -> Iterator[SpecialPoint]:
        return iter(self.special)

    @property
    def closed(self) -> bool:
        """Whether the branch is a closed curve."""
        return "closed" in self.ends

    def of_kind(self, kind: str) -> list[SpecialPoint]:
        """The special points of one kind."""
        return [point for point in self.special if point.kind == kind]

    def at(self, value: float) -> Array:
        """The equilibria (k, n) where the branch passes the parameter's ``value``, in its order.

        Newton's from between two points.
        """
        value = number("value", value)
        d = self.parameter - value
        found = [(i, self.r[i]) for i in np.flatnonzero(d == 0.0)]
        for i in np.flatnonzero(d[1:] * d[:-1] < 0.0):
            share = d[i] / (d[i] - d[i + 1])
            found.append((i, self._polished(self.r[i] + share * (self.r[i + 1] - self.r[i]), value)))
        return np.array([r for _, r in sorted(found, key=lambda one: one[0])]).reshape(-1, self.r.shape[1])

    def _polished(self, r: Array, value: float) -> Array:
        family, mu = Family(self.field, (self.name,), self.x, self.t), np.array([value])
        ahead = r
        for _ in range(12):
            found = shortest(family.J(ahead, mu), -family.F(ahead, mu))
            if found is None:
                return r
            step = found[0]
            ahead = ahead + step
            if np.abs(step).max() <= 1e-14 * max(1.0, float(np.abs(ahead).max())):
                return ahead
        return ahead if np.abs(step).max() <= 1e-9 * max(1.0, float(np.abs(ahead).max())) else r

    def to_dataframe(self) -> Any:
        """A pandas table with a row a point: the parameter, the states by name, ``stable`` and ``abscissa``."""
        pandas = optional_module("pandas", "Branch.to_dataframe", "pandas", "xarray")  # xarray brings it
        columns: dict[str, Any] = {self.name: self.parameter}
        columns |= {name: self.r[:, i] for i, name in enumerate(self.states)}
        return pandas.DataFrame(columns | {"stable": self.stable, "abscissa": self.eigenvalues[:, 0].real})

    def __repr__(self) -> str:
        low, high = self.parameter.min(), self.parameter.max()
        lines = [
            f"branch of {len(self)} equilibria, {self.name} from {low:.6g} to {high:.6g}, "
            f"{int(self.stable.sum())} of them stable; ends: {', '.join(self.ends)}"
        ]
        return "\n".join([*lines, *(f"  {point}" for point in self.special)])
