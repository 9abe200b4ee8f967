"""The delay equation of Mackey and Glass, solved to rounding by the method of steps.

    ds/dt = f(s(t − τ)) − γ s,      f(s) = β s/(1 + sⁿ)

Time is cut into intervals of length h = τ/q. On each the delayed s is what it was q intervals before, so that the
equation is linear in s; by collocation at the N + 1 Chebyshev points of an interval it is one system of equations, the
same in all of them:

    (D + γ I) s = f(s of q intervals before)  at all points but the first,    s = the last value before  at the first

with D the matrix of differentiation (L. N. Trefethen, Spectral Methods in MATLAB, 2000, ch. 6). Inside the intervals s
is smooth, so that the error falls geometrically with N: for τ = 17 it is at rounding for N = 96 and q = 1. Values in
between come from the same polynomial. The kinks of s at 0, τ, 2τ, … lie at ends of intervals, where no polynomial
crosses them. The polynomials' last coefficients are looked at: where they have not died away, the answer is refused.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.polynomial import chebyshev

from ctrnn.errors import UsageError
from ctrnn.learning.tasks.task import Array
from ctrnn.numbers import positive, real_array, whole

#: size of the last coefficients, beside the largest s, above which the polynomials have not resolved s
RESOLVED = 1e-8
#: points in an interval, and intervals, at most
MOST, INTERVALS = 1000, 100_000


def mackey_glass_series(
    history: Array,
    t: Array,
    beta: float = 0.2,
    gamma: float = 0.1,
    n: float = 10.0,
    tau: float = 17.0,
    points: int | None = None,
) -> Array:
    """S(t) from constant histories.

    Parameters
    ----------
    history : (B,) array
        S at all t ≤ 0, positive.
    t : (T,) array
        Increasing times, from 0 on.
    beta, gamma, n, tau : float
        As in the formula; τ in the unit of t, β and γ in its inverse.
    points : int, optional
        N, points in an interval less one; None: as many as f, which is the steeper the larger n, needs.

    Returns
    -------
    (B, T) array
        S at these times.

    Raises
    ------
    UsageError
        For numbers that are not positive, times out of order, and points that are too few.

    Examples
    --------
    >>> s = mackey_glass_series(np.array([0.5]), np.array([10.0]))  # the delayed s is still the history
    >>> rest = 2.0 * 0.5 / (1.0 + 0.5**10)
    >>> bool(np.isclose(s[0, 0], rest + (0.5 - rest) * np.exp(-0.1 * 10.0), rtol=1e-13))
    True
    """
    beta, gamma, n, tau = (
        positive(name, value) for name, value in (("beta", beta), ("gamma", gamma), ("n", n), ("tau", tau))
    )
    N = int(min(max(96, 32 + 8 * n), MOST)) if points is None else whole("points", points, 4)
    history, t = real_array("history", history), real_array("t", t)
    if history.ndim != 1 or not (np.isfinite(history) & (history > 0)).all():
        raise UsageError("history", given=history, allowed="positive numbers")
    if t.ndim != 1 or not t.size or not t[0] >= 0 or not np.isfinite(t).all() or (np.diff(t) < 0).any():
        raise UsageError("t", given=t, allowed="increasing times, from 0 on")
    q = max(1.0, np.ceil(tau * max(beta, gamma) / 4.0))  # may be infinite
    h = tau / q
    if not t[-1] < INTERVALS * h:
        given = f"tau = {tau:g} with beta = {beta:g} and gamma = {gamma:g}, over {t[-1]:g} units of t"
        raise UsageError("tau", given=given, allowed=f"a delay and rates that make at most {INTERVALS:,} intervals")
    last = int(t[-1] / h)
    nodes, A = _collocation(N, gamma, h)
    solve, to_coefficients = np.linalg.inv(A).T, np.linalg.inv(chebyshev.chebvander(nodes, N)).T
    before = deque([np.repeat(history[:, None], N + 1, axis=1)] * min(int(q), last + 1))
    found, interval = np.empty((history.size, t.size)), np.floor(t / h).astype(int)
    for k in range(last + 1):
        delayed = before.popleft()
        with np.errstate(over="ignore"):  # f = 0 there
            right = beta * delayed / (1.0 + delayed**n)
        right[:, 0] = before[-1][:, -1] if before else delayed[:, -1]
        s = right @ solve
        before.append(s)
        coefficients = s @ to_coefficients
        if not abs(coefficients[:, -4:]).max() <= RESOLVED * abs(s).max():
            if points is not None:
                raise UsageError("points", given=points, allowed="enough for s to be smooth between", hint="None")
            raise UsageError("n", given=n, allowed=f"an exponent that {MOST} points an interval resolve", hint="n=10")
        now = interval == k
        if now.any():
            found[:, now] = coefficients @ chebyshev.chebvander(2.0 * (t[now] / h - k) - 1.0, N).T
    return found


def _collocation(N: int, gamma: float, h: float) -> tuple[Array, Array]:
    """The N + 1 points in [−1, 1], in increasing order, and the matrix of the equation on them."""
    k = np.arange(N + 1)
    z = -np.cos(np.pi * k / N)
    c = np.where((k == 0) | (k == N), 2.0, 1.0) * (-1.0) ** k
    # z_i − z_j by a product of sines, which loses no digits
    apart = 2.0 * np.sin(np.pi * (k[:, None] + k) / (2 * N)) * np.sin(np.pi * (k[:, None] - k) / (2 * N))
    np.fill_diagonal(apart, 1.0)
    D = np.outer(c, 1.0 / c) / apart
    np.fill_diagonal(D, 0.0)
    np.fill_diagonal(D, -D.sum(axis=1))
    A = D * (2.0 / h) + gamma * np.eye(N + 1)
    A[0] = 0.0
    A[0, 0] = 1.0
    return z, A
