"""Weights times sources: where ∂r⁺/∂w of a step is an outer product, and its two factors.

    C[g, i, c] = Σ_s D_s[g, i] h_s[c]        g: a row of weights, c: its sources, s: the stages of the step

In a network each row g of Ŵ = [W U b] multiplies the same sources ŝ = [s; x; 1], so that C of a step with one stage is
D ⊗ ŝ, the Kronecker product that KF-RTRL and sketches live on; a stage more is a term more. Rows that multiply other
sources (the candidate of a GRU, units with lists of few weights) are sets of their own. Which rows go together is read
off F_w at some random points once, and looked at again in each step.
"""

from __future__ import annotations

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.rules.step import Lane, Step
from ctrnn.gradients.rules.traces import by_entries, coloured
from ctrnn.memory import claim

#: random points at which F_w is looked at, and the distance from an outer product, relative, that is taken for rounding
PROBES, ROUNDING = 4, 1e-9


class Outer:
    """Sets of groups of parameters that share their sources.

    sets : for each set the numbers of its groups
    others : numbers of the groups that are no outer products
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        sources, product = _probed(lane)
        seen = np.isfinite(sources).any(axis=(0, 2))
        self.others = np.flatnonzero(~(product & seen))
        self.sets: list[Array] = []
        left = np.flatnonzero(product & seen)
        while left.size:
            first, rest = sources[:, left[:1]], sources[:, left]
            both = np.isfinite(first + rest).all(axis=2)
            near = abs(np.where(both[:, :, None], first - rest, 0.0)).max(axis=(0, 2)) <= ROUNDING
            same = near & both.any(axis=0)
            self.sets.append(left[same])
            left = left[~same]
        #: which states each group acts on, and rows that tell all of C of a step of one explicit stage: one a colour
        self.acted, self.colour, self.rows = _by_colours(lane)

    def factors(self, step: Step) -> list[tuple[Array, Array]]:
        """Of each set D (groups of the set, n, s) and H (columns, s), with C = Σ_s D_s ⊗ h_s."""
        parts = step.stages_of_C if self.rows is None else [step.left(self.rows)[1]]
        found = []
        for members in self.sets:
            terms = [outer_product(C if members.size == len(C) else C[members]) for C in parts]
            if not all(exact for _, _, exact in terms):
                raise UsageError(
                    "method",
                    given="a step whose ∂r⁺/∂w is no longer weights times sources",
                    allowed="a field where it is so everywhere",
                    hint='method="uoro", or "sketch" of full rank',
                )
            D = np.stack([D for D, _, _ in terms], axis=2)
            if self.rows is not None:
                D = D[:, self.colour] * self.acted[members, :, None]
            found.append((D, np.stack([h for _, h, _ in terms], axis=1)))
        return found


def outer_product(C: Array) -> tuple[Array, Array, bool]:
    """D (g, n), h (columns,) of unit length or 0, and whether C (g, n, columns) is D ⊗ h to rounding.

    >>> D, h, exact = outer_product(np.array([[[3.0, 4.0], [6.0, 8.0]]]))
    >>> D, h, exact
    (array([[ 5., 10.]]), array([0.6, 0.8]), True)
    """
    z = np.random.default_rng(0).normal(size=C.shape[2])  # no product but this one has C z = D (h · z)
    along = C @ z
    g, i = np.unravel_index(abs(along).argmax(), along.shape)
    length = np.linalg.norm(C[g, i])
    if not length > 0.0:
        return np.zeros(C.shape[:2]), np.zeros(C.shape[2]), bool(length == 0.0 and not C.any())
    h = C[g, i] / length
    D = C @ h
    return D, h, bool(abs(along - D * (h @ z)).max() <= ROUNDING * abs(along[g, i]))


def _by_colours(lane: Lane) -> tuple[Array, Array, Array | None]:
    """Which states each group acts on (groups, n), the colour of each state, and a row for each colour.

    No rows for steps of more stages, and where a group acts on several states of one colour.
    """
    F_w = lane.field._pattern()[1]
    states, entries = by_entries(F_w, lane).nonzero()
    acted: Array = np.zeros((lane.groups, lane.n), dtype=bool)
    acted[entries // lane.columns, states] = True
    colour = coloured(F_w)
    rows: Array = np.eye(int(colour.max(initial=-1)) + 1, dtype=bool)[colour].T
    fits = lane.one_stage and len(rows) < lane.n and (acted.astype(int) @ rows.T.astype(int) <= 1).all()
    return acted, colour, rows.astype(float) if fits else None


def _probed(lane: Lane) -> tuple[Array, Array]:
    """The sources of each group at random points (PROBES, groups, columns), NaN where F_w is 0; whether they are any.

    Sources are up to a factor: their largest is 1.
    """
    claim("method", 8.0 * lane.n * (lane.n + lane.groups * lane.columns), 'method="snap-1", "rflo" or "tbptt"')
    rng = np.random.default_rng(0)
    sources = np.full((PROBES, lane.groups, lane.columns), np.nan)
    product = np.ones(lane.groups, dtype=bool)
    for probe in range(PROBES):
        r, x = (rng.uniform(0.1, 1.0, (1, lane.s, size)) for size in (lane.n, lane.bound.x_stride))
        step = Step(lane, np.ones(1), np.full((1, lane.s), 0.5), r, x)
        K = np.zeros((1, lane.s, lane.n, lane.n))
        K[0, 0] = np.eye(lane.n)
        F_w = np.zeros((lane.groups, lane.n, lane.columns))
        step.add_parameter_part(K, F_w)
        for g in range(lane.groups):
            _, h, exact = outer_product(F_w[g : g + 1])
            product[g] &= exact
            if h.any():
                sources[probe, g] = h / h[abs(h).argmax()]
    return sources, product
