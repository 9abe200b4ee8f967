"""Figures of the division-free inverse: convergence, the step and the spectrum, bits and noise against error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from ctrnn.errors import UsageError
from ctrnn.inverse.spectrum import best_step, step_bound
from ctrnn.plotting.style import BLACK, BLUE, COLOURS, GREEN, GREY, ORANGE, frame, legend_above, styled

MARKERS = "os^Dv<>P*X"
DASHES = ("-", (0, (5, 2)), (0, (2, 1.5)))


@styled
def inverse_convergence(results: Mapping[str, Any], *, ax: Axes | None = None) -> Figure:
    """The relative residual ‖VA − a‖/‖a‖ of each method against its iterations.

    Parameters
    ----------
    results : mapping of str to Inverse
        What `ctrnn.inverse.right_divide` returned, by the name in the legend.
    ax : matplotlib.axes.Axes, optional
        Where to draw.

    Returns
    -------
    matplotlib.figure.Figure
        One panel, both axes logarithmic.

    Raises
    ------
    UsageError
        For no results.

    Examples
    --------
    >>> from ctrnn.inverse import right_divide
    >>> A = [[-2.0, 1.0], [0.0, -1.0]]
    >>> inverse_convergence({m: right_divide([1.0, 1.0], A, m) for m in ("flow", "lu")}).axes[0].get_xscale()
    'log'
    """
    if not results:
        raise UsageError("results", given=results, allowed="one result or more")
    figure, (axes,) = frame(height=3.6, ax=ax)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for k, (name, result) in enumerate(results.items()):
        done = (
            np.asarray(result.residual_at, float) + 1
        )  # the start, at no iteration, is the first mark of a logarithmic axis
        residual = np.maximum(result.residual, 1e-17)
        few = len(done) <= 40
        axes.plot(
            done,
            residual,
            color=COLOURS[k % len(COLOURS)],
            ls=DASHES[k // len(COLOURS) % len(DASHES)],
            marker=MARKERS[k % len(MARKERS)],
            markevery=1 if few else 0.12,
            mfc="none",
            ms=4,
            lw=1.2,
            label=name,
        )
    axes.yaxis.set_major_locator(LogLocator(numticks=10))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="iterations + 1", ylabel="residual ‖VA − a‖ / ‖a‖")
    legend_above(figure, axes)
    return figure


@styled
def euler_step(
    eigenvalues: ArrayLike, observed: Sequence[tuple[float, float]] = (), *, time_unit: str = "", ax: Any = None
) -> Figure:
    """The eigenvalues of a Hurwitz A with the discs |1 + hλ| < 1 of Euler's step, and the contraction against h.

    Parameters
    ----------
    eigenvalues : array_like of complex
        Of A, all left of the imaginary axis.
    observed : sequence of tuple of float, optional
        Pairs of a step and the factor of the residual an iteration that was measured with it: dots beside the curve.
    time_unit : str, optional
        The eigenvalues are rates, per this.
    ax : sequence of matplotlib.axes.Axes, optional
        Two, for the plane and for the contraction.

    Returns
    -------
    matplotlib.figure.Figure
        The plane left, max |1 + hλ| against the step right.

    Raises
    ------
    UsageError
        For eigenvalues that are not finite or not left of the axis.

    Notes
    -----
    The formulas are in `ctrnn.inverse.spectrum`.

    Examples
    --------
    >>> [axes.get_xlabel() for axes in euler_step([-1 + 2j, -1 - 2j, -3]).axes]
    ['real part', 'step h']
    """
    z = np.asarray(eigenvalues, complex).ravel()
    if z.size == 0 or not np.isfinite(z).all() or z.real.max() >= 0:
        raise UsageError("eigenvalues", given=z, allowed="finite numbers left of the imaginary axis")
    bound, best = step_bound(z), best_step(z)
    figure, (plane, rate) = frame(1, 2, height=3.3, ax=ax, width_ratios=(1, 1))
    plane.axvline(0.0, color=GREY, lw=1.0)
    plane.axhline(0.0, color=GREY, lw=0.5)
    plane.plot(z.real, z.imag, "o", color=BLUE, ms=3.5, label="eigenvalues of A", zorder=3)
    for h, colour, dash, name in ((bound, ORANGE, "--", "largest step"), (best, GREEN, "-", "best step")):
        label = f"|1 + hλ| = 1, {name} h = {h:.4g}"
        plane.add_patch(Circle((-1 / h, 0.0), 1 / h, fill=False, ec=colour, ls=dash, lw=1.3))
        plane.plot([], [], color=colour, ls=dash, lw=1.3, label=label)  # a legend would show a circle as a box
    last = z[np.argmin(2 * np.abs(z.real) / np.abs(z) ** 2)]
    plane.plot(
        [last.real] * 2,
        [last.imag, -last.imag],
        "o",
        mfc="none",
        mec=BLACK,
        ms=9,
        ls="none",
        label="eigenvalue that bounds the step",
    )
    per = f" (1/{time_unit})" if time_unit else ""
    plane.set(xlabel=f"real part{per}", ylabel=f"imaginary part{per}")
    plane.margins(0.1)
    plane.set_aspect("equal", adjustable="datalim")

    steps = np.linspace(0.0, 1.25 * bound, 400)
    rate.plot(steps, np.abs(1 + steps[:, None] * z).max(axis=1), color=BLACK, label="max |1 + hλ|, predicted")
    if len(observed):
        rate.plot(*np.asarray(observed, float).T, "o", color=BLUE, ms=5, mfc="none", label="observed")
    rate.axvline(bound, color=ORANGE, ls="--", lw=1.3)
    rate.axvline(best, color=GREEN, lw=1.3)
    rate.axhline(1.0, color=GREY, lw=0.8)
    rate.set(xlabel=f"step h{f' ({time_unit})' if time_unit else ''}", ylabel="factor of the residual per iteration")
    handles = [axes.get_legend_handles_labels() for axes in (plane, rate)]
    legend_above(figure, plane, ([h for one in handles for h in one[0]], [t for one in handles for t in one[1]]))
    return figure


@styled
def hardware_error(bits: Sequence[Any], noise: Sequence[Any] = (), *, ax: Any = None) -> Figure:
    """The relative error of a A⁻¹ against fraction bits and, beside it, against noise.

    Parameters
    ----------
    bits : sequence of HardwareTable
        Of `ctrnn.inverse.word_length`.
    noise : sequence of HardwareTable, optional
        Of `ctrnn.inverse.device_noise`.
    ax : matplotlib.axes.Axes or a sequence of them, optional
        One for each panel.

    Returns
    -------
    matplotlib.figure.Figure
        A panel for each that is given: errors as marks; in the same colour what theory expects (a line) and its bound
        (dotted).

    Raises
    ------
    UsageError
        For no table.

    Examples
    --------
    >>> from ctrnn.inverse import word_length
    >>> hardware_error([word_length([1.0], [[-0.7]], fractions=[8, 12])]).axes[0].get_xlabel()
    'fraction bits'
    """
    panels = [tables for tables in (bits, noise) if len(tables)]
    if not panels:
        raise UsageError("bits", given=bits, allowed="one table or more")
    figure, axes = frame(1, len(panels), height=3.4, ax=ax)
    names = list(dict.fromkeys(_name(table) for tables in panels for table in tables))
    for one, tables in zip(axes, panels, strict=True):
        one.set_yscale("log")
        for table in tables:
            name = _name(table)
            k = names.index(name)
            fine = np.isfinite(table.error) & (table.error < 10)
            style: dict[str, Any] = {"color": COLOURS[k % len(COLOURS)]}
            one.plot(
                table.levels[fine],
                table.error[fine],
                MARKERS[k % len(MARKERS)],
                ms=4.5,
                mfc="none",
                label=name,
                **style,
            )
            for theory, dash in ((table.expected, "-"), (table.bound, ":")):
                known = np.isfinite(theory) & (theory < 10)
                one.plot(table.levels[known], theory[known], lw=1.0, ls=dash, **style)
        if tables is bits:
            one.xaxis.set_major_locator(MaxNLocator(integer=True))
            one.set(xlabel="fraction bits", ylabel="error ‖V − aA⁻¹‖ / ‖aA⁻¹‖", title="word length")
        else:
            one.set_xscale("log")
            one.set(
                xlabel="standard deviation / largest |aᵢⱼ|",
                ylabel="" if one is not axes[0] else "error ‖V − aA⁻¹‖ / ‖aA⁻¹‖",
                title="noise of A",
            )
    handles: dict[str, Any] = {}
    for one in axes:
        for handle, name in zip(*one.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    handles |= {name: Line2D([], [], color=GREY, ls=dash) for name, dash in (("expected", "-"), ("bound", ":"))}
    legend_above(figure, axes[0], (list(handles.values()), list(handles)))
    return figure


def _name(table: Any) -> str:
    return table.method if table.knob in ("fraction bits", "read noise") else f"{table.method}, {table.knob}"
