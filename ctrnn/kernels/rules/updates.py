"""Updates of weights in compiled code: SGD and Adam, as torch has them, along a gradient whose length may be clipped.

    SGD     g += λw;  v ← μv + (1 − δ)g  (the first time v ← g);  w −= η (v, or g + μv by Nesterov; g where μ = 0)
    Adam    g += λw, or decoupled w −= ηλw;   m += (1 − β₁)(g − m);   v ← β₂v + (1 − β₂)g²
            w −= η/(1 − β₁ᵏ) m/(√v/√(1 − β₂ᵏ) + ε)                                  k: updates, with this one

(D. P. Kingma & J. Ba, ICLR 2015; I. Loshchilov & F. Hutter, ICLR 2019; I. Sutskever, J. Martens, G. Dahl & G. Hinton,
ICML 2013.) Weights lie in pieces with settings of their own; m and v are torch's, at addresses.
"""

from __future__ import annotations

import numpy as np

from ctrnn.kernels.abi import INLINE, LEAN, doubles
from ctrnn.kernels.compiled import njit
from ctrnn.kernels.products import FAST

#: how weights are updated: not here, by SGD, by Adam
ELSEWHERE, SGD, ADAM = range(3)
#: of a piece: η, λ, whether it is decoupled, β₁, β₂, ε, μ, δ, whether Nesterov's, k before the update
RATE, DECAY, DECOUPLED, BETA1, BETA2, EPSILON, MOMENTUM, DAMPENING, NESTEROV, COUNT = range(10)
SETTINGS = 10
#: and where it begins, ends, and the addresses of m (or SGD's v, 0 without momentum) and v
BEGIN, END, M, V = range(4)
PLACES = 4


@njit(**FAST)
def _square(gradient):
    total = 0.0
    for j in range(gradient.size):
        total += gradient[j] * gradient[j]
    return total


@njit(**LEAN)
def scale(gradient, longest):
    """By what the gradient is multiplied so that it is no longer than that (0: any); NaN where it is not finite."""
    square, largest = _square(gradient), 0.0
    length = np.sqrt(square)
    if not np.isfinite(square):  # it is not, or its square overflows
        for g in gradient:
            if not np.isfinite(g):
                return np.nan
            largest = max(largest, abs(g))
        square = 0.0
        for g in gradient:
            square += (g / largest) ** 2
        length = largest * np.sqrt(square)
    return longest / length if longest > 0.0 and length > longest else 1.0


@njit(**INLINE)
def _sgd(w, g, c, v, s):
    rate, decay, mu = s[RATE], s[DECAY], s[MOMENTUM]
    if mu == 0.0:
        for j in range(w.size):
            w[j] -= rate * (c * g[j] + decay * w[j])
        return
    new, by_v, by_g = 1.0 - s[DAMPENING], 1.0, 0.0
    if s[NESTEROV] != 0.0:
        by_v, by_g = mu, 1.0
    for j in range(w.size):
        d = c * g[j] + decay * w[j]
        u = mu * v[j] + new * d
        v[j] = u
        w[j] -= rate * (by_v * u + by_g * d)


@njit(**INLINE)
def _adam(w, g, c, m, v, s):
    k = s[COUNT] + 1.0
    beta1, beta2, eps = s[BETA1], s[BETA2], s[EPSILON]
    rate, root = s[RATE] / (1.0 - beta1**k), 1.0 / np.sqrt(1.0 - beta2**k)
    onto, keep = (0.0, 1.0 - s[RATE] * s[DECAY]) if s[DECOUPLED] != 0.0 else (s[DECAY], 1.0)
    one, two = 1.0 - beta1, 1.0 - beta2
    for j in range(w.size):
        d = c * g[j] + onto * w[j]
        a = m[j] + one * (d - m[j])
        b = beta2 * v[j] + two * d * d
        m[j], v[j] = a, b
        w[j] = keep * w[j] - rate * a / (np.sqrt(b) * root + eps)


@njit(**LEAN)
def update(kind, w, gradient, c, settings, places):
    """One update of all pieces along c times the gradient."""
    for i in range(len(settings)):
        s, p = settings[i], places[i]
        size = p[END] - p[BEGIN]
        part, g = w[p[BEGIN] : p[END]], gradient[p[BEGIN] : p[END]]
        if kind == SGD:
            _sgd(part, g, c, doubles(p[M], size if s[MOMENTUM] != 0.0 else 0), s)
        else:
            _adam(part, g, c, doubles(p[M], size), doubles(p[V], size), s)
        s[COUNT] += 1.0
