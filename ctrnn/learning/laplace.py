"""The posterior of a fit's quantities, from the fit or from a problem at its minimum (ctrnn.learning.posterior)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctrnn.learning.fit import Fit
from ctrnn.learning.posterior import Laplace, laplace_at
from ctrnn.settings import Settings


def laplace(
    problem: Any,
    parameters: Sequence[str] | None = None,
    *,
    r0: bool = False,
    solver: str = "tsit5",
    rtol: Any = 1e-8,
    atol: Any = 1e-10,
    dt: float | None = None,
) -> Laplace:
    """Standard errors and correlations of fitted parameters.

    Parameters
    ----------
    problem : Fit, Problem or Trials
        A fit knows what it fitted and how it solved; the other arguments are then not used. Or a problem at the minimum
        of its loss, a squared error or a cross-entropy at observation times; or trials of such, whose observations
        count together.
    parameters : sequence of str, optional
        Names of the fitted ones, all by default.
    r0 : bool, default False
        Whether the initial state was fitted too.
    solver, rtol, atol, dt
        Of every solution, see `ctrnn.simulate`.

    Returns
    -------
    Laplace
        Prints as a table.

    Raises
    ------
    UsageError
        For other objectives, and for no more observations than fitted quantities.
    SingularJacobianError
        Where the data do not determine all quantities.

    Notes
    -----
    Everything is in natural units, also where the fit moved logarithms. Weights count as inverse variances up to the
    common factor σ². A trained read-out counts among the fitted. Bounds are not taken into account. Formulas and
    sources are at the top of `ctrnn.learning.laplace`.

    Examples
    --------
    >>> import ctrnn, numpy as np
    >>> t = np.array([0.5, 1.0, 1.5])
    >>> line = ctrnn.Equations({"r": "k"}, parameters={"k": 2.0})  # r = k t: k = Σ t y / Σ t²
    >>> objective = ctrnn.Objective(target=[1.1, 1.9, 3.0], at=t)
    >>> found = ctrnn.fit(ctrnn.Problem(line, r0=[0.0], t_span=(0.0, 1.5), objective=objective))
    >>> e = found.parameters["k"] * t - [1.1, 1.9, 3.0]
    >>> bool(abs(laplace(found).standard_errors[0] - np.sqrt(e @ e / 2 / (t @ t))) < 1e-8)
    True
    """
    if isinstance(problem, Fit):
        return laplace_at(problem.problem, problem.names, problem.fits_r0, Settings(**problem.settings))
    return laplace_at(problem, parameters, r0, Settings(solver, rtol, atol, dt))
