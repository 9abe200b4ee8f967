"""From a checked specification to the library's objects: field, data, r0, input, problem.

The library checks shapes, names and formulas itself. Where it refuses, the error is raised again
with the line and the key of the experiment file that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ctrnn
from ctrnn.errors import UsageError, nearest
from ctrnn.experiment import schema as s
from ctrnn.experiment.build_field import field
from ctrnn.experiment.build_objective import objective
from ctrnn.experiment.build_signals import signal
from ctrnn.experiment.examples import examples_folder
from ctrnn.experiment.load import Source, check, find
from ctrnn.experiment.locate import KeyPath, LocatedError
from ctrnn.experiment.relocate import blamed, relocated
from ctrnn.inputs.table import read_times
from ctrnn.memory import claim
from ctrnn.names import arrays
from ctrnn.states import state_of


@dataclass(frozen=True)
class Table:
    """Observed values: times t (K,), y (K, p), and the names of the p states or columns."""

    t: NDArray[np.float64]
    y: NDArray[np.float64]
    names: tuple[str, ...]


class Experiment:
    """One experiment file, checked, with overrides laid over it.

    Parameters
    ----------
    experiment : str or path
        A TOML file, or the name of a shipped experiment.
    overrides : sequence of str
        Keys with values, as after ``--set``: "solver.rtol=1e-6".

    Raises
    ------
    ExperimentError
        For a wrong file, key, value or override, with the line.
    UnknownNameError
        For a file that is not there.

    Examples
    --------
    >>> Experiment("hare-lynx", ["solver.rtol=1e-6"]).solver["rtol"]
    1e-06
    """

    def __init__(self, experiment: str | Path, overrides: Sequence[str] = ()) -> None:
        self.path = path = find(experiment)
        self.name, self.overrides = path.stem, list(overrides)
        #: rows of the data outside the time span, once they are read
        self.left_out = 0
        self.source = Source(path, overrides)
        try:
            self.spec = check(self.source)
        except LocatedError as error:
            raise blamed(error, overrides, lambda some: check(Source(path, some))) from None

    # --- the parts ---

    @cached_property
    def field(self) -> Any:
        """The vector field F."""
        return field(self)

    @property
    def t_span(self) -> tuple[float, float]:
        """(t0, t1)."""
        t0, t1 = self.require("problem").t_span
        if not t1 > t0:
            raise self.fault(("problem", "t_span"), allowed="[t0, t1] with t1 > t0")
        return t0, t1

    @cached_property
    def data(self) -> Table | None:
        """The observed rows inside the time span, columns in state order where they are states."""
        spec = self.spec.data
        if spec is None:
            return None
        columns = spec.columns
        if isinstance(columns, dict):
            known = self.field.state_names
            for key in columns:
                if key not in known:
                    path: KeyPath = ("data", "columns", key)
                    raise self.fault(path, given=key, allowed=", ".join(known), hint=nearest(key, known))
            columns = {state: columns[state] for state in known if state in columns}
            names, picked = tuple(columns), list(columns.values())
        else:
            names, picked = tuple(columns), columns
        with self.at("data", path=("data", "file")):
            missing = "refuse" if self.spec.objective is None else self.spec.objective.missing
            t, y = map(np.array, read_times(self.file(spec.file), spec.time, picked, missing))
        t0, t1 = self.t_span
        inside = (t >= t0) & (t <= t1)
        if not inside.any():
            allowed = f"a span that meets the data's, {t[0]:g} to {t[-1]:g}"
            raise self.fault(("problem", "t_span"), allowed=allowed)
        self.left_out = int((~inside).sum())
        return Table(t[inside], y[inside], names)

    @property
    def data_are_states(self) -> bool:
        """Whether the data's columns are values of states."""
        return self.spec.data is not None and isinstance(self.spec.data.columns, dict)

    @cached_property
    def r0(self) -> NDArray[np.float64]:
        """The initial state (n,)."""
        r0, n, names = self.require("problem").r0, self.field.n, self.field.state_names
        if isinstance(r0, float | int):
            return np.full(n, float(r0))
        if isinstance(r0, s.RandomState):
            return np.random.default_rng(r0.seed).normal(0.0, r0.sd, n)
        if isinstance(r0, list):
            return np.array(r0)
        if isinstance(r0, dict):
            if any(name in arrays(names) for name in r0):  # states that are arrays, by their names
                given = {name: self.rectangular(value, ("problem", "r0", name)) for name, value in r0.items()}
                with self.at("problem"):
                    return state_of(self.field, given)
            return self.by_state(r0, ("problem", "r0"))
        table = self.table(("problem", "r0"))
        missing = [name for name in names if name not in table.names]
        if missing:
            allowed = f"numbers: [data] names no column for {', '.join(missing)}"
            raise self.fault(("problem", "r0"), allowed=allowed)
        empty = [name for name, value in zip(table.names, table.y[0], strict=True) if np.isnan(value)]
        if empty:
            allowed = f"numbers: the first row of [data] has none for {', '.join(empty)}"
            raise self.fault(("problem", "r0"), allowed=allowed)
        return table.y[0].copy()

    @cached_property
    def x(self) -> Any:
        """The input x(t), or None."""
        return None if self.spec.inputs is None else signal(self, self.spec.inputs, ("inputs",))

    @cached_property
    def problem(self) -> Any:
        """The :class:`ctrnn.Problem`, with its objective where the file has one."""
        loss = objective(self)
        r0, t_span = self.r0, self.t_span
        with self.at("problem", x=("inputs",), inputs=("inputs",)):
            problem = ctrnn.Problem(self.field, r0=r0, t_span=t_span, x=self.x)
        if self.spec.events:
            with self.at("events"):
                problem = problem.replace(events=[ctrnn.Event(**event.model_dump()) for event in self.spec.events])
        if self.spec.noise is not None:
            names = {"r", *(label.partition("[")[0] for label in self.field.state_names)}  # of arrays, their names
            keys: dict[str, KeyPath] = {f"noise_{name}": ("noise", "scale") for name in names}
            with self.at("noise", noise=("noise", "scale"), **keys):
                problem = problem.replace(noise=ctrnn.WhiteNoise(**self.spec.noise.model_dump(exclude={"paths"})))
        if loss is None:
            return problem
        with self.at("objective"):
            return problem.replace(objective=loss)

    def solving(self, section: str = "solver", **keys: KeyPath) -> Any:
        """Like :meth:`at`, for calls that take the arguments of a solver."""
        solver: dict[str, KeyPath] = {
            argument: ("solver", "name" if argument == "solver" else argument) for argument in self.limited_solver
        }
        return self.at(section, **solver, **keys)

    @property
    def solver(self) -> dict[str, Any]:
        """Keyword arguments of every solve."""
        spec = self.spec.solver
        return {"solver": spec.name, "rtol": spec.rtol, "atol": spec.atol, "dt": spec.dt}

    @property
    def limited_solver(self) -> dict[str, Any]:
        """The same with ``max_steps``, which only single solves take."""
        return self.solver | {"max_steps": self.spec.solver.max_steps}

    @property
    def fit_options(self) -> dict[str, Any]:
        """Keyword arguments of a fit, but for its gradient method."""
        spec = self.require("fit")
        own = {name: getattr(spec, name) for name in type(spec).model_fields if name not in ("methods", "prior")}
        prior = {name: (one.kind, one.mean, one.sd) for name, one in spec.prior.items()}
        return own | {"prior": prior} | self.solver

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs o that the objective compares with its target."""
        bound = self.problem.objective
        if bound is None or not bound.is_named:
            return ()
        if bound.selection is not None:
            return tuple(self.field.state_names[i] for i in bound.selection)
        if bound.readout is None:
            return tuple(self.field.state_names)
        from_data = self.spec.objective is not None and self.spec.objective.target == "data"
        if from_data and self.data is not None and len(self.data.names) == bound.output_size:
            return self.data.names
        return tuple(f"o{i}" for i in range(bound.output_size))

    @property
    def grid(self) -> NDArray[np.float64]:
        """The times at which the solution is saved and drawn."""
        t0, t1 = self.problem.t_span
        claim("points", 24.0 * self.spec.solver.points * (self.field.n + 1))
        return np.linspace(t0, t1, self.spec.solver.points)

    @property
    def guess(self) -> NDArray[np.float64]:
        """Where the search for an equilibrium starts (n,)."""
        guess, n = self.spec.equilibrium.guess if self.spec.equilibrium else None, self.field.n
        if guess is None:
            return self.r0
        path: KeyPath = ("equilibrium", "guess")
        if isinstance(guess, dict):
            return self.by_state(guess, path)
        if isinstance(guess, list) and len(guess) != n:
            raise self.fault(path, allowed=f"a number, or one for each state ({n})")
        return np.broadcast_to(np.array(guess, float), n).copy()

    @property
    def held(self) -> dict[str, Any]:
        """The time t and the input x (nx,) that an equilibrium is one at; x is None without inputs."""
        spec, problem = self.spec.equilibrium or s.EquilibriumSpec(), self.problem
        t, size = problem.t_span[0] if spec.t is None else spec.t, problem.field.input_size
        if spec.x is None:
            return {"t": t, "x": problem.x(t) if size else None}
        x = np.atleast_1d(np.array(spec.x, float))
        if len(x) != size:
            names = ", ".join(problem.field.input_names[:8])
            allowed = f"one number for each input: {names}" if size else "no key x: the field has no inputs"
            raise self.fault(("equilibrium", "x"), allowed=allowed)
        return {"t": t, "x": x}

    # --- helpers ---

    def table(self, path: KeyPath) -> Table:
        """The data; a fault at ``path`` where the file has none."""
        if self.data is None:
            raise self.fault(
                path,
                allowed="numbers, or a table [data] in this file",
                given=self.source.given(path),
            )
        return self.data

    def require(self, section: str, why: str = "for this command") -> Any:
        """The table ``section``; a fault where the file has none."""
        spec = getattr(self.spec, section)
        if spec is None:
            raise self.fault((section,), allowed=f"a table [{section}], {why}")
        return spec

    def by_state(self, values: dict[str, Any], path: KeyPath) -> NDArray[np.float64]:
        """A table by state name as a vector (n,)."""
        names = self.field.state_names
        for key in values:
            if key not in names:
                raise self.fault((*path, key), given=key, allowed=", ".join(names), hint=nearest(key, names))
        for name in names:
            if name not in values:
                raise self.fault((*path, name), allowed="a number for every state")
        return np.array([values[name] for name in names])

    def rectangular(self, values: Any, path: KeyPath) -> Any:
        """``values``, all of whose rows are of one length."""
        if isinstance(values, list) and values and isinstance(values[0], list):
            for k, row in enumerate(values):
                if len(row) != len(values[0]):
                    allowed = f"{len(values[0])} numbers, as in the first row"
                    raise self.fault((*path, k), allowed=allowed)
        return values

    def file(self, name: str) -> Path:
        """A data file: beside the experiment file, or shipped."""
        beside, shipped = self.source.path.parent / name, examples_folder() / name
        if "\0" in name:
            return beside  # refused where it is read
        return shipped if not beside.exists() and shipped.exists() else beside

    def fault(self, path: KeyPath, *, allowed: str = "", hint: str = "", given: Any = None) -> LocatedError:
        """An error at a key of this file."""
        return self.source.fault(path, allowed=allowed, hint=hint, given=given)

    @contextmanager
    def at(self, *section: str | int, **keys: KeyPath) -> Iterator[None]:
        """Raise a UsageError from the block again as a fault of this table; see :func:`relocated`."""
        try:
            yield
        except LocatedError:
            raise
        except UsageError as error:
            raise relocated(self.source, section, keys, error) from error
