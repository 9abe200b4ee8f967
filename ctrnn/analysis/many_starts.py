r"""Newton's method from many starts at once, and the descent to minima of the speed.

    at rest     J δ = −F,  r ← r + α δ                           α = 1, ½, ¼, … until ‖F‖ falls, for each start its own
    descent     (JᵀJ + λ I) δ = −Jᵀ F                            of q = ½‖F‖², Levenberg–Marquardt, all starts together
    slow        (JᵀJ + F·F_rr + λ I) δ = −Jᵀ F                   a minimum with q > 0, by Newton's method on q with the
                                                                 exact second derivatives, from where a descent ended

All starts take a step together: F and J of all of them in one compiled call, one batch of products and factorisations.
Newton's method gives up where ‖F‖ hardly falls: J is nearly singular along its way. The descent goes on from there;
only a minimum of q ends it, at rest or slow. Starts that descend into the same minimum go on as one.

Source: Sussillo and Barak, "Opening the black box", Neural Computation 25 (2013); Golub and Sussillo, J. Open Source
Software 3 (2018); Nocedal and Wright, *Numerical Optimization* (2006), section 10.3.
"""

from __future__ import annotations

import numpy as np

from ctrnn.analysis.family import NONE, Family
from ctrnn.analysis.linear import shortest, solve
from ctrnn.fields.base import Array
from ctrnn.gradients.rest.equilibrium import rest_scale

#: steps of Newton's method, of the descent to a point of rest, and to a slow one, which comes nearer by a factor a step
NEWTON_STEPS, TO_REST, TO_SLOW = 100, 300, 1000
#: a start is given up where ‖F‖ falls by less than this factor in so many steps
PATIENCE, HARDLY = 5, 0.8
#: doubles that the Jacobians of the starts may take at a time
BATCH = 4_000_000
#: the longest step of the descent, over max(1, |r|): a longer one might go over a ridge into another valley
STRIDE = 0.2
#: a descent ends where the cosine between F and the columns of J is about this, and where q is rounding
LEVEL, ROUNDING = 1e-7, 1e-28
#: descents whose cosine is below MEETS and that are this near, over max(1, ‖r‖), are one; looked at every so many steps
MEETS, WITHIN, EVERY = 3e-2, 1e-4, 10
#: Newton's method is at the minimum of q where its step is below this, over max(1, |r|)
FLAT = 1e-11


