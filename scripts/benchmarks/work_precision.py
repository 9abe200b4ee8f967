"""Work and precision, time against achieved error.

    python scripts/benchmarks/work_precision.py [solutions sensitivities gradients]

Lotka–Volterra (20 outputs), Robertson to 4·10¹⁰ (12 outputs), van der Pol at μ = 1000 and HIRES; tolerances from 1e-3
to 1e-10. Solutions, all dy/dp at the output times, and the gradient of one loss at the end, by ours, SciPy, diffrax,
torchdiffeq and CVODES (scripts/benchmarks/solvers.py), against references in extended precision.

The error is the largest over the outputs, each in the norm over states (and parameters, every entry times its
parameter), of states relative to each. Times are medians of interleaved rounds, compilation excluded. "time at an
error" is interpolated in log-log on what a solver can do at best; there is no extrapolation.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import systems
from rich.console import Console
from rich.table import Table
from solvers import programs
from timing import interleaved, once

from ctrnn.errors import CtrnnError
from ctrnn.plotting.style import BLACK, BLUE, GREEN, ORANGE, PINK, frame, save, styled

QUANTITIES = ("solutions", "sensitivities", "gradients")
TOLERANCES = tuple(10.0**-k for k in range(3, 11))
ERRORS = (1e-3, 1e-5, 1e-7, 1e-9)
PATIENCE = 1.0  # seconds: no tighter tolerance after a run that took longer
FIGURES = Path(__file__).resolve().parents[2] / "figures"
COLOUR = {"ctrnn": BLUE, "SciPy": ORANGE, "diffrax": GREEN, "torchdiffeq": PINK, "CVODES": BLACK}


@dataclass(frozen=True)
class Curve:
    """Errors and seconds of one solver, by rising accuracy."""

    rtol: list[float]
    error: list[float]
    seconds: list[float]

    def at(self, error: float) -> float:
        """The seconds for an error, NaN outside of what was reached."""
        fastest: list[tuple[float, float]] = []
        for e, s in sorted(zip(self.error, self.seconds, strict=True)):
            if not fastest or s < fastest[-1][1]:
                fastest.append((e, s))
        if not fastest or error < fastest[0][0]:
            return float("nan")
        e, s = np.log(np.array(fastest)).T
        return float(np.exp(np.interp(np.log(error), e, s)))


def error_of(found: np.ndarray, exact: np.ndarray, quantity: str, system: systems.System) -> float:
    if quantity == "solutions":
        return float(np.max(np.abs(found - exact) / np.abs(exact)))
    size = np.array(system.p)
    axes = (-2, -1) if quantity == "sensitivities" else None
    if quantity == "sensitivities":  # each state's row relative to the state
        size = size / np.abs(system.reference[0])[..., None]
    return float(np.max(np.linalg.norm((found - exact) * size, axis=axes) / np.linalg.norm(exact * size, axis=axes)))


def curves(
    system: systems.System, quantity: str, console: Console, budget: float, libraries: Iterable[str] = COLOUR
) -> dict[str, Curve]:
    """Every solver of the libraries at every tolerance that it bears."""
    y, P = system.reference
    gradient = np.sum(P[-1] / np.array(system.scale)[:, None], axis=0)
    exact = dict(zip(QUANTITIES, (y, P, gradient), strict=True))[quantity]
    errors, runs, slow = {}, {}, {}
    for name, make in programs(quantity, system).items():
        if name.split()[0] not in libraries:
            continue
        program = make(system)
        for rtol in TOLERANCES:
            try:
                run = program(rtol)
                error = error_of(run(), exact, quantity, system)
                if not np.isfinite(error):
                    raise RuntimeError("no result within the steps allowed")
            except (CtrnnError, RuntimeError) as failure:
                console.print(
                    f"{system.name}, {quantity}, {name}, rtol {rtol:.0e}: {str(failure).splitlines()[0][:110]}",
                    style="dim",
                )
                break
            if error >= 1:  # no result: too loose a tolerance
                continue
            errors[name, rtol] = max(error, 1e-16)
            taken = once(run)
            if taken > PATIENCE / 4:
                slow[name, rtol] = taken
            else:
                runs[name, rtol] = run
            if taken > PATIENCE:
                break
    keys = {f"{name}|{rtol}": (name, rtol) for name, rtol in runs}
    taken = interleaved({text: runs[key] for text, key in keys.items()}, budget)
    seconds = {keys[text]: value for text, value in taken.items()} | slow
    found: dict[str, Curve] = {}
    for name in dict.fromkeys(name for name, _ in errors):
        mine = [rtol for rtol in TOLERANCES if (name, rtol) in errors]
        found[name] = Curve(mine, [errors[name, rtol] for rtol in mine], [seconds[name, rtol] for rtol in mine])
    return found


def report(system: systems.System, quantity: str, found: dict[str, Curve], console: Console) -> None:
    table = Table(title=f"{system.name}: {quantity}, ms at an achieved error")
    table.add_column("solver")
    for error in ERRORS:
        table.add_column(f"{error:.0e}", justify="right")
    rows = {name: [1e3 * curve.at(error) for error in ERRORS] for name, curve in found.items()}

    def best(library: str) -> np.ndarray:
        return np.nanmin(
            [[np.inf] * len(ERRORS), *(row for name, row in rows.items() if name.startswith(library))], axis=0
        )

    for name, row in rows.items():
        table.add_row(name, *("–" if np.isnan(ms) else f"{ms:.3g}" for ms in row))
    table.add_section()
    for peer in ("SciPy", "diffrax", "torchdiffeq", "CVODES"):
        if any(name.startswith(peer) for name in rows):
            with np.errstate(invalid="ignore"):
                ratios = best(peer) / best("ctrnn")
            table.add_row(f"{peer} / ctrnn, best of each", *(f"{r:.2g}" if 0 < r < np.inf else "–" for r in ratios))
    console.print(table)


def cvodes_line(found: dict[str, Curve], console: Console) -> None:
    """Issue 3's bar: the 12 Robertson outputs with all three sensitivities at reltol 1e-6."""
    peer = found.get("CVODES BDF")
    if peer is None or 1e-6 not in peer.rtol:
        return
    k = peer.rtol.index(1e-6)
    text = "12 Robertson outputs with all three sensitivities, CVODES at reltol 1e-6: "
    text += f"{1e3 * peer.seconds[k]:.1f} ms at an achieved error of {peer.error[k]:.1e}"
    for name, curve in found.items():
        if name.startswith("ctrnn") and 1e-6 in curve.rtol:
            i = curve.rtol.index(1e-6)
            text += f"; {name} {1e3 * curve.at(peer.error[k]):.1f} ms at that error, "
            text += f"{1e3 * curve.seconds[i]:.1f} ms at rtol 1e-6 ({curve.error[i]:.1e})"
    console.print(text)


