"""The curve 0 = F(r, μ) of equilibria, what is tested on its points, where it begins, and what limits it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctrnn.analysis.arclength import WIDEST, Limit, Point, correct, first_point, norm, point_at, state_weights
from ctrnn.analysis.equilibria import spectrum
from ctrnn.analysis.family import Family
from ctrnn.analysis.linear import shortest
from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.numbers import real_array

#: a start whose least |Re λ|, over the largest |λ|, is below this is itself a special point; how far from it one begins
CRITICAL, ASIDE = 1e-10, 1e-3
#: the real part of a pair is known to this part of the largest eigenvalue
ROUNDED = 1e-12
#: states this many times as large as those of the start, or as 1, are huge; a parameter stands that moves by less than
#: this part of its span while they grow by their own size; and that, at so many points in turn, is the way to infinity
HUGE, STILL, IN_TURN = 1e6, 1e-6, 20


class EquilibriumCurve:
    """G(r, μ) = F(r, μ) as a curve, and the tests on its points."""

    def __init__(self, family: Family, span: tuple[float, float], size: float) -> None:
        self.family, self.span = family, span
        self.unit = max(1.0, size)
        if not self.unit < WIDEST:
            raise UsageError("r0", given=f"a state as large as {size:.3g}", allowed=f"less than {WIDEST:g}")
        self.weigh(np.zeros(family.n + 1))

    def weigh(self, y: Array) -> None:
        """The weights at y."""
        self.weights = np.append(state_weights(y[:-1], self.unit), 1.0 / (self.span[1] - self.span[0]) ** 2)

    def residual(self, y: Array) -> Array:
        """F (n,)."""
        return self.family.F(y[:-1], y[-1:])

    def derivative(self, y: Array) -> Array:
        """[J F_μ] (n, n + 1)."""
        return np.hstack([self.family.J(y[:-1], y[-1:]), self.family.F_mu(y[:-1], y[-1:])])

    def tests(self, point: Point) -> None:
        """Write what the tests look at into ``facts``.

        These are the eigenvalues, the number of growing modes, the signs of the determinant and of the pair sums.
        """
        facts = point.facts
        if "eigenvalues" in facts:
            return
        λ = spectrum(point.G_y[:, :-1])
        facts["eigenvalues"], facts["growing"] = λ, int(_grows(λ).sum())
        facts["sign"], facts["pairs"] = self.sign(point), pair_sign(λ)

    def sign(self, point: Point) -> float:
        """The sign of det [J F_μ; tangentᵀ]."""
        return float(np.linalg.slogdet(np.vstack([point.G_y, self.weights * point.tangent]))[0])


class Escape:
    """Whether a curve goes to infinity: its states are huge and grow on, while the parameter has come to a stand."""

    def __init__(self, curve: EquilibriumCurve) -> None:
        self.curve, self.far = curve, 0

    def __call__(self, point: Point) -> str:
        """The reason "unbounded" where it does, for so many points in turn that it is no fold far out."""
        r, v = point.y[:-1], point.tangent
        k = int(np.abs(r).argmax())
        still = abs(v[-1]) <= STILL * (self.curve.span[1] - self.curve.span[0])
        is_far = abs(r[k]) > HUGE * self.curve.unit and r[k] * v[k] > 0 and still
        self.far = self.far + 1 if is_far else 0
        return "unbounded" if self.far >= IN_TURN else ""


def pair_sign(λ: Array) -> float:
    """The sign of Π_{i<j} (λ_i + λ_j).

    Real pairs and conjugate ones decide, all other factors come with their conjugates.
    """
    real = np.sort(λ[λ.imag == 0.0].real)
    # of real numbers: how many pairs have a negative sum
    negative = sum(int(np.searchsorted(real, -a)) - int(a < 0 and -a > a) for a in real) // 2
    negative += int((~_grows(λ)[λ.imag > 0.0]).sum())
    return -1.0 if negative % 2 else 1.0


def _grows(λ: Array) -> Array:
    """Which modes grow: a pair by more than rounding, as on a branch of centres no pair crosses the axis."""
    return np.asarray(λ.real > np.where(λ.imag != 0.0, ROUNDED * np.abs(λ).max(initial=0.0), 0.0))


def nearest_pair(λ: Array) -> complex:
    """The complex pair nearest to the imaginary axis, Im λ > 0.

    NaN where a sum of two real eigenvalues is nearer to zero than 2 Re λ, or there is no pair.
    """
    pairs, real = λ[λ.imag > 0.0], np.sort(λ[λ.imag == 0.0].real)
    if not pairs.size:
        return complex(np.nan, np.nan)
    nearest = complex(pairs[np.abs(pairs.real).argmin()])
    if real.size > 1:
        sums = np.abs(real[:, None] + real[None, :])[np.triu_indices(real.size, 1)]
        if sums.min() < 2.0 * abs(nearest.real):
            return complex(np.nan, np.nan)
    return nearest


def start_at(curve: EquilibriumCurve, y: Array, onward: Array) -> Point | None:
    """The equilibrium at the start.

    Newton at the parameter's own value, or, where J is singular there, the nearest point of the curve.
    """
    from_r = y.copy()
    for _ in range(50):
        F, G_y = curve.residual(from_r), curve.derivative(from_r)
        if not (np.isfinite(F).all() and np.isfinite(G_y).all()):
            break
        step = shortest(G_y[:, :-1], -F)
        if step is None:
            break
        δ, ahead = step[0], from_r.copy()
        for halved in range(20):
            ahead[:-1] = from_r[:-1] + 0.5**halved * δ
            if np.linalg.norm(curve.residual(ahead)) <= np.linalg.norm(F):
                break
        small = norm(curve, ahead - from_r) <= 1e-13
        from_r = ahead
        if small or np.abs(δ).max(initial=0.0) <= 1e-14 * max(1.0, float(np.abs(from_r).max())):
            break
    scale = np.abs(curve.derivative(from_r)[:, :-1]) @ np.maximum(1.0, np.abs(from_r[:-1]))
    F = curve.residual(from_r)
    if np.isfinite(F).all() and (np.abs(F) <= 1e-11 * np.maximum(scale, np.finfo(float).tiny)).all():
        start = point_at(curve, from_r, onward)
        if start is None:
            start = first_point(curve, from_r, onward)
    else:
        start = first_point(curve, y, onward)
        if start is not None and norm(curve, start.y - y) > 1e-3:
            return None  # another place of the curve than was asked for
    if start is None:
        return None
    curve.tests(start)
    λ = start.facts["eigenvalues"]
    if np.abs(λ.real).min() <= CRITICAL * max(float(np.abs(λ).max()), 1e-300):
        # a test function that is zero at the start changes its sign on neither side: begin beside it
        row = curve.weights * start.tangent
        for h in (ASIDE, -ASIDE):
            found = correct(curve, start.y + h * start.tangent, row, float(row @ start.y) + h)
            beside = None if found is None else point_at(curve, found[0], start.tangent)
            if beside is not None and curve.span[0] <= beside.y[-1] <= curve.span[1]:
                curve.tests(beside)
                return beside
    return start


def limits_of(curve: EquilibriumCurve, box: Any) -> list[Limit]:
    """Where the curve ends: at the span of the parameter, and at the box (low, high) of the states."""
    n, (low, high) = curve.family.n, curve.span
    limits = [Limit(n, low, high, "span")]
    if box is not None:
        try:
            least, most = (np.broadcast_to(real_array("box", side), (n,)) for side in box)
        except (TypeError, ValueError) as error:
            raise UsageError("box", given=box, allowed=f"(low, high), a number or {n} numbers each") from error
        limits += [Limit(i, float(least[i]), float(most[i]), "box") for i in range(n)]
    return limits
