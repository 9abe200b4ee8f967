r"""Special equilibria of one parameter, and their normal forms.

Their defining systems are solved by Newton with exact second derivatives.

Fold (limit point), one equation more for (r, μ): F = 0, g = 0 with

    [J  b] [v]   [0]            g_z = −wᵀ (∂J/∂z) v
    [cᵀ 0] [g] = [1]            w from the transposed system

Hopf point, two equations more for (r, μ, ω): the same with J − iω, b, c, v, w, g complex. Branch point, for
(r, μ, β, p):

    F + β p = 0,   pᵀ J = 0,   pᵀ F_μ = 0,   pᵀ p = 1

No determinant is formed. Normal forms (A = J at the point, B and C the second and third derivatives of F):

    fold     a  = ½ ⟨p, B(q, q)⟩                             A q = 0, Aᵀ p = 0, ⟨q, q⟩ = ⟨p, q⟩ = 1
    Hopf     l1 = Re G21/(2ω),  G21 = ⟨p, C(q, q, q̄)⟩ − 2⟨p, B(q, A⁻¹B(q, q̄))⟩ + ⟨p, B(q̄, (2iω − A)⁻¹B(q, q))⟩
             A q = iω q, Aᵀ p = −iω p, ⟨q, q⟩ = ⟨p, q⟩ = 1;  l1 < 0: supercritical, the cycles are stable where
             the focus is lost
    branch   the directions d of the two branches: ⟨p, ∂²F(d, d)⟩ = 0 in the plane [J F_μ] d = 0; a pitchfork
             where μ stands still along one

Sources: Kuznetsov, *Elements of Applied Bifurcation Theory* (2004), chapters 5 and 10; Govaerts, *Numerical Methods
for Bifurcations of Dynamical Equilibria* (2000); Beyn et al., "Numerical continuation, and computation of normal
forms", Handbook of Dynamical Systems 2 (2002).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import lu_factor, lu_solve

from ctrnn.analysis.family import Family
from ctrnn.fields.base import Array, Field

#: Newton's steps for a point
NEWTON = 12
#: Newton ends where a step is this small, relative to the point
CLOSE = 1e-13
#: from so many states on null vectors come from an LU by inverse iteration, not from all singular values
LARGE = 64
INVERSE = 5


def newton(y: Array, system: Callable[[Array], tuple[Array, Array]]) -> Array | None:
    """Newton on a square system: ``system(y)`` gives the residual and its derivative.

    None where it does not converge.
    """
    best: Array | None = None
    size_before = np.inf
    for _ in range(NEWTON):
        G, D = system(y)
        if not (np.isfinite(G).all() and np.isfinite(D).all()):
            return best
        try:
            δ = np.linalg.solve(D, -G)
        except np.linalg.LinAlgError:
            return best
        y = y + δ
        size = float(np.abs(δ).max() / max(1.0, np.abs(y).max()))
        if size <= 1e-7:
            best = y
        if size <= CLOSE or (size <= 1e-9 and size >= 0.5 * size_before):
            return y
        size_before = size
    return best


def border(A: Array, rank: int = 1) -> tuple[Array, Array]:
    """Borders b, c (n, rank) that make [A b; cᵀ 0] regular where A loses that rank.

    They are the singular vectors of the smallest singular values; of a large A, where one is wanted, nearly so.
    """
    if rank == 1 and len(A) > LARGE:
        u, v = _smallest(A)
        return u[:, None], v[:, None]
    U, _, Vh = np.linalg.svd(A)
    return U[:, -rank:], Vh.conj().T[:, -rank:]


def _smallest(A: Array) -> tuple[Array, Array]:
    """Left and right singular vectors of the smallest singular value, by inverse iteration on one LU.

    They are exact to rounding where A is singular to rounding.
    """
    n = len(A)
    M = A + np.finfo(float).eps * np.abs(A).max() * np.eye(n)  # an LU of a singular A has no inverse
    factors = lu_factor(M, check_finite=False)
    adjoint = 2 if np.iscomplexobj(A) else 1
    v = np.random.default_rng(0).normal(size=n).astype(A.dtype)
    u = v
    for _ in range(INVERSE):
        u = lu_solve(factors, v, trans=adjoint, check_finite=False)
        u = u / np.linalg.norm(u)
        v = lu_solve(factors, u, check_finite=False)
        v = v / np.linalg.norm(v)
    # of an exactly singular A the two know each other's phase through A alone: none is needed
    return u, v


def fold(family: Family, r: Array, mu: float) -> tuple[Array, float] | None:
    """The fold near (r, μ): r and μ there."""
    b, c = border(family.J(r, np.array([mu])))

    def system(y: Array) -> tuple[Array, Array]:
        r, mu = y[:-1], y[-1:]
        J, F_mu = family.J(r, mu), family.F_mu(r, mu)
        v, w, g = bordered_null(J, b[:, 0], c[:, 0])
        g_z = -family.rows(r, mu, v, np.zeros(1), w)[0]
        return np.append(family.F(r, mu), g), np.vstack([np.hstack([J, F_mu]), g_z])

    found = newton(np.append(r, mu), system)
    return None if found is None else (found[:-1], float(found[-1]))


def bordered_null(A: Array, b: Array, c: Array) -> tuple[Array, Array, complex | float]:
    """v, w and g of the bordered systems [A b; c* 0] (v, g) = (0, 1) and its transpose, [w* g][A b; c* 0] = (0, 1)."""
    n = len(A)
    M = np.zeros((n + 1, n + 1), dtype=A.dtype)
    M[:n, :n], M[:n, n], M[n, :n] = A, b, c.conj()
    last = np.eye(1, n + 1, n)[0]
    if n > LARGE:
        factors = lu_factor(M, check_finite=False)
        right = lu_solve(factors, last.astype(M.dtype), check_finite=False)
        left = lu_solve(factors, last.astype(M.dtype), trans=2 if np.iscomplexobj(M) else 1, check_finite=False)
        return right[:n], left[:n], right[n]
    right, left = np.linalg.solve(M, last), np.linalg.solve(M.conj().T, last)
    return right[:n], left[:n], right[n]


def hopf(family: Family, r: Array, mu: float, omega: float) -> tuple[Array, float, float] | None:
    """The Hopf point near (r, μ) with the pair ±iω: r, μ and ω there."""
    n = r.size
    b, c = border(family.J(r, np.array([mu])) - 1j * omega * np.eye(n))

    def system(y: Array) -> tuple[Array, Array]:
        r, mu, omega = y[:n], y[n : n + 1], y[n + 1]
        J, F_mu = family.J(r, mu), family.F_mu(r, mu)
        v, w, g = bordered_null(J - 1j * omega * np.eye(n), b[:, 0], c[:, 0])
        return np.concatenate([family.F(r, mu), [g.real, g.imag]]), _hopf_matrix(family, r, mu, J, F_mu, v, w)

    found = newton(np.concatenate([r, [mu, omega]]), system)
    if found is None or not found[n + 1] > 0:
        return None
    return found[:n], float(found[n]), float(found[n + 1])


def _hopf_matrix(family: Family, r: Array, mu: Array, J: Array, F_mu: Array, v: Array, w: Array) -> Array:
    """The derivatives of F, Re g and Im g by (r, μ, ω)."""
    n = r.size
    D = np.zeros((n + 2, n + 2))
    # w* (∂J/∂z) v, with the real and imaginary parts of v as directions
    K = np.array([w.real, w.imag])
    by_re, by_im = (family.rows(r, mu, part.copy(), np.zeros(1), K) for part in (v.real, v.imag))
    g_z = -((by_re[0] - 1j * by_re[1]) + 1j * (by_im[0] - 1j * by_im[1]))
    g_omega = 1j * (w.conj() @ v)
    D[:n, :n], D[:n, n] = J, F_mu[:, 0]
    D[n, : n + 1], D[n + 1, : n + 1] = g_z.real, g_z.imag
    D[n, n + 1], D[n + 1, n + 1] = g_omega.real, g_omega.imag
    return D


def fold_gradient(family: Family, field: Field, r: Array, mu: Array) -> Array:
    """dμ/dw of a fold, (m,): −(p·F_w)/(p·F_μ)."""
    _, p = null_vectors(family.J(r, mu))
    return -field.parameter_vjp(family.t, r, p, family.x(mu)) / float(p @ family.F_mu(r, mu)[:, 0])


def hopf_gradient(family: Family, field: Field, r: Array, mu: Array, omega: float) -> Array:
    """dμ/dw of a Hopf point, (m,).

    −a·(F_w, Re g_w, Im g_w), a being the row of the defining system's inverse that gives μ.
    """
    n, x = r.size, family.x(mu)
    J, F_mu = family.J(r, mu), family.F_mu(r, mu)
    A = J - 1j * omega * np.eye(n)
    b, c = border(A)
    v, w, _ = bordered_null(A, b[:, 0], c[:, 0])
    a = np.linalg.solve(_hopf_matrix(family, r, mu, J, F_mu, v, w).T, np.eye(1, n + 2, n)[0])
    K = np.array([w.real, w.imag])
    by_re, by_im = (field.second_order(family.t, r, part.copy(), K, None, x)[1] for part in (v.real, v.imag))
    g_w = -((by_re[0] - 1j * by_re[1]) + 1j * (by_im[0] - 1j * by_im[1]))
    return -(field.parameter_vjp(family.t, r, a[:n], x) + a[n] * g_w.real + a[n + 1] * g_w.imag)


def branch_point(family: Family, r: Array, mu: float) -> tuple[Array, float, Array] | None:
    """The simple branch point near (r, μ): r, μ and the row p with p [J F_μ] = 0."""
    n = r.size
    whole = np.hstack([family.J(r, np.array([mu])), family.F_mu(r, np.array([mu]))])
    p = np.linalg.svd(whole)[0][:, -1]

    def system(y: Array) -> tuple[Array, Array]:
        r, mu, beta, p = y[:n], y[n : n + 1], y[n + 1], y[n + 2 :]
        whole = np.hstack([family.J(r, mu), family.F_mu(r, mu)])
        D = np.zeros((2 * n + 2, 2 * n + 2))
        D[:n, : n + 1], D[:n, n + 1], D[:n, n + 2 :] = whole, p, beta * np.eye(n)
        D[n : 2 * n + 1, : n + 1], D[n : 2 * n + 1, n + 2 :] = curvature(family, r, mu, p), whole.T
        D[-1, n + 2 :] = 2.0 * p
        return np.concatenate([family.F(r, mu) + beta * p, p @ whole, [p @ p - 1.0]]), D

    found = newton(np.concatenate([r, [mu, 0.0], p]), system)
    if found is None or abs(found[n + 1]) > 1e-8 * max(1.0, float(np.abs(whole).max())):
        return None  # β ≠ 0: the branch point of a system nearby, an imperfection of which this one is
    return found[:n], float(found[n]), found[n + 2 :]


def curvature(family: Family, r: Array, mu: Array, p: Array) -> Array:
    """The second derivatives of p·F by (r, μ), a symmetric matrix (n + 1, n + 1)."""
    n = r.size
    columns = [family.rows(r, mu, e[:n].copy(), e[n:], p)[0] for e in np.eye(n + 1)]
    H = np.array(columns)
    return 0.5 * (H + H.T)


def branch_directions(family: Family, r: Array, mu: float, p: Array, weights: Array) -> Array | None:
    """The tangents d (2, n + 1) of the two branches through a branch point, of length 1 in the weighted norm.

    None where they are not real. In a basis (y1, y2) of the null space of [J F_μ], d = α y1 + β y2 with a11 α² + 2 a12
    αβ + a22 β² = 0, a_ij = ⟨p, ∂²F(y_i, y_j)⟩.
    """
    mu_ = np.array([mu])
    whole = np.hstack([family.J(r, mu_), family.F_mu(r, mu_)])
    scale = 1.0 / np.sqrt(weights)
    y1, y2 = scale * np.linalg.svd(whole * scale)[2][-2:]
    H = curvature(family, r, mu_, p)
    a11, a12, a22 = y1 @ H @ y1, y1 @ H @ y2, y2 @ H @ y2
    size = max(abs(a11), abs(a12), abs(a22))
    inside = a12 * a12 - a11 * a22
    if size == 0.0 or not inside > 1e-12 * size * size:
        return None
    q = -(a12 + np.copysign(np.sqrt(inside), a12))
    # the roots q/a11 and a22/q of a11 x² + 2 a12 x + a22, as pairs (α, β)
    pairs = ((q, a11), (a22, q))
    found = np.array([alpha * y1 + beta * y2 for alpha, beta in pairs])
    return found / np.sqrt((found * found * weights).sum(axis=1))[:, None]


def is_pitchfork(directions: Array, weights: Array) -> bool:
    """Whether the parameter stands still along one of the two branches."""
    return bool(np.abs(directions[:, -1] * np.sqrt(weights[-1])).min() < 1e-6)


def null_vectors(A: Array, shift: complex = 0.0) -> tuple[Array, Array]:
    """q and p of the eigenvalue ``shift`` of A.

    A q = shift q, A* p = conj(shift) p, ⟨q, q⟩ = ⟨p, q⟩ = 1 with ⟨p, q⟩ = Σ p̄_i q_i.
    """
    if len(A) > LARGE:
        p, q = _smallest(A - shift * np.eye(len(A)))
    else:
        U, _, Vh = np.linalg.svd(A - shift * np.eye(len(A)))
        q, p = Vh[-1].conj(), U[:, -1]
    k = int(np.abs(q).argmax())
    q = q * (np.abs(q[k]) / q[k])  # the largest entry is positive: the same vector in any run
    return q, p / np.conj(p.conj() @ q)


def fold_coefficient(family: Family, r: Array, mu: Array) -> float:
    """½ ⟨p, B(q, q)⟩."""
    q, p = null_vectors(family.J(r, mu))
    return float(0.5 * family.rows(r, mu, q, np.zeros(len(mu)), p)[0, : r.size] @ q)


def first_lyapunov(family: Family, r: Array, mu: Array, omega: float) -> float:
    """l1 = Re G21/(2ω)."""
    return float(lyapunov_terms(family, r, mu, omega).sum().real)


def lyapunov_terms(family: Family, r: Array, mu: Array, omega: float) -> Array:
    """The three terms of G21/(2ω), complex: what is left of their real parts is known to a part of the largest."""
    A = family.J(r, mu)
    q, p = null_vectors(A, 1j * omega)
    eye, p_ = np.eye(r.size), p.conj()
    a = np.linalg.solve(A, family.B(r, mu, q, q.conj()))
    b = np.linalg.solve(2j * omega * eye - A, family.B(r, mu, q, q))
    terms = (
        family.p_C(r, mu, p_, q, q, q.conj()),
        -2.0 * (p_ @ family.B(r, mu, q, a)),
        p_ @ family.B(r, mu, q.conj(), b),
    )
    return np.array(terms) / (2.0 * omega)


def crossing(family: Family, r: Array, mu: Array, omega: float) -> float:
    """d Re λ/dμ of the pair λ = ±iω along the branch, ⟨p, (A_r r′ + A_μ) q⟩ with A r′ = −F_μ."""
    A = family.J(r, mu)
    q, p = null_vectors(A, 1j * omega)
    moved = np.linalg.solve(A, -family.F_mu(r, mu)[:, 0])
    turned = family.rows(r, mu, moved, np.ones(1), np.array([p.real, p.imag]))[:, : r.size] @ q
    return float((turned[0] - 1j * turned[1]).real)
