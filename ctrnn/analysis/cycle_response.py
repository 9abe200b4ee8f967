r"""Floquet modes of a cycle, its isostable response, and how what is known of it changes with the field's parameters.

    mode        v_{i+1} = e^{−κ T h_i} G_i v_i            G_i from mesh point to mesh point, κ = log(multiplier)/T
    response    I_i = e^{−κ T h_i} G_iᵀ I_{i+1},  I·v = 1  periodic both, or turned round once where μ is negative

I is the gradient of the isostable coordinate ψ, which near the cycle decays as e^{κt}: a small change δr at t moves it
by I·δr (of μ = 1 it is the phase, and I the phase response). With K the row that a change of F at a stage is multiplied
by, and U the mode at the stages,

    δ log μ = Σ_i e^{−κ T h_i} Σ_j K_ij · δ(T J_ij) U_ij / T

exactly, for the equations of collocation (ctrnn.analysis.collocation): J depends on the parameters, on the orbit and so
on them again. Any functional Σ (wR·δR + wY·δY) + wT δT of the orbit has its gradient by one transposed system.

Sources: Wilson and Moehlis, Phys. Rev. E 94 (2016), for isostables of cycles; Kuznetsov (2004), chapter 10.
"""

from __future__ import annotations

import numpy as np

from ctrnn.analysis import collocation
from ctrnn.analysis.collocation import Linear, Orbit
from ctrnn.analysis.family import NONE, Family
from ctrnn.fields.base import Array, Field


def linear_of(field: Field, x: Array | None, orbit: Orbit) -> Linear:
    """The equations at a cycle, its parameters held."""
    return Linear(Family(field, (), x), Orbit(orbit.s, orbit.R, orbit.Y, orbit.T, NONE))


def floquet_mode(linear: Linear, exponent: complex, is_negative: bool) -> tuple[Array, Array]:
    """v and I, (N + 1, n) on the mesh, of the exponent κ; |v_0| = 1 and I·v = 1.

    They are null vectors of cyclic systems, found by inverse iteration: products of G would drown a fast mode in the
    slow ones.
    """
    orbit = linear.orbit
    decay = np.exp(-exponent * orbit.T * orbit.h)
    turn = -1.0 if is_negative else 1.0
    v = _cyclic_null(linear.G * decay[:, None, None], turn)
    # the same from the end: I of the point before
    back = np.transpose(linear.G, (0, 2, 1)) * decay[:, None, None]
    response = _cyclic_null(back[::-1], turn)[::-1]
    v = np.vstack([v, turn * v[:1]])
    response = np.vstack([turn * response[-1:], response])
    k = int(np.abs(v[0]).argmax())
    v = v * (np.abs(v[0, k]) / v[0, k]) / np.linalg.norm(v[0])
    return v, response / (response * v).sum(axis=1)[:, None]


def _cyclic_null(A: Array, turn: float) -> Array:
    """x (N, n) with x_{i+1} = A_i x_i and x_N = turn x_0."""
    from scipy.sparse import bsr_array, csc_array
    from scipy.sparse.linalg import splu

    N, n = A.shape[:2]
    at = np.arange(N)
    eye = np.broadcast_to(np.eye(n), (N, n, n)).copy()
    eye[-1] *= turn
    blocks, place = np.concatenate([eye, -A]), np.concatenate([(at + 1) % N, at])
    order = np.lexsort((place, np.tile(at, 2)))
    if N == 1:
        whole = csc_array(eye[0] - A[0])
    else:
        whole = csc_array(bsr_array((blocks[order], place[order], 2 * np.arange(N + 1)), shape=(N * n, N * n)))
    shift = 1e-14 * float(np.abs(A).max())
    from scipy.sparse import eye_array

    factors = splu(csc_array(whole + shift * eye_array(N * n, dtype=whole.dtype)))
    x = np.random.default_rng(0).normal(size=N * n).astype(whole.dtype)
    for _ in range(4):
        x = factors.solve(x)
        x = x / np.linalg.norm(x)
    return np.asarray(x.reshape(N, n))


def gradient_of(linear: Linear, field: Field, wR: Array, wY: Array, wT: float) -> Array:
    """d/dw (m,) of a functional Σ (wR·R + wY·Y) + wT T of the cycle."""
    orbit, family = linear.orbit, linear.family
    _, b, a, _, _ = collocation.gauss()
    N, m, n = orbit.Y.shape
    phase = collocation.phase_row(orbit, orbit, family)
    factors = linear.matrix([phase])
    turned = np.einsum("ip,ipw->iw", wY.reshape(N, m * n), linear.X)
    right = np.append((turned[:, :n] + wR).ravel(), turned[:, n].sum() + wT)
    λ = factors.solve(right, transposed=True)  # type: ignore[attr-defined]
    ends, held = λ[: N * n].reshape(N, n), float(λ[N * n])
    onto = wY.reshape(N, m * n) - held * phase.wY.reshape(N, m * n) + np.einsum("ip,ipw->iw", ends, linear.bJ)
    K = stage_rows(linear, ends, onto)
    x = family.x(NONE)
    rows = zip(orbit.Y.reshape(-1, n), K.reshape(-1, n), strict=True)
    return np.asarray(sum(field.parameter_vjp(family.t, r, k, x) for r, k in rows))


