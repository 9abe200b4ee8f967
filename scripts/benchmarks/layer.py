"""Layers of ctrnn.nn against the same networks in torch.

    python scripts/benchmarks/layer.py [--seconds 3]

A batch of B sequences of 200 inputs with 4 channels, n tanh units, float64; squared error to a target at each of the
200 times; one call of the layer and loss.backward(), with gradients to W, U and b.

    rk4      dr/dt = −r + W tanh(r) + U x + b, a step of 0.05 for each input, against two loops in eager torch, both
             over the whole batch at once: the formula as one writes it down, and with the fewest operations (U x + b
             taken out of the loop, a stage in tanh, addmm, sub, and sums in place of products)
    euler    form "rate", one Euler step of dt = tau for each input, against torch.nn.RNN
    gated    CTGRU and CTLSTM, Euler steps of dt = tau, against torch.nn.GRU and LSTM, 64 units and 16 sequences, in
             float64 and float32 (ours computes in float64 in both; torch's LSTM in float32 is one call of oneDNN)

Before anything is timed all are checked to compute the same gradient to 1e-10. Rounds are interleaved, with a call that
is not timed before each that is; the least and the median time are given, and the least processor time, which a busy
machine does not change. torch runs on one thread (its fastest setting for products of this size: two spin against each
other), ctrnn on all cores.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

import ctrnn
from ctrnn.plotting.style import BLUE, GREEN, ORANGE, frame, save, styled

FIGURES = Path(__file__).resolve().parents[2] / "figures"
T, INPUTS, DT = 200, 4, 0.05
SIZES = (4, 16, 64, 256)
BATCHES = (1, 16, 64)
WANTED = {("rk4", 64, 16): 10.0}
Program = Callable[[], list[torch.Tensor]]


def rk4_as_written(layer: ctrnn.nn.CTRNN, x: torch.Tensor) -> torch.Tensor:
    """The states (T, B, n) of the layer, by torch alone."""
    W, U, b = layer.W, layer.U, layer.b
    r, states = torch.zeros(x.shape[0], layer.hidden_size), []

    def F(r: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return -r + torch.tanh(r) @ W.T + x @ U.T + b

    for t in range(T):
        k1 = F(r, x[:, t])
        k2 = F(r + DT / 2 * k1, x[:, t])
        k3 = F(r + DT / 2 * k2, x[:, t])
        k4 = F(r + DT * k3, x[:, t])
        r = r + DT / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(r)
    return torch.stack(states)


def rk4_of_few_operations(layer: ctrnn.nn.CTRNN, x: torch.Tensor) -> torch.Tensor:
    """The same."""
    drive, WT = x.transpose(0, 1) @ layer.U.T + layer.b, layer.W.T
    r, states = torch.zeros(x.shape[0], layer.hidden_size), []

    def F(r: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return torch.addmm(d, torch.tanh(r), WT) - r

    for d in drive:
        k1 = F(r, d)
        k2 = F(torch.add(r, k1, alpha=DT / 2), d)
        k3 = F(torch.add(r, k2, alpha=DT / 2), d)
        k4 = F(torch.add(r, k3, alpha=DT), d)
        r = torch.add(r, k1 + 2 * (k2 + k3) + k4, alpha=DT / 6)
        states.append(r)
    return torch.stack(states)


def programs(case: str, n: int, B: int) -> dict[str, Program]:
    """What gives dl/d(W, U, b), ours first."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(B, T, INPUTS, generator=generator), torch.randn(T, B, n, generator=generator)

    def gradient(states: Callable[[], torch.Tensor], of: list[torch.nn.Parameter]) -> Program:
        def run() -> list[torch.Tensor]:
            for weight in of:
                weight.grad = None
            (0.5 * (states() - y).square().sum()).backward()
            return [weight.grad for weight in of if weight.grad is not None]

        return run

    how = {"tau": 1.0, "gain": 1.2} if case == "rk4" else {"tau": DT, "solver": "euler", "form": "rate"}
    layer = ctrnn.nn.CTRNN(INPUTS, n, dt=DT, seed=0, **how)
    weights = [layer.W, layer.U, layer.b]
    made = {"ctrnn.nn.CTRNN": gradient(lambda: layer(x)[0].transpose(0, 1), weights)}
    if case == "rk4":
        made["eager torch, as written"] = gradient(lambda: rk4_as_written(layer, x), weights)
        made["eager torch, few operations"] = gradient(lambda: rk4_of_few_operations(layer, x), weights)
        return made
    peer, sequence = torch.nn.RNN(INPUTS, n), x.transpose(0, 1).contiguous()
    theirs = [peer.weight_hh_l0, peer.weight_ih_l0, peer.bias_ih_l0]
    with torch.no_grad():
        for weight, ours in zip(theirs, weights, strict=True):
            weight.copy_(ours)
        peer.bias_hh_l0.zero_()
    peer.bias_hh_l0.requires_grad_(False)
    return made | {"torch.nn.RNN": gradient(lambda: peer(sequence)[0], theirs)}


