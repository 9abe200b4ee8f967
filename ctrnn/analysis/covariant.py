r"""Covariant Lyapunov vectors.

They are the directions that the linearised flow carries into each other, each growing at its own exponent.

    forward     Φ_j Q_{j−1} = Q_j R_j                        the frames that give the exponents
    backward    C_{j−1} = R_j⁻¹ C_j, columns of length 1     from any upper triangular C at the end
    vectors     V_j = Q_j C_j

The frames forget their start and the triangular matrices their end, so both ends of a run are left out.

Source: Ginelli, Poggi, Turchi, Chaté, Livi and Politi, "Characterizing dynamics with covariant Lyapunov vectors",
Phys. Rev. Lett. 99 (2007).
"""

from __future__ import annotations

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.memory import claim

#: the part of the run at each end that is left out
FORGET = 0.2
#: in the place of a zero that is divided by: the inverse has a square, too
TINY = 1e-150


def covariant_vectors(frames: list[Array], factors: list[Array], t: Array) -> tuple[Array, Array]:
    """V (K, n, k) and which of the times t they belong to.

    (K,), from the frames Q_j (J + 1 of them, at t) and R_j between.
    """
    k = frames[0].shape[1]
    low, high = t[0] + FORGET * (t[-1] - t[0]), t[-1] - FORGET * (t[-1] - t[0])
    claim("covariant", 8.0 * len(frames) * frames[0].size, "a shorter t_span, or fewer vectors (k)")
    C = np.eye(k)
    vectors, places = [], []
    for j in range(len(factors), -1, -1):
        if j < len(factors):
            # of a map that is singular R has a zero: that direction is the one it came from
            R = factors[j] + np.diag(np.where(np.diag(factors[j]) == 0.0, TINY, 0.0))
            C = np.linalg.solve(R, C)
            C = C / np.abs(C).max(axis=0)
            C = C / np.linalg.norm(C, axis=0)
        if low <= t[j] <= high:
            vectors.append(frames[j] @ C)
            places.append(j)
    return np.array(vectors[::-1]).reshape(-1, frames[0].shape[0], k), np.array(places[::-1], dtype=int)
