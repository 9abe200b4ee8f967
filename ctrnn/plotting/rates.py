"""Figures of rates: Lyapunov exponents as they settle, and growth before decay."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctrnn.errors import UnknownNameError
from ctrnn.plotting.style import BLUE, COLOURS, GREY, ORANGE, frame, legend_above, styled, words

#: so many exponents have a colour and an entry of their own
NAMED = 4


@styled
def lyapunov(found: Any, *, time_label: str = "t", time_unit: str = "", ax: Any = None) -> Figure:
    """Lyapunov exponents: how the running means settle, and the spectrum with its standard errors.

    Parameters
    ----------
    found : LyapunovSpectrum
        From `ctrnn.analysis.lyapunov_spectrum`.
    time_label : str, default "t"
        At the time axis, with its unit.
    time_unit : str, optional
        Exponents are rates, per this.
    ax : sequence of matplotlib.axes.Axes, optional
        Two, for the means and for the exponents.

    Returns
    -------
    matplotlib.figure.Figure
        Running means left, all exponents right.

    Raises
    ------
    AttributeError
        For what is no spectrum.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Problem(ctrnn.Equations({"u": "-u", "v": "-3*v"}), r0=[1.0, 1.0], t_span=(0.0, 20.0))
    >>> len(lyapunov(ctrnn.analysis.lyapunov_spectrum(decay)).axes)
    2
    """
    figure, (left, right) = frame(1, 2, height=2.9, ax=ax, width_ratios=(3, 2))
    t, running, k = found.t[1:], found.running, found.exponents.size
    for i in range(k):
        style: dict[str, Any] = {
            "color": COLOURS[i],
            "label": f"λ{i + 1} = {found.exponents[i]:+.4g}".replace("-", "−"),
            "zorder": 3,
        }
        if i >= NAMED:
            style = {"color": GREY, "lw": 0.6, "label": "others" if i == NAMED else "_"}
        left.plot(t, running[:, i], **style)
    # the first means are far off; the last nine tenths say where they go
    late = running[max(len(t) // 10, min(1, len(t) - 1)) :]
    low, high = min(late.min(), 0.0), max(late.max(), 0.0)
    margin = 0.08 * max(high - low, 1e-12)
    per = f" (1/{time_unit})" if time_unit else " (per unit of t)"
    left.set(xlabel=time_label, ylabel=f"exponents up to t{per}", ylim=(low - margin, high + margin))
    errors = np.nan_to_num(found.standard_errors)
    number = np.arange(1, k + 1)
    right.errorbar(number, found.exponents, 2 * errors, fmt="o", ms=4 if k <= 40 else 2, color=BLUE, lw=1.0)
    for axes in (left, right):
        axes.axhline(0.0, color=GREY, lw=0.8)
    right.set(xlabel="number; bars: ± 2 standard errors", ylabel=f"exponents{per}")
    if k <= 10:
        right.set_xticks(number)
    legend_above(figure, left)
    return figure


@styled
def transient_growth(found: Any, *, ax: Axes | None = None, time_label: str = "t") -> Figure:
    """How much a small change can grow before it decays: ‖e^{Jt}‖ against t, with its peak.

    Parameters
    ----------
    found : TransientGrowth
        From `ctrnn.analysis.transient_growth`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.
    time_label : str, default "t"
        At the time axis, with its unit.

    Returns
    -------
    matplotlib.figure.Figure
        One panel.

    Raises
    ------
    UsageError
        For ``ax`` that are in no figure.

    Examples
    --------
    >>> from ctrnn.analysis import transient_growth as growth
    >>> transient_growth(growth([[-1.0, 10.0], [0.0, -2.0]])).axes[0].get_ylabel()
    '‖exp(Jt)‖'
    """
    figure, (axes,) = frame(height=3.0, width=5.4, ax=ax)
    axes.semilogy(found.t, found.growth, color=COLOURS[0], label="largest amplification until t")
    axes.plot([found.t_peak], [found.peak], "o", color=ORANGE, ms=6, label=f"peak {found.peak:.4g}", zorder=4)
    axes.axhline(1.0, color=GREY, lw=0.8)
    axes.set(xlabel=time_label, ylabel="‖exp(Jt)‖")
    legend_above(figure, axes)
    return figure


@styled
def jacobian_products(found: Any, *, time_label: str = "t", ax: Any = None) -> Figure:
    """Why gradients vanish or explode: norms and singular values of the products of Jacobians along a run.

    Parameters
    ----------
    found : JacobianProducts
        From `ctrnn.analysis.jacobian_products`.
    time_label : str, default "t"
        At the time axes, with its unit.
    ax : matplotlib.axes.Axes or a sequence of them, optional
        One a panel.

    Returns
    -------
    matplotlib.figure.Figure
        Singular values of the products against the time that they go back, with the bound γ^steps; right the largest
        and least singular value of single steps.

    Raises
    ------
    AttributeError
        For what are no products.

    Examples
    --------
    >>> import ctrnn
    >>> network = ctrnn.RateNetwork(5, gain=0.5, seed=0)
    >>> found = ctrnn.analysis.jacobian_products(ctrnn.Problem(network, np.ones(5), (0.0, 20.0)), dt=1.0)
    >>> len(jacobian_products(found).axes)
    2
    """
    figure, (left, right) = frame(1, 2, height=2.9, width_ratios=(3, 2), ax=ax)
    back, logs = found.t_end - found.t, found.log_singular_values / np.log(10.0)
    n = logs.shape[1]
    for k, i in enumerate(np.unique(np.linspace(0, n - 1, min(n, 12)).round().astype(int))[1:]):
        left.plot(back, logs[:, i], color=GREY, lw=0.7, label="_" if k else "other singular values")
    left.plot(back, logs[:, 0], color=BLUE, lw=1.8, label="norm of the product")
    steps = np.arange(1, len(found.jacobians) + 1)
    at = found.t_end - found.times[::-1][1:]
    left.plot(at, steps * np.log10(found.bound), "--", color=ORANGE, label="γ to the number of steps")
    left.axhline(0.0, color=GREY, lw=0.8)
    # the bound, or a singular J, must not press the norm flat
    low = min(float(logs[:, 0].min()), 0.0) - 1.0
    high = max(float(logs[:, 0].max()), 0.0) + 1.0
    reach = max(high - low, 2.0)
    left.set(
        xlabel=f"time back from the end, {time_label}",
        ylabel="log10 of singular values",
        ylim=(low - reach, high + reach),
    )
    σ = np.linalg.svd(found.jacobians, compute_uv=False)
    right.semilogy(found.times[:-1], σ[:, 0], color=BLUE, label="_")
    right.semilogy(found.times[:-1], np.maximum(σ[:, -1], 1e-16), color=GREY, label="_")
    right.axhline(1.0, color=GREY, lw=0.8)
    right.set(xlabel=time_label, ylabel="largest and least σ of one step")
    legend_above(figure, left)
    return figure


@styled
def exponents_against(
    found: Any, parameter: str | None = None, *, labels: Any = None, time_unit: str = "", ax: Axes | None = None
) -> Figure:
    """Lyapunov exponents of many runs against a parameter.

    Parameters
    ----------
    found : LyapunovSpectra
        From `ctrnn.analysis.lyapunov_spectra`.
    parameter : str, optional
        Which of the parameters that vary; None: the first.
    labels : mapping, optional
        What stands for the parameter's name at its axis.
    time_unit : str, optional
        Exponents are rates, per this.
    ax : matplotlib.axes.Axes, optional
        Where to draw; its figure then is returned.

    Returns
    -------
    matplotlib.figure.Figure
        One panel: the first exponents with bars of two standard errors.

    Raises
    ------
    UnknownNameError
        For a parameter that does not vary, or is no single number.

    Examples
    --------
    >>> import ctrnn
    >>> decay = ctrnn.Problem(ctrnn.Equations({"r": "-k*r"}, {"k": 1.0}), r0=[1.0], t_span=(0.0, 10.0))
    >>> exponents_against(ctrnn.analysis.lyapunov_spectra(decay, {"k": [1.0, 2.0]})).axes[0].get_xlabel()
    'k'
    """
    single = [name for name, values in found.parameters.items() if values.ndim == 1]
    name = parameter if parameter is not None else (single[0] if single else "")
    if name not in single:
        raise UnknownNameError("parameter", name, single)
    figure, (axes,) = frame(ax=ax, height=3.4, width=5.4)
    at, order = found.parameters[name], np.argsort(found.parameters[name], kind="stable")
    k = found.exponents.shape[1]
    for i in range(min(k, NAMED)):
        values, errors = found.exponents[order, i], 2 * np.nan_to_num(found.standard_errors[order, i])
        style: dict[str, Any] = {"color": COLOURS[i], "ms": 3, "lw": 1.2, "elinewidth": 0.8}
        axes.errorbar(at[order], values, errors, fmt="o-", label=f"λ{i + 1}", **style)
    axes.axhline(0.0, color=GREY, lw=0.8)
    per = f" (1/{time_unit})" if time_unit else " (per unit of t)"
    axes.set(xlabel=words(labels).get(name, name), ylabel=f"Lyapunov exponents{per}")
    legend_above(figure, axes)
    return figure