def gated(kind: str, dtype: torch.dtype) -> dict[str, Program]:
    """The gradients of all weights of torch's layer and of ours, checked to be the same."""
    torch.manual_seed(0)
    peer = getattr(torch.nn, kind)(INPUTS, 64, batch_first=True, dtype=dtype)
    layer = getattr(ctrnn.nn, f"CT{kind}").from_torch(peer)
    x, y = torch.randn(16, T, INPUTS, dtype=dtype), torch.randn(16, T, 64, dtype=dtype)

    def gradient(module: torch.nn.Module) -> Program:
        def run() -> list[torch.Tensor]:
            module.zero_grad()
            (0.5 * (module(x)[0] - y).square().sum()).backward()
            return [weight.grad for weight in module.parameters() if weight.grad is not None]

        return run

    made = {"ctrnn.nn.CTRNN": gradient(layer), f"torch.nn.{kind}": gradient(peer)}
    mine, theirs = (made[name]() for name in made)
    order = {"GRU": "rzn", "LSTM": "ifgo"}[kind]
    of = dict(zip((name for name, _ in layer.named_parameters()), mine, strict=True))
    W = torch.cat([of[f"W_{gate}"] for gate in order])
    off = float((W - theirs[1]).norm() / theirs[1].norm())
    if off > (1e-12 if dtype == torch.float64 else 1e-5):
        raise SystemExit(f"{kind}, {dtype}: the gradients differ by {off:.1e}")
    return made


@dataclass(frozen=True)
class Times:
    """Seconds of each round, and of the processor."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)


def rounds(made: dict[str, Program], budget: float, least: int = 5) -> dict[str, Times]:
    """Each in turn; a call before it, not timed, brings the caches back."""
    taken = {name: Times() for name in made}
    end = time.perf_counter() + budget
    while len(taken["ctrnn.nn.CTRNN"].wall) < least or time.perf_counter() < end:
        for name, run in made.items():
            run()
            began, busy = time.perf_counter(), time.process_time()
            run()
            taken[name].processor.append(time.process_time() - busy)
            taken[name].wall.append(time.perf_counter() - began)
    return taken


@styled
def draw(found: dict[tuple[str, int, int], dict[str, Times]], path: Path) -> None:
    """Medians against n: ours drawn through, torch (as written) dashed, a colour for each B."""
    figure, axes = frame(1, 2, height=3.2)
    for ax, case, title in zip(
        axes, ("rk4", "euler"), ("RK4, against eager torch", "Euler, against torch.nn.RNN"), strict=True
    ):
        for B, colour, marker in zip(BATCHES, (BLUE, ORANGE, GREEN), "os^", strict=True):
            for k, line in enumerate(("-", "--")):
                times = [1e3 * median(list(found[case, n, B].values())[k].wall) for n in SIZES]
                label = f"B = {B}, {'ctrnn' if k == 0 else 'torch'}"
                ax.loglog(SIZES, times, line, marker=marker, color=colour, label=label, markersize=4)
        ax.set_title(title)
        ax.set_xlabel("units n")
        ax.set_xticks(SIZES, [str(n) for n in SIZES])
        ax.minorticks_off()
    axes[0].set_ylabel("forward and backward of 200 inputs / ms")
    axes[1].legend(fontsize=6, loc="upper left", handlelength=4.0)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="for the rounds of one size")
    parser.add_argument("--figures", type=Path, default=FIGURES)
    arguments = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    console = Console(width=120)
    found: dict[tuple[str, int, int], dict[str, Times]] = {}
    table = Table(title=f"Forward and backward of {T} inputs, {os.cpu_count()} cores, interleaved")
    for column in (
        "case",
        "n, B",
        "program",
        "least ms",
        "median",
        "processor",
        "ratio of least",
        "of medians",
        "wanted",
    ):
        table.add_column(column, justify="left" if column in ("case", "n, B", "program") else "right")
    for case in ("rk4", "euler"):
        for n in SIZES:
            for B in BATCHES:
                made = programs(case, n, B)
                mine, *others = (run() for run in made.values())
                for theirs in others:
                    for a, b in zip(mine, theirs, strict=True):
                        if not torch.allclose(a, b, rtol=0, atol=1e-10 * float(b.norm())):
                            raise SystemExit(f"{case} {n}, {B}: the gradients differ")
                taken = found[case, n, B] = rounds(made, arguments.seconds)
                ours = taken["ctrnn.nn.CTRNN"].wall
                for k, (name, each) in enumerate(taken.items()):
                    by_least, by_median = min(each.wall) / min(ours), median(each.wall) / median(ours)
                    wanted = WANTED.get((case, n, B)) if k else None
                    row = [*((case, f"{n}, {B}") if not k else ("", "")), name]
                    row += [f"{1e3 * v:.2f}" for v in (min(each.wall), median(each.wall), min(each.processor))]
                    row += [f"{by_least:.1f}", f"{by_median:.1f}"] if k else ["", ""]
                    row.append(f"{wanted:g} {'met' if by_median >= wanted else 'MISSED'}" if wanted else "")
                    table.add_row(*row)
                    console.print(" ".join(row), style="dim")
                table.add_section()
    console.print(table)
    for kind in ("GRU", "LSTM"):
        for dtype in (torch.float64, torch.float32):
            ours, theirs = rounds(gated(kind, dtype), arguments.seconds).values()
            said = []
            for what, of, least in (("wall, median", "wall", median), ("processor, least", "processor", min)):
                mine, its = least(getattr(ours, of)), least(getattr(theirs, of))
                said.append(f"{what} {1e3 * mine:.2f} ms, torch {its / mine:.2f} ×")
            text = "; ".join(said)
            console.print(f"CT{kind}, {str(dtype).removeprefix('torch.')}: {text}")
    draw(found, arguments.figures / "layer-speed.png")


if __name__ == "__main__":
    main()
