"""A solution of dr/dt = F(t, r, w, x): its values r(t_k) at the saved times, and its cost."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import ctrnn
from ctrnn.errors import UsageError, optional_module
from ctrnn.files import atomic_path
from ctrnn.names import arrays, position

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ctrnn.events import Occurrences
    from ctrnn.solvers.dense import DenseOutput

__all__ = ["Stats", "Trajectory"]


@dataclass(frozen=True, repr=False)
class Stats:
    """What a solution cost. The sum of two is the cost of both passes of a gradient.

    Attributes
    ----------
    solver : str
        Name of the method, with the options that change its steps.
    steps, rejected : int
        Accepted steps, and steps tried and thrown away by the step control.
    evaluations, jacobians : int
        Calls of F, and of J = ∂F/∂r (as a matrix or as a product K J).
    wall_time : float
        Seconds.
    stiff : bool
        Whether the step size looked limited by stability and not by accuracy.
    factorisations : int
        LU factorisations of the matrices I − hγJ of implicit stages.

    Examples
    --------
    >>> forward = Stats("tsit5", steps=10, rejected=1, evaluations=67, wall_time=0.002)
    >>> print(forward + Stats("adjoint", steps=10, jacobians=60, wall_time=0.001))
    tsit5 + adjoint: 20 steps (1 rejected), 67 evaluations of F, 60 of J, 3 ms
    """

    solver: str = ""
    steps: int = 0
    rejected: int = 0
    evaluations: int = 0
    jacobians: int = 0
    wall_time: float = 0.0
    stiff: bool = False
    factorisations: int = 0

    def __add__(self, other: Stats) -> Stats:
        names = [name for name in (self.solver, other.solver) if name]
        return Stats(
            solver=" + ".join(dict.fromkeys(names)),  # the same name is said once
            steps=self.steps + other.steps,
            rejected=self.rejected + other.rejected,
            evaluations=self.evaluations + other.evaluations,
            jacobians=self.jacobians + other.jacobians,
            wall_time=self.wall_time + other.wall_time,
            stiff=self.stiff or other.stiff,
            factorisations=self.factorisations + other.factorisations,
        )

    def __repr__(self) -> str:
        text = f"{self.steps} steps ({self.rejected} rejected), {self.evaluations} evaluations of F"
        if self.jacobians:
            text += f", {self.jacobians} of J"
        if self.factorisations:
            text += f", {self.factorisations} factorisations"
        text += f", {_seconds(self.wall_time)}"
        if self.stiff:
            text += "; stiffness suspected"
        return f"{self.solver}: {text}" if self.solver else text


def states_named(r: NDArray[np.float64], names: Sequence[str], state: Any) -> NDArray[np.float64]:
    """Of states r (..., n) one by its name or number (...), or an array of states by its name (..., *shape).

    Raises UnknownNameError for any other name or number.
    """
    whole = arrays(tuple(names))
    if isinstance(state, str) and state in whole:
        columns, shape = whole[state]
        return r[..., columns].reshape(*r.shape[:-1], *shape)
    return r[..., position("state", state, names)]


@dataclass(frozen=True, repr=False, eq=False)
class Trajectory:
    """A solution at its saved times.

    Attributes
    ----------
    t : ndarray (T,)
        Times, in the order of integration.
    r : ndarray (T, n)
        States.
    names : tuple of str
        The n names of the states.
    stats : Stats
        What the solution cost.
    events : ctrnn.events.Occurrences or None
        The events of a problem with events. A run saved at every step then has two rows at the time of a reset: the
        state before and the state after.
    dense : ctrnn.solvers.dense.DenseOutput or None
        r(t) between the saved times, which ``run(t)`` asks; None of a trajectory that is made of numbers.

    Raises
    ------
    UsageError
        Where the shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> run = Trajectory(np.array([0.0, 1.0]), np.array([[1.0, 2.0], [3.0, 4.0]]), ("prey", "pred"))
    >>> run["pred"]
    array([2., 4.])
    >>> run
    Trajectory of 2 times, 2 states
               t        prey        pred
               0           1           2
               1           3           4
    """

    t: NDArray[np.float64]
    r: NDArray[np.float64]
    names: tuple[str, ...] = ()
    stats: Stats = Stats()
    events: Occurrences | None = None
    dense: DenseOutput | None = None

    def __post_init__(self) -> None:
        if np.ndim(self.t) != 1 or np.ndim(self.r) != 2 or len(self.t) != len(self.r):
            raise UsageError(
                "r",
                given=f"t {np.shape(self.t)} and r {np.shape(self.r)}",
                allowed="t of shape (T,) and r of shape (T, n)",
            )
        names = tuple(self.names) or tuple(f"r[{i}]" for i in range(self.r.shape[1]))
        object.__setattr__(self, "names", names)
        if len(names) != self.r.shape[1]:
            raise UsageError("names", given=names, allowed=f"{self.r.shape[1]} names, one a state")

    def __len__(self) -> int:
        return len(self.t)

    def __call__(self, t: Any, left: bool = False) -> NDArray[np.float64]:
        """The solution at any time of the run, by the solver's own dense output.

        Parameters
        ----------
        t : float or (T,) array_like
            One time, or times in any order, inside the run's time span.
        left : bool
            At the time of an event, the state before its reset; else the one after it.

        Returns
        -------
        ndarray (n,) or (T, n)
            r(t). Its order inside a step is ``run.dense.order``: 7 of "dop853", 4 of "tsit5" and "dopri5", 3 of "bs3",
            "rk4", "kencarp4" and "kvaerno5", 2 of "midpoint" and "heun", 1 of "euler"; a step of the order p itself is
            not more accurate than h^p over the run.

        Raises
        ------
        UsageError
            For times outside the run, and of a trajectory that no solver made.

        Notes
        -----
        The steps are taken again at the first call, which costs another run; later calls evaluate polynomials.
        Ask ctrnn.simulate for ``save_at`` where the stiff solvers' full order is wanted: it steps onto those times.

        Examples
        --------
        >>> import ctrnn
        >>> run = ctrnn.simulate(ctrnn.Problem(ctrnn.Equations({"r": "-r"}, {}), [1.0], (0.0, 2.0)))
        >>> bool(abs(run(0.7)[0] - np.exp(-0.7)) < 1e-8), run([0.1, 0.2, 0.3]).shape
        (True, (3, 1))
        """
        if self.dense is None:
            allowed = "a trajectory as ctrnn.simulate returns it, with its dense output"
            raise UsageError("run(t)", given="saved times and states alone", allowed=allowed)
        return self.dense(t, left)

    def __getstate__(self) -> dict[str, Any]:
        """Without r(t) where what made it cannot be written, as a function of Python in the input cannot."""
        state = dict(self.__dict__)
        try:
            pickle.dumps(self.dense)
        except Exception:
            state["dense"] = None
        return state

    def __getitem__(self, state: str | int) -> NDArray[np.float64]:
        """The column (T,) of one state, or the columns (T, *shape) of an array of states.

        Parameters
        ----------
        state : str or int
            A state's name or number (negative counts from the last), or the name of an array of states.

        Raises
        ------
        UnknownNameError
            For any other name or number.
        """
        return states_named(self.r, self.names, state)

    def index(self, state: str | int) -> int:
        """The column number of a state, from its name or number; raises UnknownNameError for any other."""
        return position("state", state, self.names)

    def __repr__(self) -> str:
        shown = [i for i in range(len(self.names)) if i < 6]
        more = len(self.names) - len(shown)
        head = "".join(f"{name[-11:]:>12}" for name in ("t", *(self.names[i] for i in shown)))
        T, n = len(self), len(self.names)
        lines = [f"Trajectory of {T} time{'s' * (T != 1)}, {n} state{'s' * (n != 1)}", head]
        rows = range(len(self))
        for k in rows if len(self) <= 10 else [*rows[:4], None, *rows[-3:]]:
            if k is None:
                lines.append(f"{'...':>12}")
            else:
                lines.append("".join(f"{v:12.6g}" for v in (self.t[k], *self.r[k, shown])))
        if more > 0:
            lines[1] += f"  and {more} more"
        if self.events is not None:
            lines.append(repr(self.events))
        if self.stats != Stats():
            lines.append(str(self.stats))
        return "\n".join(lines)

    def plot(self, states: Sequence[str | int] | None = None, **options: Any) -> Figure:
        """The states against time: a matplotlib Figure. See :func:`ctrnn.plotting.trajectory`."""
        # through the package's own name, which loads plotting now: nothing below plotting imports it
        return ctrnn.plotting.trajectory(self, states=states, **options)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write columns t and one a state, with as many digits as give the same float64 back.

        Raises
        ------
        UsageError
            Where the folder of ``path`` does not exist.
        """
        import csv

        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
            rows = csv.writer(f, lineterminator="\n")
            rows.writerow(("t", *self.names))
            rows.writerows([repr(float(v)) for v in (t, *r)] for t, r in zip(self.t, self.r, strict=True))

    def to_npz(self, path: str | os.PathLike[str]) -> None:
        """Write arrays t (T,), r (T, n) and names (n,), to be read by ``numpy.load``.

        Raises
        ------
        UsageError
            Where the folder of ``path`` does not exist.
        """
        with atomic_path(path) as temporary, temporary.open("wb") as f:
            np.savez(f, t=self.t, r=self.r, names=np.array(self.names))

    def to_xarray(self) -> Any:
        """An ``xarray.Dataset`` with one variable a state, over the dimension t.

        Raises
        ------
        MissingDependencyError
            Where xarray is not installed.
        """
        xarray = optional_module("xarray", "Trajectory.to_xarray", "xarray", "xarray")
        return xarray.Dataset(
            {name: ("t", self.r[:, i]) for i, name in enumerate(self.names)},
            coords={"t": self.t},
            attrs={"stats": str(self.stats)},
        )


def _seconds(s: float) -> str:
    """Seconds to three digits, in the unit that reads best.

    >>> _seconds(0.0021), _seconds(12.3456), _seconds(3.2e-5)
    ('2.1 ms', '12.3 s', '32 us')
    """
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if s >= scale or s == 0:
            return f"{s / scale:.3g} {unit}"
    return f"{s / 1e-6:.3g} us"