@styled
def draw(quantity: str, results: dict[str, dict[str, Curve]], path: Path) -> None:
    figure, axes = frame((len(results) + 1) // 2, min(len(results), 2), height=2.7)
    handles: dict[str, object] = {}
    names = list(dict.fromkeys(name for found in results.values() for name in found))
    place = {name: [other for other in names if other.split()[0] == name.split()[0]].index(name) for name in names}
    for ax, (title, found) in zip(axes, results.items(), strict=False):
        for name, curve in found.items():
            k = place[name]
            style = {
                "color": COLOUR[name.split()[0]],
                "linestyle": ("-", "--", ":", "-.")[k % 4],
                "marker": "osv^DPX*"[k % 8],
            }
            (handles[name],) = ax.loglog(curve.error, [1e3 * s for s in curve.seconds], **style, label=name)
        ax.set_title(title)
        ax.set_xlim(min(1.0, ax.get_xlim()[1]), ax.get_xlim()[0])  # an error of 1 is no result
        ax.set_xlabel("relative error")
        ax.set_ylabel("time / ms")
    order = sorted(handles, key=lambda name: (list(COLOUR).index(name.split()[0]), place[name]))
    figure.legend([handles[name] for name in order], order, loc="outside right upper", fontsize=7)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quantities", nargs="*", default=QUANTITIES, help=", ".join(QUANTITIES))
    parser.add_argument("--seconds", type=float, default=4.0, help="for the rounds of one panel")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    unknown = set(arguments.quantities) - set(QUANTITIES)
    if unknown:
        parser.error(f"no such quantity: {', '.join(sorted(unknown))}; there are {', '.join(QUANTITIES)}")
    console = Console(width=120)
    for library in ("diffrax", "torchdiffeq", "casadi"):
        if not find_spec(library):
            console.print(f"{library} is not installed: left out")
    if find_spec("jax"):
        import jax

        jax.config.update("jax_enable_x64", True)
    for quantity in arguments.quantities:
        results = {}
        for system in systems.ALL:
            results[system.name] = curves(system, quantity, console, arguments.seconds)
            report(system, quantity, results[system.name], console)
        if quantity == "sensitivities":
            cvodes_line(results["Robertson"], console)
        draw(quantity, results, arguments.figures / f"work-precision-{quantity}.png")


if __name__ == "__main__":
    sys.exit(main())