def stage_rows(linear: Linear, ends: Array, onto: Array | None = None) -> Array:
    """K (N, m, n): what a change of F at each stage is multiplied by, in Σ ends·(change of R_{i+1}) + onto·(of Y)."""
    orbit = linear.orbit
    _, b, a, _, _ = collocation.gauss()
    N, m, n = orbit.Y.shape
    J = linear.family.J(orbit.Y.reshape(-1, n), orbit.mu).reshape(N, m, n, n)
    h = orbit.T * orbit.h
    A = np.eye(m * n) - np.einsum("i,jl,ilpq->ijplq", h, a, J).reshape(N, m * n, m * n)
    onto = np.einsum("ip,ipw->iw", ends, linear.bJ) if onto is None else onto
    back = np.linalg.solve(A.transpose(0, 2, 1), onto[..., None]).reshape(N, m, n)
    direct = np.einsum("j,in->ijn", b, ends)
    return np.asarray(h[:, None, None] * (direct + np.einsum("lj,iln->ijn", a, back)))


def log_multiplier_gradient(linear: Linear, field: Field, exponent: complex, is_negative: bool) -> Array:
    """d log μ/dw (m,), complex for a complex multiplier."""
    orbit, family = linear.orbit, linear.family
    N, m, n = orbit.Y.shape
    v, response = floquet_mode(linear, exponent, is_negative)
    U = np.einsum("ipn,in->ip", linear.X[:, :, :n], v[:-1]).reshape(N, m, n)
    decay = np.exp(-exponent * orbit.T * orbit.h)
    K = stage_rows(linear, response[1:]) * decay[:, None, None]
    flat = orbit.Y.reshape(-1, n)
    J = family.J(flat, NONE).reshape(N, m, n, n)
    wT = complex(np.einsum("ijn,ijnk,ijk->", K, J, U)) / orbit.T
    x = family.x(NONE)
    wY, direct = np.zeros((N * m, n), dtype=complex), np.zeros(field.m, dtype=complex)
    for i, (r, u, k) in enumerate(zip(flat, U.reshape(-1, n), K.reshape(-1, n), strict=True)):
        rows = np.array([k.real, k.imag])
        for part, unit in ((u.real, 1.0), (u.imag, 1j)):
            if not np.any(part):
                continue
            R, G = field.second_order(family.t, r, part.copy(), rows, None, x)[:2]
            wY[i] += unit * (R[0] + 1j * R[1])
            direct += unit * (G[0] + 1j * G[1])
    none, stages = np.zeros((N, n)), wY.reshape(N, m, n)
    through = gradient_of(linear, field, none, stages.real, wT.real)
    if np.abs(stages.imag).max() > 0 or wT.imag:
        through = through + 1j * gradient_of(linear, field, none, stages.imag, wT.imag)
    return np.asarray(direct + through)


def amplitude_gradient(linear: Linear, field: Field, state: int) -> Array:
    """d(largest − least value of a state)/dw (m,): at an extremum the time of it does not matter."""
    orbit = linear.orbit
    N, m, n = orbit.Y.shape
    c = collocation.gauss()[0]
    nodes = np.concatenate([[0.0], c, [1.0]])
    wR, wY = np.zeros((N, n)), np.zeros((N, m, n))
    for sign in (1.0, -1.0):
        i, θ = _extremum(linear, state, sign)
        # the polynomial through both ends and the stages
        weights = [np.prod([(θ - o) / (node - o) for o in nodes if o != node]) for node in nodes]
        wR[i, state] += sign * weights[0]
        wR[(i + 1) % N, state] += sign * weights[-1]
        wY[i, :, state] += sign * np.array(weights[1:-1])
    return gradient_of(linear, field, wR, wY, 0.0)


def extent(path: Array) -> Array:
    """Largest minus least value of each state (n,), of values (K, n) once round, by parabolas through the extrema."""

    def top(values: Array) -> Array:
        k, j = values.argmax(axis=0), np.arange(values.shape[1])
        before, at, after = values[k - 1, j], values[k, j], values[(k + 1) % len(values), j]
        bend = before - 2.0 * at + after
        slope = 0.5 * (after - before)
        return np.asarray(at - np.where(bend < 0, slope**2 / np.where(bend < 0, 2.0 * bend, 1.0), 0.0))

    return top(path) + top(-path)


def _extremum(linear: Linear, state: int, sign: float) -> tuple[int, float]:
    """The interval and the place in it, 0 to 1, where a state is largest (sign 1) or least."""
    from scipy.optimize import minimize_scalar

    orbit = linear.orbit

    def value(s: float) -> float:
        return -sign * float(collocation.evaluate(orbit, linear.F, np.array([s]))[0, state])

    grid = np.linspace(0.0, 1.0, 20 * len(orbit.R) + 1)[:-1]
    k = int((sign * collocation.evaluate(orbit, linear.F, grid)[:, state]).argmax())
    step = grid[1]
    s = minimize_scalar(value, bounds=(grid[k] - step, grid[k] + step), method="bounded", options={"xatol": 1e-12}).x
    s = float(np.mod(s, 1.0))
    i = int(np.clip(np.searchsorted(orbit.s, s, side="right") - 1, 0, len(orbit.R) - 1))
    return i, (s - orbit.s[i]) / orbit.h[i]
