"""Recurrent networks against what one could use instead.

    python scripts/benchmarks/networks.py [bptt rtrl simulation small ensemble]

Workload W(n, B) of scripts/benchmarks/peers.py. Before anything is timed, all programs are checked to compute the same
thing: to 1e-8, and torchdiffeq's adjoint ODE to its truncation error (torchdiffeq's "rk4", the 3/8 rule, is checked
against that rule). Rounds are interleaved, times are medians, compilation is excluded. "ratio" is to ours.

"of limit" is the least time that this machine allows over ours: flops at the measured rate of matrix products, or bytes
of W at the bandwidth of the cache that holds it where that takes longer, and tanh at its measured rate. Flops, multiply
and add counted apart, of n units and one trial, with N = n + 5 columns of [W U b] and s stages a step:

    simulation   2nN a stage
    BPTT         forward 2nN, λJ 2n², weights 2nN a stage
    exact RTRL   (n + 1)(2n² + 2nN) a stage, and ΦP 2n²N a step, in blocks of n steps: O(n³); textbook: 2n³N a stage
"""

from __future__ import annotations

import argparse
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import peers
from peers import INPUTS, STEPS, Workload
from rich.console import Console
from rich.table import Table
from timing import bandwidth, gemm_rate, interleaved, peaks, tanh_rate

import ctrnn
from ctrnn.plotting.style import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, frame, save, styled

FIGURES = Path(__file__).resolve().parents[2] / "figures"
HAS = {library: find_spec(library) is not None for library in ("jax", "diffrax", "torch", "casadi")}
SIZES = ((4, 1), (16, 1), (64, 1), (256, 1), (64, 16), (128, 64))
RTRL_SIZES = (16, 64, 128, 256, 512)

#: the ratios wanted of W(n, B), by what the name of a program begins with
WANTED: dict[str, Callable[[int], float]] = {
    "JAX scan": lambda n: 1.5,
    "diffrax": lambda n: 4.0,
    "torchdiffeq": lambda n: 50.0 if n <= 64 else 10.0,
    "JAX textbook": lambda n: {16: 3.0, 64: 8.0, 128: 20.0}.get(n, 20.0),
}


@dataclass(frozen=True)
class Row:
    """What was measured: of size ``where``, in seconds; ``wanted`` is the ratio aimed at, ``limit`` the least seconds
    possible."""

    section: str
    where: str
    program: str
    seconds: float
    ratio: float = 1.0
    wanted: float | None = None
    limit: float | None = None


def rows(
    section: str, where: str, taken: dict[str, float], wanted: dict[str, float], limit: float | None = None
) -> list[Row]:
    """Ours is the first of ``taken``."""
    ours = next(iter(taken))
    return [
        Row(
            section,
            where,
            name,
            t,
            t / taken[ours],
            wanted.get(name) if name != ours else None,
            limit if name == ours else None,
        )
        for name, t in taken.items()
    ]


def least_seconds(flops: float, bytes_of_W: float, passes: float, tanhs: float, cores: int) -> float:
    return max(flops / gemm_rate(), passes * bytes_of_W / bandwidth(int(bytes_of_W))) + tanhs / (cores * tanh_rate())


def check(name: str, found: np.ndarray, exact: np.ndarray, bound: float = 1e-8) -> None:
    off = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    if not off < bound:
        raise SystemExit(f"{name} does not compute the same: {off:.1e} relative")


def bptt(budget: float) -> Iterator[Row]:
    """The gradient of W(n, B) by back-propagation."""
    for n, B in SIZES:
        work = Workload.of(n, B)
        programs = {"ctrnn adjoint": peers.ours(work)}
        exact = programs["ctrnn adjoint"]()
        by_tsit5 = peers.ours(work, solver="tsit5")
        if HAS["jax"]:
            programs["JAX scan, jitted"] = peers.jax_bptt(work)
        if HAS["diffrax"]:
            programs["ctrnn adjoint, Tsit5"] = by_tsit5
            programs["diffrax Tsit5, checkpointed"] = peers.diffrax_programs(work)[0]
        if HAS["torch"] and B == 1:  # their loops of B = 64 take a minute
            programs |= peers.torch_programs(work)
        for name, run in programs.items():
            reference = by_tsit5() if "Tsit5" in name else exact
            if "torchdiffeq" in name and HAS["jax"]:
                reference = peers.jax_bptt(work, peers.THREE_EIGHTHS)()
            check(name, run(), reference, 1e-4 if "torchdiffeq adjoint" in name or not HAS["jax"] else 1e-8)
        N, stages = n + INPUTS + 1, 4 * STEPS
        flops = B * stages * (4 * n * N + 2 * n * n)
        limit = least_seconds(flops, 8 * n * n, 2 * stages, B * n * stages, min(B, os.cpu_count() or 1))
        taken = interleaved(programs, budget)
        ours = {name: taken.pop(name) for name in list(taken) if "Tsit5" in name}
        yield from rows("bptt", f"{n}, {B}", taken, wanted(taken, n), limit)
        yield from rows("bptt, Tsit5", f"{n}, {B}", ours, wanted(ours, n))


