"""Lyapunov exponents of many runs of one field: against a parameter, or from many starts, on all cores.

Each member is `ctrnn.analysis.lyapunov_spectrum` of its own, so that its result does not depend on the others. The
compiled functions are shared; with small frames nothing of Python runs inside a member, and the threads do not wait for
each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.analysis.family import Family
from ctrnn.analysis.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from ctrnn.errors import UsageError, optional_module
from ctrnn.fields.base import Array, Field
from ctrnn.inputs import Constant
from ctrnn.numbers import real_array
from ctrnn.problem import Problem, checked_problem
from ctrnn.states import state_of
from ctrnn.threads import map_parallel

__all__ = ["LyapunovSpectra", "lyapunov_spectra"]


@dataclass(frozen=True, eq=False, repr=False)
class LyapunovSpectra:
    """The exponents of many runs; ``found[b]`` is the `LyapunovSpectrum` of one.

    Attributes
    ----------
    members : tuple of LyapunovSpectrum
        One for each run.
    parameters : dict of str to ndarray (B, …)
        The values that vary, by name.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, {"k": 1.0}), r0=[1.0], t_span=(0.0, 10.0))
    >>> found = lyapunov_spectra(decay, {"k": [1.0, 2.0]})
    >>> found.exponents.round(6).ravel(), len(found)
    (array([-1., -2.]), 2)
    """

    members: tuple[LyapunovSpectrum, ...]
    parameters: dict[str, Array]

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, b: int) -> LyapunovSpectrum:
        return self.members[b]

    @property
    def exponents(self) -> Array:
        """(B, k) per unit of t, the largest first."""
        return np.array([one.exponents for one in self.members])

    @property
    def standard_errors(self) -> Array:
        """(B, k) of the means over blocks of each run."""
        return np.array([one.standard_errors for one in self.members])

    @property
    def dimension(self) -> Array:
        """(B,) Kaplan–Yorke dimensions; NaN where the exponents at hand do not reach that far."""
        return np.array([np.nan if one.dimension is None else one.dimension for one in self.members])

    @property
    def entropy(self) -> Array:
        """(B,) sums of the positive exponents, per unit of t."""
        return np.array([one.entropy for one in self.members])

    def to_dataframe(self) -> Any:
        """A pandas table with a row a run: what varies (where it is one number), exponents, dimension, entropy."""
        pandas = optional_module("pandas", "LyapunovSpectra.to_dataframe", "pandas", "xarray")  # xarray brings it
        columns: dict[str, Any] = {name: values for name, values in self.parameters.items() if values.ndim == 1}
        columns |= {f"lambda{i + 1}": column for i, column in enumerate(self.exponents.T)}
        return pandas.DataFrame(columns | {"dimension": self.dimension, "entropy": self.entropy})

    def __repr__(self) -> str:
        single = [name for name, values in self.parameters.items() if values.ndim == 1]
        shown = min(self.exponents.shape[1], 4)
        names = [*single[:3], *(f"λ{i + 1}" for i in range(shown)), "dimension"]
        lines = [f"Lyapunov exponents of {len(self)} runs, per unit of t", "".join(f"{name:>14}" for name in names)]
        for b, one in enumerate(self.members):
            values = [*(self.parameters[name][b] for name in single[:3]), *one.exponents[:shown]]
            lines.append("".join(f"{v:>14.6g}" for v in [*values, self.dimension[b]]))
        return "\n".join(lines if len(lines) <= 22 else [*lines[:21], f"  … and {len(lines) - 21} more"])


def lyapunov_spectra(
    problem: Problem,
    parameters: Mapping[str, Any] | None = None,
    r0: Any = None,
    k: int | None = None,
    **options: Any,
) -> LyapunovSpectra:
    """The Lyapunov exponents of many runs, side by side.

    Parameters
    ----------
    problem : Problem
        The run, over its t_span.
    parameters : mapping of str to (B, …) array_like, optional
        The parameters that vary, a value for each run: whole ones (B, *shape), entries such as "W[0,1]" (B,), or inputs
        by name, or "x[0]", held constant (B,).
    r0 : (B, n) array_like, optional
        The starts; None: the problem's.
    k : int, optional
        Exponents wanted, 1 to n; None for all n.
    **options
        As in `lyapunov_spectrum`: transient, solver, rtol, atol, dt, max_steps, seed, covariant.

    Returns
    -------
    LyapunovSpectra
        ``exponents`` (B, k), ``standard_errors``, ``dimension``, ``entropy``; a member by its number.

    Raises
    ------
    UsageError, UnknownNameError
        For parameters or starts that do not fit, or nothing that varies; and the errors of `lyapunov_spectrum`.

    Examples
    --------
    >>> import ctrnn
    >>> lorenz = ctrnn.Equations({"x": "10*(y - x)", "y": "x*(rho - z) - y", "z": "x*y - 8/3*z"}, {"rho": 28.0})
    >>> problem = ctrnn.Problem(lorenz, r0=[1.0, 2.0, 20.0], t_span=(0.0, 60.0))
    >>> found = lyapunov_spectra(problem, {"rho": [10.0, 28.0]}, transient=20.0)
    >>> found.exponents[:, 0] > 0  # rest, and chaos
    array([False,  True])
    """
    checked_problem(problem)
    field = problem.field
    if parameters is not None and not isinstance(parameters, Mapping):
        raise UsageError("parameters", given=parameters, allowed="a mapping of names to values (B, …)")
    varied = {} if parameters is None else {name: real_array(name, v) for name, v in parameters.items()}
    starts = None if r0 is None else real_array("r0", r0)
    sizes = {len(v) if v.ndim else 0 for v in (*varied.values(), *(() if starts is None else (starts,)))}
    if len(sizes) != 1 or 0 in sizes:
        given = f"{len(sizes)} different lengths" if sizes else "none"
        raise UsageError("parameters", given=given, allowed="values (B, …) of parameters, or starts r0 (B, n), one B")
    (B,) = sizes
    problems = [_member(problem, field, varied, starts, b) for b in range(B)]
    _ = field._kernel  # compiled once, before many threads ask for it
    found = map_parallel(problems, lambda one: lyapunov_spectrum(one, k, **options), "Lyapunov exponents")
    return LyapunovSpectra(tuple(found), varied)


def _member(problem: Problem, field: Field, varied: dict[str, Array], starts: Array | None, b: int) -> Problem:
    whole = {name: values[b] for name, values in varied.items() if name in field.parameters}
    its = field.with_parameters(**whole) if whole else field
    entries = [name for name in varied if name not in whole]
    changes: dict[str, Any] = {}
    if entries:
        x = problem.x(problem.t_span[0]) if field.input_size else None
        family = Family(its, entries, x, argument="parameters")
        mu = np.array([float(varied[name][b]) for name in entries])
        its = family.field(mu)
        if any(kind == "x" for kind, _ in family.places):
            held = problem.x
            if not isinstance(held, Constant):
                raise UsageError("parameters", given=entries, allowed="an input that is constant in this problem")
            changes["x"] = family.x(mu)
    if starts is not None:
        changes["r0"] = state_of(field, starts[b])
    return problem.replace(field=its, objective=None, **changes)
