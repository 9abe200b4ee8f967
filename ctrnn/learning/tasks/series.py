"""Measured series, which come with the package: what the next years bring."""

from __future__ import annotations

from importlib import resources

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.learning.tasks.task import Array, Task
from ctrnn.numbers import flag, whole


def hare_lynx(standardise: bool = True) -> Task:
    """Hare and lynx, 1900 to 1920: next year's pelts from this year's.

    Parameters
    ----------
    standardise : bool
        Whether each series is taken less its mean and divided by its standard deviation, which ``offset`` and ``scale``
        keep.

    Returns
    -------
    Task
        One trial of 20 steps of a year; ``in_units`` gives thousands of pelts.

    Raises
    ------
    UsageError
        If ``standardise`` is neither True nor False.

    Notes
    -----
    Pelts taken by the Hudson's Bay Company: C. Elton and M. Nicholson, Journal of Animal Ecology 11 (1942), in the
    table that is in wide use since.

    Examples
    --------
    >>> task = hare_lynx()
    >>> [round(float(v), 1) for v in task.in_units(task.y[0, 0])]  # 1901
    [47.2, 6.1]
    """
    return _years(
        "hare_lynx.csv",
        "hare-lynx",
        "Next year's pelts of hare and lynx, from this year's.",
        1,
        standardise,
        None,
        "thousands of pelts",
        "Elton and Nicholson 1942",
    )


def sunspots(horizon: int = 1, standardise: bool = True, until: int | None = 1948) -> Task:
    """Yearly sunspot numbers, 1700 to 2008: the number ``horizon`` years ahead.

    Parameters
    ----------
    horizon : int
        Years that are looked ahead.
    standardise : bool
        Whether the series is taken less its mean and divided by its standard deviation, which ``offset`` and ``scale``
        keep.
    until : int, optional
        The last year that mean and standard deviation know of, so that a test on later years stays one; None: all.

    Returns
    -------
    Task
        One trial of 309 − horizon steps of a year. ``task.t`` has the year that each step ends with, from which
        ``horizon − 1`` more years lead to the one predicted.

    Raises
    ------
    UsageError
        For a horizon that is no number of years of the series, and a year that is not in it.

    Notes
    -----
    Yearly mean sunspot numbers of NOAA's National Geophysical Data Center, public domain. Trained to 1948 and tested
    from 1949 on in the manner of H. Tong and K. Lim, Journal of the Royal Statistical Society B 42 (1980), and many
    after them.

    Examples
    --------
    >>> task = sunspots()
    >>> train, test = task.steps(0, 248), task.steps(248)
    >>> train.t[-1], test.t[0], test.t[-1]
    (np.float64(1948.0), np.float64(1949.0), np.float64(2008.0))
    """
    return _years(
        "sunspots_yearly.csv",
        f"sunspots{'' if horizon == 1 else f' {horizon} ahead'}",
        f"The sunspot number {horizon} year{'s'[: horizon - 1] if isinstance(horizon, int) else ''} ahead.",
        horizon,
        standardise,
        until,
        "sunspot number",
        "NOAA/NGDC",
    )


def table(file: str) -> tuple[Array, tuple[str, ...]]:
    """The columns of a shipped table (T, 1 + columns), the year first, and their names.

    >>> values, names = table("sunspots_yearly.csv")
    >>> values.shape, names
    ((309, 2), ('year', 'sunspots'))
    """
    with (resources.files("ctrnn") / "examples" / file).open(encoding="utf-8") as lines:
        names = tuple(lines.readline().strip().split(","))
        return np.loadtxt(lines, delimiter=",", ndmin=2), names


def _years(
    file: str,
    name: str,
    description: str,
    horizon: int,
    standardise: bool,
    until: int | None,
    unit: str,
    reference: str,
) -> Task:
    values, names = table(file)
    years, series, outputs = values[:, 0], values[:, 1:], names[1:]
    whole("horizon", horizon)
    flag("standardise", standardise)
    if horizon >= years.size:
        raise UsageError("horizon", given=horizon, allowed=f"fewer years than the series has, {years.size}")
    offset, scale = np.zeros(series.shape[1]), np.ones(series.shape[1])
    if standardise:
        if until is not None and not years[1] <= whole("until", until) <= years[-1]:
            raise UsageError("until", given=until, allowed=f"a year from {years[1]:.0f} to {years[-1]:.0f}, or None")
        known = series if until is None else series[years <= until]
        offset, scale = known.mean(axis=0), known.std(axis=0)
    s = ((series - offset) / scale)[None]
    x, y = s[:, :-horizon], s[:, horizon:]
    return Task(
        name,
        description,
        x,
        y,
        np.ones(x.shape[:2]),
        1.0,
        outputs,
        outputs,
        time_unit="years",
        t0=float(years[0]),
        offset=offset,
        scale=scale,
        unit=unit,
        feeds_back=horizon == 1,
        reference=reference,
    )