def wanted(taken: dict[str, float], n: int) -> dict[str, float]:
    return {name: aim(n) for name in taken for start, aim in WANTED.items() if name.startswith(start)}


def rtrl(budget: float) -> Iterator[Row]:
    """The same gradient, exact, by RTRL; memory is what numpy allocates at most (tracemalloc)."""
    seconds: list[float] = []
    for n in RTRL_SIZES:
        work = Workload.of(n)
        programs = {"ctrnn exact RTRL": peers.ours(work, "rtrl")}
        if HAS["jax"] and n <= 128:
            programs["JAX textbook RTRL, jitted"] = peers.jax_rtrl(work)
        exact = peers.ours(work)()
        tracemalloc.start()
        began = time.perf_counter()
        for name, run in programs.items():
            check(name, run(), exact)
            if name.startswith("ctrnn"):
                first, memory = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
        N = n + INPUTS + 1
        flops = STEPS * (4 * (n + 1) * (2 * n * n + 2 * n * N) + 2 * n * n * N)
        limit = flops / gemm_rate() + 4 * STEPS * n / tanh_rate()
        # minutes of 512 units would add no digit
        taken = {"ctrnn exact RTRL": first} if first > 4 * budget else interleaved(programs, budget)
        seconds.append(taken["ctrnn exact RTRL"])
        yield from rows("rtrl", f"{n}, 1; {memory / 1e6:.0f} MB", taken, wanted(taken, n), limit)
    n = np.array(RTRL_SIZES)
    power = np.log(seconds[-1] / seconds[1]) / np.log(n[-1] / n[1])
    print(f"exact RTRL: time grows as n^{power:.2f} from {n[1]} to {n[-1]} units")


def simulation(budget: float) -> Iterator[Row]:
    """W(n, 1) without a gradient, Tsit5 steps of 0.05."""
    for n in (4, 16, 64, 128, 256, 512):
        work = Workload.of(n)
        programs = {"ctrnn tsit5": peers.our_simulation(work, "tsit5")}
        if HAS["diffrax"]:
            programs["diffrax Tsit5"] = peers.diffrax_programs(work)[1]
        exact = programs["ctrnn tsit5"]()
        for name, run in programs.items():
            check(name, run(), exact)
        stages = 6 * STEPS
        limit = least_seconds(stages * 2 * n * (n + INPUTS + 1), 8 * n * n, stages, n * stages, 1)
        taken = interleaved(programs, budget)
        yield from rows("simulation", f"{n}, 1", taken, dict.fromkeys(programs, 2.0), limit)


def small(budget: float) -> Iterator[Row]:
    """Adaptive small systems: the time of each for an achieved error of 1e-7 (work_precision.py); SciPy's F is
    compiled, and of "solve_ivp" in Python."""
    import systems
    from work_precision import curves

    for system in (systems.LOTKA_VOLTERRA, systems.LORENZ):
        each = curves(system, "solutions", Console(), budget, ("ctrnn", "SciPy", "solve_ivp", "CVODES"))
        mine = min((name for name in each if name.startswith("ctrnn")), key=lambda name: each[name].at(1e-7))
        taken = {mine: each[mine].at(1e-7)} | {
            name.replace("SciPy", "solve_ivp, compiled F,"): curve.at(1e-7)
            for name, curve in each.items()
            if "ctrnn" not in name
        }
        aims = {name: 50.0 if "solve_ivp" in name else 1.0 for name in taken}
        yield from rows("small", f"{system.name}, error 1e-7", taken, aims)


