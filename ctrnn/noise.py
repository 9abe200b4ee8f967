"""White noise in each state: what turns the differential equation into a stochastic one.

    dr_i = F_i(t, r, w, x) dt + g_i(t, r, w, x) dW_i,        dW_i independent, of variance dt

A path of W is drawn on a grid of step δ, W(t_k + δ) − W(t_k) ~ N(0, δ). Times between two points of the grid are
Brownian bridges (Kloeden & Platen, Numerical Solution of Stochastic Differential Equations, 1992, ch. 1.8): given W at
both ends of an interval of length H, W at h behind its start has mean W₀ + (W₁ − W₀) h/H and variance h (H − h)/H.
The numbers come from a counter (Philox: Salmon et al., SC 2011), keyed by the seed and the number of the path, so that
a path depends on nothing but these and its grid.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrnn.errors import UsageError, one_of, short
from ctrnn.fields.base import Array
from ctrnn.inputs import Sampled
from ctrnn.memory import claim
from ctrnn.numbers import checked_array, whole

if TYPE_CHECKING:
    from ctrnn.fields.base import Field

#: Itô's integral takes g at the beginning of a step, Stratonovich's in its middle
CALCULI = ("ito", "stratonovich")
#: part of a step of the grid by which a time may miss a point of the grid and still be that point
SLACK = 1e-9
#: forms with noise that a field remembers
REMEMBERED = 4


class WhiteNoise:
    """White noise in the states, dr = F dt + g dW: its strength g, and which path it takes.

    Parameters
    ----------
    scale : float, array_like (n,), str, dict or callable
        g, in units of the state by the square root of the unit of t. A number for all states; one a state; a formula
        in the names of the field (of a `ctrnn.RateNetwork` r is the vector of states), the same for each state; or a
        dict state name -> number, array or formula, where states that are not named have no noise. Of a
        `ctrnn.TorchField` a number, an array, or a function (t, r, w, x) ↦ (n,). A parameter that g alone has, as a σ
        that is fitted, belongs to the field too (``field.extended(sigma=0.1)``).
    seed : int, default 0
        The same seed gives the same path.
    dt : float, optional
        The grid on which the path is drawn, from t0 on; None: the steps of the solver. Runs with steps of other sizes
        meet the same path where both have the same ``dt``.
    calculus : {"ito", "stratonovich"}, optional
        What the product g dW means where g depends on the state. A solver that computes the other one is then refused;
        None takes what the solver computes.
    path : int, default 0
        The number of the path, of those that one seed gives; trial b of ctrnn.Trials and member b of an ensemble take
        path b.

    Raises
    ------
    UsageError
        For what is no strength, no seed, no step; where it meets a field, for names and shapes that do not fit.
    UnknownNameError
        For another calculus.

    Notes
    -----
    Each state has a W of its own; noise that states have in common is an input (`ctrnn.inputs.Noise`). The solver takes
    fixed steps of an explicit method, onto the observation times too. "euler" is then the method of Euler and Maruyama
    and solves Itô's equation: strong order ½, and 1 for a g that does not depend on the state. "heun" and the other
    methods of order two or more solve Stratonovich's, dr = F dt + g ∘ dW, of strong order 1 where g_i depends on r_i
    alone. A gradient is that of the path, exact for the steps taken, also to parameters in g. Source: Kloeden & Platen
    1992, chs. 10 and 4.9.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"v": "-v/tau"}, {"tau": 2.0, "sigma": 0.5})
    >>> problem = ctrnn.Problem(field, [1.0], (0.0, 1.0), noise=ctrnn.WhiteNoise("sigma*v", seed=3))
    >>> runs = [ctrnn.simulate(problem, solver="euler", dt=0.1).r for _ in range(2)]
    >>> bool((runs[0] == runs[1]).all())
    True
    """

    def __init__(
        self, scale: Any, seed: int = 0, dt: float | None = None, calculus: str | None = None, path: int = 0
    ) -> None:
        self.scale = checked_scale(scale)
        self.seed, self.path = whole("seed", seed, 0), whole("path", path, 0)
        if dt is not None and not checked_array("noise.dt", dt, ()) > 0.0:
            raise UsageError("noise.dt", given=dt, allowed="a positive step of the grid, in the unit of t")
        if calculus is not None:
            one_of("calculus", calculus, CALCULI)
        self.dt, self.calculus = None if dt is None else float(dt), calculus

    def __repr__(self) -> str:
        more = "".join(
            f", {name}={value!r}" for name, value in (("dt", self.dt), ("calculus", self.calculus)) if value is not None
        )
        return f"WhiteNoise({short(self.scale)}, seed={self.seed}{more}{f', path={self.path}' if self.path else ''})"

    def of_path(self, path: int) -> WhiteNoise:
        """The same noise along another path of the seed.

        Parameters
        ----------
        path : int
            Its number.

        Returns
        -------
        WhiteNoise
            With that number.
        """
        twin = copy.copy(self)
        twin.path = whole("path", path, 0)
        return twin

    def noisy(self, field: Field) -> Field:
        """F + g ∘ ξ: the field with the noise as inputs behind its own.

        Parameters
        ----------
        field : ctrnn.Field
            F.

        Returns
        -------
        ctrnn.Field
            Its own parameters are those of F. ξ, constant over a step of size h, is dW/h.
        """
        made, key = field._noisy_twins, _key(self.scale)
        if key not in made:
            if len(made) >= REMEMBERED:
                made.clear()
            made[key] = field._with_noise(self.scale)
        return made[key].with_parameters(**field.parameters)

    def increments(self, times: Array, channels: int, dt: float) -> Array:
        """W(t_k+1) − W(t_k) between the times.

        Parameters
        ----------
        times : ndarray (K + 1,)
            Increasing; the grid begins at the first.
        channels : int
            How many W there are.
        dt : float
            The step of the grid, where the noise has none of its own.

        Returns
        -------
        ndarray (K, channels)
            The increments.

        Examples
        --------
        >>> noise, fine = WhiteNoise(1.0, seed=1, dt=0.25), np.linspace(0.0, 1.0, 5)
        >>> dW = noise.increments(fine, 1, 0.25)
        >>> bool(abs(dW.sum() - noise.increments(np.array([0.0, 1.0]), 1, 1.0).sum()) < 1e-15)
        True
        """
        return increments(times, channels, dt if self.dt is None else self.dt, self.seed, self.path)

    def signal(self, times: Array, channels: int, dt: float) -> Sampled:
        """The noise ξ = dW/h as an input, held over each of the steps between the times.

        Parameters
        ----------
        times, channels, dt
            As of ``increments``.

        Returns
        -------
        ctrnn.inputs.Sampled
            The input.
        """
        steps = np.diff(times)[:, None]
        return Sampled(times[:-1], self.increments(times, channels, dt) / steps)


def as_noise(noise: Any, seed: int | None = None) -> WhiteNoise | None:
    """What people give for noise: None, a WhiteNoise, or what it takes as a scale; ``seed`` takes the place of its own.

    >>> as_noise(0.1, seed=3), as_noise(None)
    (WhiteNoise(0.1, seed=3), None)
    """
    if noise is None:
        if seed is not None:
            raise UsageError("seed", given=seed, allowed="None, without noise", hint="noise=0.1")
        return None
    if not isinstance(noise, WhiteNoise):
        return WhiteNoise(noise, 0 if seed is None else seed)
    if seed is None:
        return noise
    twin = copy.copy(noise)
    twin.seed = whole("seed", seed, 0)
    return twin


def checked_scale(scale: Any) -> Any:
    """A number, an array (n,), a formula, a table of these, or a function; raises UsageError."""
    if isinstance(scale, WhiteNoise):
        allowed = "its scale alone: a number, numbers, a formula or a table"
        raise UsageError(
            "noise", given=scale, allowed=allowed, hint="noise.scale; a layer takes its seed with each call"
        )
    if isinstance(scale, str) and not scale.isprintable():
        raise UsageError("noise", given=scale, allowed="a formula of printable letters")
    if isinstance(scale, str) or callable(scale):
        return scale
    if isinstance(scale, dict):
        if not scale:
            raise UsageError("noise", given=scale, allowed="at least one state with noise")
        return {
            str(name): value if isinstance(value, str) else _strength(f"noise[{name!r}]", value)
            for name, value in scale.items()
        }
    return _strength("noise", scale)


def _strength(name: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        raise UsageError(name, given=value, allowed="a number, numbers, a formula, or a table state -> one of these")
    array = checked_array(name, value)
    array.setflags(write=False)
    return float(array) if array.ndim == 0 else array


def _key(scale: Any) -> Any:
    """What two scales that mean the same have in common."""
    if isinstance(scale, dict):
        return tuple((name, _key(value)) for name, value in scale.items())
    return (scale.shape, scale.tobytes()) if isinstance(scale, np.ndarray) else scale


# --- the path


def increments(times: Array, channels: int, dt: float, seed: int, path: int) -> Array:
    """W(t_k+1) − W(t_k) (K, channels) between the times (K + 1,), of a path on the grid t_0 + k dt."""
    with np.errstate(over="ignore"):
        at = (times - times[0]) / dt
    claim("noise.dt", 24.0 * np.ceil(at[-1]) * channels, "a larger dt of the noise")
    slack = np.maximum(SLACK, 4.0 * np.spacing(abs(times)) / dt)
    whole = np.rint(at)
    on_grid = abs(at - whole) <= slack
    on_grid[1:] &= ~(on_grid[:-1] & (whole[1:] == whole[:-1]))  # two times within one slack: the first is the point
    at = np.where(on_grid, whole, at)
    cells = int(np.ceil(at[-1]))
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, path], dtype=np.uint64)))
    dW = np.sqrt(dt) * rng.standard_normal((cells, channels))
    edges = np.arange(cells)
    beside = np.flatnonzero(~on_grid)
    if beside.size:
        edges, dW = _with_bridges(at[beside], dW, dt, seed, path)
    return np.asarray(np.add.reduceat(dW[: np.searchsorted(edges, at[-1])], np.searchsorted(edges, at[:-1]), axis=0))


def _with_bridges(beside: Array, dW: Array, dt: float, seed: int, path: int) -> tuple[Array, Array]:
    """Increments of cells of which some are divided, at ``beside`` (in cells): where each begins, and all of them."""
    channels, begins, parts, done = dW.shape[1], [], [], 0
    cell_of = np.floor(beside).astype(int)
    for cell in np.unique(cell_of).tolist():
        begins.append(np.arange(done, cell, dtype=float))
        parts.append(dW[done:cell])
        done = cell + 1
        # a block of the counter that the grid never comes to
        counter = np.array([0, 0, cell, 1], dtype=np.uint64)
        rng = np.random.Generator(np.random.Philox(key=np.array([seed, path], dtype=np.uint64), counter=counter))
        rest, start = dW[cell], 0.0
        for fraction in (beside[cell_of == cell] - cell).tolist():
            h, H = fraction - start, 1.0 - start
            part = rest * (h / H) + np.sqrt(dt * h * (H - h) / H) * rng.standard_normal(channels)
            begins.append(np.array([cell + start]))
            parts.append(part[None])
            rest, start = rest - part, fraction
        begins.append(np.array([cell + start]))
        parts.append(rest[None])
    begins.append(np.arange(done, len(dW), dtype=float))
    parts.append(dW[done:])
    return np.concatenate(begins), np.concatenate(parts)
