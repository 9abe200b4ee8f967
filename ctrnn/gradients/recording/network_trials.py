"""Trials of one network through the same fixed steps: the kernels of ctrnn.kernels.batch.network_batch for all trials, and the drive around them.

    D = X̂ [U b]ᵀ, X̂ = [X 1]         [Ū b̄] += D̄ᵀ X̂,    X̄ = D̄ U

The trials are divided into parts of a few, and the parts among threads; sums over parts are taken in their order, whoever was quicker. No BLAS takes part, so that
a trial's states and λ are the same in any company, and nothing is to be said to its threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.fields.cells import Cell
from ctrnn.gradients.recording.scratch import room
from ctrnn.threads import beside, share, workers

#: flops below which a second thread costs more than it saves
WORTH_THREADS = 3e6
#: flops below which a thread beside the one trial's costs more than it saves
WORTH_TEAM = 4e7
#: flops of a unit apart from products, most of them in φ
UNIT_FLOPS = 60
#: the trials that go together: as many as a tile has rows, more where they are small; and no more parts than that, as each has a W̄ of its own
PART_TRIALS, PART_NUMBERS, MOST_PARTS = 4, 128, 32
#: rows of the products that make W̄
PANEL_ROWS = 128


class Network:
    """A rate network and an explicit method, filled up for the kernels.

    W (n, n), U and b side by side (n, nx + 1), tau (n,); the a (s, s), b (s,) of the method; trains_tau: whether the way back gives τ̄
    """

    def __init__(
        self, cell: Cell, method: tuple[Array, Array], W: Array, U: Array, tau: Array, trains_tau: bool = False
    ) -> None:
        from ctrnn.kernels.batch.tiles import padded

        self.cell, (self.a, self.b), self.trains_tau = cell, method, trains_tau
        self.n, self.inputs = len(W), U.shape[1] - 1
        self.width = wide = padded(self.n)
        self.W, self.WT, self.UT = _filled(W, wide), _filled(W.T, wide), _filled(U.T, wide)
        self.U, self.tau = _filled(U, padded(U.shape[1])), _filled(tau, wide, 1.0)

    @property
    def scheme(self) -> Any:
        from ctrnn.kernels.batch.network_batch import Scheme

        made = self.cell.module
        by_theta = made.by_theta.address if self.trains_tau else 0
        return Scheme(made.source.address, made.rate.address, made.partials.address, by_theta, self.a, self.b)

    def flops(self, steps: Any, B: int) -> float:
        return steps.row.size * B * self.width * (2.0 * self.n + UNIT_FLOPS)


def extended(x: Array) -> Array:
    """X̂ = [x 1] (rows, B or 1, ·), filled up, of x (rows, B or 1, nx)."""
    from ctrnn.kernels.batch.tiles import padded

    nx = x.shape[2]
    X = np.zeros((*x.shape[:2], padded(nx + 1)))
    X[..., :nx], X[..., nx] = x, 1.0
    return X


@dataclass
class Part:
    """The trials that go together, from ``first`` to ``last``: their inputs, and what they keep for the way back."""

    first: int
    last: int
    X: Array
    Z: Array
    U: Array


@dataclass
class Bars:
    """What has come back so far: W̄ (n, width), [Ū b̄] (n, ·), τ̄ (B, width); and X̄ of the last stretch, if it was asked for."""

    W: Array
    U: Array
    tau: Array
    X: Array | None = None

    @classmethod
    def zeros(cls, network: Network, B: int) -> Bars:
        n, width = network.n, network.width
        return cls(np.zeros((n, width)), np.zeros((n, network.U.shape[1])), np.zeros((B, width)))


def _empty(*shape: int) -> Array:
    return np.empty(shape)


def forward(
    network: Network, steps: Any, X: Array, r: Array, states: Array, keep: bool, take: Callable[..., Array] = _empty
) -> list[Part]:
    """Take r (B, width) through the steps, in place; ``states`` (count, B, width) receives those that the steps mark.

    X (rows, B or 1, ·) as of ``extended``. Returns the parts, which keep what ``backward`` needs if they are to; ``take`` gives the arrays for that.
    """
    from ctrnn.kernels.batch import network_batch
    from ctrnn.kernels.batch.tiles import multiply_add, product

    B, width = r.shape
    (C, s), address = steps.row.shape, multiply_add.address
    kept = C if keep else 1
    kept_u = kept if network.trains_tau or network.cell.module.NEEDS_U else 1
    # one large array each: the system gives large ones in large pages
    Z, U = take(kept * s * B * width), take(kept_u * s * B * width)
    parts, scheme = [], network.scheme
    for first, last in pairwise(_edges(B, network.n)):
        mine = np.ascontiguousarray(X[:, first:last]) if X.shape[1] > 1 else X
        N = (last - first) * width
        pieces = _piece(Z, first * width, kept, s, N), _piece(U, first * width, kept_u, s, N)
        parts.append(Part(first, last, mine, *pieces))

    def run(part: Part) -> None:
        q = part.last - part.first
        N, R = q * width, r[part.first : part.last].reshape(-1)
        # the room outlasts the team: who was left alone with a product may be at it still
        with room() as scratch, _team(in_halves, flops) as board:
            D = scratch.zeros(*part.X.shape[:2], width)
            product(address, _rows(part.X), network.UT, _rows(D))
            work = scratch(s, N), scratch(N), states, scratch(N), board
            theta = np.tile(network.tau, q)
            network_batch.forward(scheme, steps, network.WT, theta, D, part.first, R, part.Z, part.U, *work)

    flops, in_halves = network.flops(steps, B), len(parts) == 1 and network.n >= network_batch.SPLIT
    _in_threads(run, parts, flops)
    return parts


def backward(
    network: Network,
    steps: Any,
    parts: list[Part],
    jumps: Array,
    sources: Array,
    lam: Array,
    bars: Bars,
    x_wanted: bool = False,
) -> None:
    """Take λ (B, width) back to the start of the steps, in place; adds to ``bars``.

    jumps (count, B, width) at the ends that the steps mark, sources (C or 0, s, B, width) at the stages.
    """
    from ctrnn.kernels.batch import network_batch
    from ctrnn.kernels.batch.tiles import multiply_add, product, transposed_product

    B, width = lam.shape
    (C, s), n, scheme, address = steps.row.shape, network.n, network.scheme, multiply_add.address
    found: list[tuple[Array, Array, Array | None]] = [None] * len(parts)  # type: ignore[list-item]

    def run(i: int) -> None:
        part = parts[i]
        q = part.last - part.first
        N = q * width
        stages = max(1, min(PANEL_ROWS // q, C * s))
        W_bar, U_bar, X_bar = np.zeros((2, n, width)), np.zeros_like(bars.U), None
        with room() as scratch, _team(len(parts) == 1, flops) as board:
            D_bar, theta = scratch(*part.X.shape[:2], width), np.tile(network.tau, q)
            mine = lam[part.first : part.last].reshape(-1), W_bar, D_bar, bars.tau[part.first : part.last].reshape(-1)
            work = scratch(s, N), scratch(4, N), scratch(2, 2, stages, N), scratch(N), board
            network_batch.backward(
                scheme, steps, network.W, theta, part.Z, part.U, jumps, sources, part.first, *mine, *work
            )
            transposed_product(address, _rows(D_bar), _rows(part.X), U_bar)
            if x_wanted:
                X_bar = np.zeros_like(part.X)
                product(address, _rows(D_bar), network.U, _rows(X_bar))
        found[i] = W_bar[0] + W_bar[1], U_bar, X_bar

    flops = 2.0 * network.flops(steps, B)
    _in_threads(run, range(len(parts)), flops)
    for W_bar, U_bar, _ in found:
        bars.W += W_bar
        bars.U += U_bar
    if x_wanted:
        bars.X = np.concatenate([X_bar for _, _, X_bar in found if X_bar is not None], axis=1)


@cache
def _nobody() -> Array:
    """The board of those who work alone, which nobody writes to."""
    from ctrnn.kernels.batch import team

    return team.board_for(False)


@contextmanager
def _team(wanted: bool, flops: float) -> Iterator[Array]:
    """The board of ctrnn.kernels.batch.team, with a thread that watches it if that is wanted and worth it."""
    from ctrnn.kernels.batch import team

    if not wanted or flops < WORTH_TEAM or workers() == 1:
        yield _nobody()
        return
    board = team.board_for(True)
    interrupted, is_back = None, False
    try:
        with beside(team.assist, board):
            yield board
    finally:
        board[team.OVER] = 1  # before a call, at which Ctrl-C may be noticed
        while not is_back:
            try:
                while not team.close(board):
                    time.sleep(1e-5)
                is_back = True
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted is not None:
            raise interrupted


def _filled(values: Array, width: int, by: float = 0.0) -> Array:
    """A copy whose last axis has ``width`` numbers."""
    made = np.full((*values.shape[:-1], width), by)
    made[..., : values.shape[-1]] = values
    return made


def _rows(values: Array) -> Array:
    """(rows, B, ·) as (rows B, ·), a view."""
    return values.reshape(-1, values.shape[2])


def _piece(whole: Array, first: int, kept: int, s: int, N: int) -> Array:
    """(kept, s, N) of what is kept of all trials, those of N numbers from ``first`` on."""
    return whole[kept * s * first : kept * s * (first + N)].reshape(kept, s, N)


def _edges(B: int, n: int) -> list[int]:
    """Where parts of a batch begin and end; by sizes alone, so that the sums are the same on any number of threads."""
    trials = max(PART_TRIALS, PART_NUMBERS // n, -(-B // MOST_PARTS))
    return [*range(0, B, trials), B]


def _in_threads(run: Callable[[Any], None], items: Iterable[Any], flops: float) -> None:
    """``run`` for every item; each thread takes the next when it is done with one."""
    items = list(items)
    if len(items) == 1:
        run(items[0])
        return
    waiting = iter(items)

    def work() -> None:
        for item in waiting:
            run(item)

    share([(work,)] * (min(workers(), len(items)) if flops > WORTH_THREADS else 1))
