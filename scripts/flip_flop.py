"""Draws figures/flip-flop.png: a network trained to hold two bits, and the fixed points with which it does so.

    python scripts/flip_flop.py
    python scripts/flip_flop.py --example     # trains on three bits, for ctrnn/examples/three-bits.toml and its weights

The task of Sussillo and Barak (Neural Computation 25, 2013): pulses of +1 or −1 arrive at random on two channels, and
each of two outputs is to hold the sign of the last pulse on its channel. 32 rate units are trained as a layer of torch
by Adam; then Newton's method looks for F(r, w, 0) = 0, first from the states that the network visits, then from states
between the stable points found. The stable points are the memories; the saddles between them, with one unstable
direction, lie on the borders of their basins.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import ctrnn
from ctrnn import plotting
from ctrnn.files import atomic_path
from ctrnn.plotting.style import BLACK, BLUE, GREEN, GREY, ORANGE, styled

PATH = Path(__file__).resolve().parent.parent / "figures" / "flip-flop.png"
EXAMPLE = PATH.parent.parent / "ctrnn" / "examples" / "three_bits_weights.npz"
UNITS, DT, SEQUENCE, LASTS = 32, 0.25, 120, 4  # dt in units of tau; a pulse lasts 4 intervals


def task(batch: int, rng: np.random.Generator, bits: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Pulses x (batch, T, bits), and the sign of the last one of each channel, y (batch, T, bits)."""
    x, y = np.zeros((batch, SEQUENCE, bits)), np.zeros((batch, SEQUENCE, bits))
    for b in range(batch):
        for channel in range(bits):
            begins = [0, *(k for k in range(10, SEQUENCE - LASTS) if rng.random() < 0.05)]
            signs = rng.choice([-1.0, 1.0], size=len(begins))
            for k, sign in zip(begins, signs, strict=True):
                x[b, k : k + LASTS, channel] = sign
                y[b, k:, channel] = sign
    return torch.from_numpy(x), torch.from_numpy(y)


def trained(bits: int = 2, steps: int = 600) -> tuple[ctrnn.nn.CTRNN, torch.nn.Linear]:
    """The layer and its read-out after so many steps of Adam."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    layer = ctrnn.nn.CTRNN(bits, UNITS, dt=DT, tau=1.0, solver="euler", seed=1)
    readout = torch.nn.Linear(UNITS, bits, dtype=torch.float64)
    optimizer = torch.optim.Adam([*layer.parameters(), *readout.parameters()], lr=4e-3)
    settled = torch.ones(SEQUENCE, dtype=torch.float64)
    settled[: 2 * LASTS] = 0.0
    for step in range(steps):
        x, y = task(64, rng, bits)
        states, _ = layer(x)
        loss = ((readout(states.tanh()) - y).square().mean(dim=(0, 2)) * settled).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*layer.parameters(), *readout.parameters()], 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: mean squared error {loss.item():.4f}")
    return layer, readout


@styled
def figure(
    t: np.ndarray, x: np.ndarray, y: np.ndarray, o: np.ndarray, runs: np.ndarray, table: ctrnn.analysis.FixedPoints
) -> Figure:
    """Left: pulses, targets and outputs of one sequence; right: the states on their first two principal axes."""
    drawn = Figure(figsize=(8.2, 3.6), layout="constrained")
    left, right = drawn.subfigures(1, 2, width_ratios=(1.15, 1))
    for channel, axes in enumerate(left.subplots(2, 1, sharex=True)):
        axes.fill_between(t, x[:, channel], color=GREY, alpha=0.35, lw=0, step="pre", label="input pulses")
        axes.plot(t, y[:, channel], "--", color=BLACK, lw=1.0, label="target", drawstyle="steps-pre")
        axes.plot(t, o[:, channel], color=(BLUE, ORANGE)[channel], label=f"output {channel + 1}")
        axes.set(ylabel=f"bit {channel + 1}", ylim=(-1.7, 1.7), yticks=(-1, 0, 1))
        axes.legend(
            loc="lower left", bbox_to_anchor=(0.0, 0.98), ncols=3, fontsize=7.5, frameon=False, borderaxespad=0.1
        )
    axes.set_xlabel("t (tau)")

    mean = runs.reshape(-1, UNITS).mean(axis=0)
    _, _, directions = np.linalg.svd(runs.reshape(-1, UNITS) - mean, full_matrices=False)
    plane = right.subplots()
    for run in runs:
        plane.plot(*((run - mean) @ directions[:2].T).T, color=GREY, lw=0.5, alpha=0.6, zorder=1)
    plane.plot([], [], color=GREY, lw=1.0, label="runs")
    looks = (
        (table.index == 0, "o", {"color": BLUE, "ms": 9}, "stable"),
        (table.index == 1, "D", {"mfc": "white", "mec": ORANGE, "mew": 1.8, "ms": 7}, "one unstable direction"),
        (table.index >= 2, "s", {"mfc": "white", "mec": GREEN, "mew": 1.8, "ms": 7}, "two or more"),
    )
    for row in table:
        if row.index == 1:  # along its unstable eigenvector
            values, vectors = np.linalg.eig(row.jacobian)
            v = np.real(vectors[:, np.argmax(values.real)]) @ directions[:2].T
            ends = (row.r - mean) @ directions[:2].T + 0.9 * np.outer([-1, 1], v / np.linalg.norm(v))
            plane.plot(*ends.T, color=ORANGE, lw=1.6, zorder=2)
    for which, marker, look, label in looks:
        if which.any():
            plane.plot(
                *((table[which].r - mean) @ directions[:2].T).T, marker, zorder=3, label=label, ls="none", **look
            )
    plane.set(xlabel="principal component 1 of r", ylabel="principal component 2 of r")
    plane.set_aspect("equal", adjustable="datalim")
    right.legend(loc="outside upper center", ncols=2, fontsize=7.5, frameon=False)
    return drawn


def main() -> None:
    """Trains, finds the fixed points, prints them and draws."""
    layer, readout = trained()
    with torch.no_grad():
        x, y = task(40, np.random.default_rng(1))
        states, _ = layer(x)
        o = readout(states.tanh())
    field, runs = layer.field(), states.numpy()
    memories = ctrnn.analysis.fixed_points(field, runs[:, -1], x=[0.0, 0.0])
    memories = memories[memories.stable]
    part = np.linspace(0.0, 1.0, 11)[:, None]
    between = [(1 - part) * a + part * b for a, b in combinations(memories.r, 2)]
    table = ctrnn.analysis.fixed_points(field, np.concatenate([runs[:, -1], *between]), x=[0.0, 0.0])
    print(table)
    t = DT * np.arange(1, SEQUENCE + 1)
    plotting.save(figure(t, x[4].numpy(), y[4].numpy(), o[4].numpy(), runs[:15], table), PATH)
    print(PATH.relative_to(PATH.parent.parent))


def example() -> None:
    """Trains on three bits and writes the weights of the shipped example."""
    layer, readout = trained(3, 1500)
    network, path = layer.field(), EXAMPLE
    with torch.no_grad():
        x, y = task(200, np.random.default_rng(1), 3)
        o = readout(layer(x)[0].tanh())
    right = float((torch.sign(o) == y)[:, 2 * LASTS :].double().mean())
    print(f"signs that are right on new sequences: {right:.4f}")
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, **{name: network.parameters[name] for name in ("W", "U", "b")})
    print(path)


if __name__ == "__main__":
    example() if "--example" in sys.argv[1:] else main()