def ensemble(budget: float, sets: int = 10_000) -> Iterator[Row]:
    """dr/dt = −r + W tanh(r) + b of 3 units from 0 to 10 for many W and b, adaptive Tsit5, rtol 1e-6, atol 1e-8: the
    last states."""
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(sets, 3, 3)), rng.normal(size=(sets, 3))
    field = ctrnn.RateNetwork(3)
    tolerance: dict[str, Any] = {"rtol": 1e-6, "atol": 1e-8}

    problem = ctrnn.Problem(field, np.zeros(3), (0.0, 10.0))

    def ours() -> np.ndarray:
        return ctrnn.ensemble(problem, {"W": W, "b": b}, solver="tsit5", **tolerance).r[:, 0]

    programs: dict[str, Callable[[], np.ndarray]] = {"ctrnn tsit5": ours}
    if HAS["diffrax"]:
        import diffrax
        import jax
        import jax.numpy as jnp

        term = diffrax.ODETerm(lambda t, r, w: -r + w[0] @ jnp.tanh(r) + w[1])
        control, last = diffrax.PIDController(**tolerance), diffrax.SaveAt(t1=True)

        def solve(*w: Any) -> Any:
            start = jnp.zeros(3)
            return diffrax.diffeqsolve(
                term, diffrax.Tsit5(), 0.0, 10.0, None, start, w, saveat=last, stepsize_controller=control
            ).ys[0]

        every = jax.jit(jax.vmap(solve))
        programs["diffrax Tsit5, vmap"] = lambda: np.asarray(every(W, b))
    exact = ours()
    for name, run in programs.items():
        if name != "ctrnn tsit5":
            check(name, run(), exact, 1e-4)
    yield from rows("ensemble", f"{sets} sets of 3 units", interleaved(programs, budget), {"diffrax Tsit5, vmap": 10.0})


SECTIONS = {"bptt": bptt, "rtrl": rtrl, "simulation": simulation, "small": small, "ensemble": ensemble}


def report(found: list[Row], console: Console) -> None:
    table = Table(title=f"Medians of interleaved rounds, {os.cpu_count()} cores; this machine: {peaks()}")
    for column in ("section", "n, B", "program", "ms", "ratio", "wanted", "of limit"):
        table.add_column(column, justify="left" if column in ("section", "n, B", "program") else "right")
    before = ""
    for row in found:
        if row.where + row.section != before:
            table.add_section()
        before = row.where + row.section
        aim = "" if row.wanted is None else f"{row.wanted:g} {'met' if row.ratio >= row.wanted else 'MISSED'}"
        share = "" if row.limit is None else f"{row.limit / row.seconds:.0%}"
        table.add_row(row.section, row.where, row.program, f"{1e3 * row.seconds:.4g}", f"{row.ratio:.2f}", aim, share)
    console.print(table)


@styled
def draw(found: list[Row], path: Path) -> None:
    """Times of W(n, 1) against n, and the limit of this machine beneath ours."""
    panels = {"gradient by BPTT": ("bptt",), "gradient by RTRL": ("rtrl",), "simulation": ("simulation",)}
    panels = {title: names for title, names in panels.items() if any(row.section in names for row in found)}
    if not panels:
        return
    figure, axes = frame(1, len(panels), height=3.2)
    colours = (BLUE, ORANGE, GREEN, PINK, SKY, BLACK)
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        mine = [row for row in found if row.section in names and row.where.split(";")[0].endswith(", 1")]
        programs = list(dict.fromkeys(row.program for row in mine))
        for k, program in enumerate(programs):
            points = [(int(row.where.split(",")[0]), 1e3 * row.seconds) for row in mine if row.program == program]
            ax.loglog(*zip(*points, strict=True), marker="os^vDP"[k % 6], color=colours[k % 6], label=program)
        limits = [(int(row.where.split(",")[0]), 1e3 * row.limit) for row in mine if row.limit]
        ax.loglog(*zip(*limits, strict=True), ":", color=BLACK, label="limit of this machine")
        ax.set_title(title)
        ax.minorticks_off()
        sizes = sorted({int(row.where.split(",")[0]) for row in mine})
        ax.set_xticks(sizes, [str(n) for n in sizes])
        ax.set_xlabel("units n")
        ax.legend(fontsize=6)
    axes[0].set_ylabel("time of 200 steps / ms")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", default=list(SECTIONS), help=", ".join(SECTIONS))
    parser.add_argument("--seconds", type=float, default=3.0, help="for the rounds of one size")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    console = Console(width=120)
    for library, there in HAS.items():
        if not there:
            console.print(f"{library} is not installed: left out")
    if HAS["jax"]:
        import jax

        jax.config.update("jax_enable_x64", True)
    found: list[Row] = []
    for name in arguments.sections:
        mine: list[Row] = []
        for row in SECTIONS[name](arguments.seconds):
            console.print(f"{row.section} {row.where}: {row.program} {1e3 * row.seconds:.4g} ms", style="dim")
            mine.append(row)
        report(mine, console)
        found += mine
    draw(found, arguments.figures / "networks-speed.png")


if __name__ == "__main__":
    main()