def newton_all(family: Family, starts: Array, tol: float) -> tuple[Array, Array]:
    """Where Newton's method leads from each start (K, n), and whether F is zero there.

    |F_i| ≤ tol Σ_j |J_ij| max(1, |r_j|).
    """
    R, found = starts.copy(), np.zeros(len(starts), dtype=bool)
    size = max(1, BATCH // starts.shape[1] ** 2)
    with np.errstate(all="ignore"):
        for first in range(0, len(R), size):
            part = slice(first, first + size)
            R[part], found[part] = _newton(family, R[part], tol)
    return R, found


def _newton(family: Family, R: Array, tol: float) -> tuple[Array, Array]:
    found, going = np.zeros(len(R), dtype=bool), np.arange(len(R))
    F = family.F(R, NONE)
    going = going[np.isfinite(F).all(axis=1)]
    before = np.full(len(R), np.inf)
    for step in range(NEWTON_STEPS):
        if step % PATIENCE == 0:
            # where ‖F‖ has hardly fallen in so many steps, they crept towards a minimum of it that is not zero
            size = np.linalg.norm(F[going], axis=1)
            creeps = (size > HARDLY * before[going]) & ~found[going]
            before[going] = size
            going = going[~creeps]
        if not going.size:
            break
        J = family.J(R[going], NONE)
        scale = np.einsum("kij,kj->ki", np.abs(J), np.maximum(1.0, np.abs(R[going])))
        found[going] = (np.abs(F[going]) <= tol * scale).all(axis=1) & np.isfinite(J).all(axis=(1, 2))
        δ = _solved(J, -F[going])
        speed = np.linalg.norm(F[going], axis=1)
        α, open_, moved = np.ones(going.size), speed > 0.0, np.zeros(going.size, dtype=bool)
        while open_.any():
            k = np.flatnonzero(open_)
            ahead = R[going[k]] + α[k, None] * δ[k]
            F_ahead = family.F(ahead, NONE)
            better = np.linalg.norm(F_ahead, axis=1) <= (1.0 - 1e-4 * α[k]) * speed[k]  # False for NaN
            R[going[k[better]]], F[going[k[better]]] = ahead[better], F_ahead[better]
            moved[k[better]], open_[k[better]] = True, False
            α[k[~better]] *= 0.5
            # once at rest only full steps: they polish
            open_ &= np.where(found[going], α >= 1.0, α >= 2.0**-30)
        going = going[moved]
    return R, found


def _solved(J: Array, F: Array) -> Array:
    """δ of J δ = F for each; the shortest in the sense of least squares where a J is singular to working precision."""
    try:
        δ = np.linalg.solve(J, F[..., None])[..., 0]
    except np.linalg.LinAlgError:
        δ = np.full(F.shape, np.nan)
    # a singular J shows as a step that is not finite or that is beyond what rounding allows
    size = np.abs(J).sum(axis=2).max(axis=1) * np.abs(δ).max(axis=1)
    bad = ~np.isfinite(δ).all(axis=1) | (size > 1e13 * np.abs(F).max(axis=1))
    for k in np.flatnonzero(bad):
        found = shortest(J[k], F[k])
        if found is not None:
            δ[k] = found[0]
    return δ


def descend_all(family: Family, starts: Array, most: int) -> Array:
    """The minima of ½‖F‖² (K, n), at rest or not, that the starts lead to; NaN for what has no end in ``most`` steps.

    Starts that end in the same minimum have the same numbers.
    """
    ends, size = starts.copy(), max(1, BATCH // starts.shape[1] ** 2)
    with np.errstate(all="ignore"):
        for first in range(0, len(ends), size):
            part = slice(first, first + size)
            ends[part] = _descended(family, ends[part], most)
    return ends


def slow_points(family: Family, ends: Array, tol: float) -> tuple[Array, Array]:
    """The minima of ½‖F‖² where F is not zero near some ends of descents: (K, n), and which ends they are."""
    n = ends.shape[1]
    tried = np.empty((0, n))
    minima: list[Array | None] = []
    kept: list[Array] = []
    origin: list[int] = []
    with np.errstate(all="ignore"):
        for k in np.flatnonzero(np.isfinite(ends).all(axis=1)):
            r = ends[k]
            near = np.flatnonzero(np.linalg.norm(tried - r, axis=1) <= WITHIN * max(1.0, float(np.linalg.norm(r))))
            if not near.size:
                tried, near = np.append(tried, r[None], axis=0), np.array([len(tried)])
                minima.append(_minimum(family, r, tol))
            found = minima[near[0]]
            if found is not None:
                kept.append(found)
                origin.append(int(k))
    return np.array(kept).reshape(-1, n), np.array(origin, dtype=int)


def _descended(family: Family, R: Array, most: int) -> Array:
    """Levenberg and Marquardt's steps of all starts together, until q falls no more.

    NaN for those that are still on their way.
    """
    n = R.shape[1]
    R, F = R.copy(), family.F(R, NONE)
    q, λ = (F * F).sum(axis=1), np.full(len(R), 1e-3)
    going, same = np.flatnonzero(np.isfinite(q)), np.arange(len(R))
    for step in range(1, most + 1):
        if not going.size:
            break
        J = family.J(R[going], NONE)
        g = (J.transpose(0, 2, 1) @ F[going][..., None])[..., 0]
        H = J.transpose(0, 2, 1) @ J
        unit = np.einsum("kii->k", H) / n
        # by largest entries: a square would be zero where F is as small as 1e−170, on its way to infinity
        cosine = np.abs(g).max(axis=1) / (np.abs(J).max(axis=(1, 2)) * np.abs(F[going]).max(axis=1))
        H += (λ[going] * unit)[:, None, None] * np.eye(n) + np.finfo(float).tiny * np.eye(n)
        δ = -_solved(H, g)
        longest = STRIDE * np.maximum(1.0, np.abs(R[going]).max(axis=1))
        ahead = R[going] + δ * np.minimum(1.0, longest / np.maximum(np.abs(δ).max(axis=1), 1e-300))[:, None]
        F_ahead = family.F(ahead, NONE)
        q_ahead = (F_ahead * F_ahead).sum(axis=1)
        better = q_ahead < q[going]
        here = going[better]
        R[here], F[here], q[here] = ahead[better], F_ahead[better], q_ahead[better]
        λ[here] = np.maximum(0.2 * λ[here], 1e-9)
        λ[going[~better]] *= 5.0
        scale = unit * np.maximum(1.0, (R[going] ** 2).sum(axis=1))
        ends = (cosine <= LEVEL) | (λ[going] >= 1e9) | (q[going] <= ROUNDING * scale)
        meets = going[~ends & (cosine <= MEETS)]
        going = going[~ends]
        if step % EVERY == 0 and meets.size > 1:
            for k, first in zip(meets, _first_of(R[meets]), strict=True):
                same[k] = meets[first]
            going = going[same[going] == going]
    R[going] = np.nan  # still on their way, to infinity perhaps
    while (same[same] != same).any():
        same = same[same]
    return np.asarray(R[same])


def _first_of(R: Array) -> Array:
    """For each row the number of the first that is as near to it as WITHIN."""
    first = np.arange(len(R))
    open_ = np.ones(len(R), dtype=bool)
    for k in range(len(R)):
        if open_[k]:
            near = open_ & (np.linalg.norm(R - R[k], axis=1) <= WITHIN * max(1.0, float(np.linalg.norm(R[k]))))
            first[near], open_[near] = k, False
    return first


def _minimum(family: Family, r: Array, tol: float) -> Array | None:
    """The minimum of q near r, by Newton's method with q's own Hessian.

    None where there is none, or F vanishes there.
    """
    n, λ = r.size, 0.0
    F = family.F(r, NONE)
    for _ in range(NEWTON_STEPS):
        J = family.J(r, NONE)
        if (np.abs(F) <= 1e3 * tol * rest_scale(J, r)).all():
            return None  # a point of rest, which Newton's method has found
        g = F @ J
        H = J.T @ J + np.array([family.rows(r, NONE, e.copy(), NONE, F)[0] for e in np.eye(n)])
        H = 0.5 * (H + H.T)
        if not np.isfinite(H).all():
            return None
        low = float(np.linalg.eigvalsh(H)[0])
        unit = float(np.abs(H).max())
        shift = max(λ * unit, 1e-3 * unit - low if low <= 0 else 0.0)
        δ = solve(H + shift * np.eye(n), -g)
        if δ is None:  # q is flat
            return None
        if np.abs(δ).max() <= FLAT * max(1.0, float(np.abs(r).max())):
            return r + δ if low > 0 and shift == 0.0 else None
        ahead = r + δ
        F_ahead = family.F(ahead, NONE)
        if not np.isfinite(F_ahead).all() or F_ahead @ F_ahead > F @ F * (1 + 1e-14):
            λ = max(10.0 * λ, 1e-3)
            if λ > 1e12:
                return None
            continue
        if np.linalg.norm(ahead - r) > 1e6 * max(1.0, float(np.abs(r).max())):
            return None
        λ = 0.1 * λ if λ > 1e-6 else 0.0
        r, F = ahead, F_ahead
    return None
