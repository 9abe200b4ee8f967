"""Three tasks learned to the end, offline, with what was reached; draws figures/learned-*.png.

    python scripts/learned.py [flip-flop] [sunspots] [lorenz]

Flip-flop: 24 rate units hold three bits (Sussillo and Barak, Neural Computation 25, 2013). By BPTT on trials of 60
steps, and online by exact RTRL on a stream; tested on 100 new sequences of 400 steps.

Sunspots: yearly numbers, trained to 1948, tested 1949 to 2008, one and five years ahead (after Tong and Lim, Journal of
the Royal Statistical Society B 42, 1980), beside persistence and an autoregression of order 9 by least squares; by
statsmodels too, where it is installed. The epochs are chosen on the last fifth of the years to 1948, then the network
is trained on all of them.

Lorenz: the next values from the present ones, 128 units; then the outputs are the inputs, and the network runs free.
Its units learn by BPTT; the read-out is then put to the minimum of the same squared error, by linear least squares.
Random units with such a read-out stand beside it. Valid time: until the error, relative to the standard deviation,
passes 0.4.

Reached (2026-11):

    flip-flop   99.95 % of the bits by BPTT, 99.41 % online
    sunspots    root mean squared error 1949 to 2008, mean and spread of 5 seeds
                1 year ahead    persistence 32.9    AR(9) 19.1    network 20.8 ± 0.9
                5 years ahead   persistence 98.6    AR(9) 33.6    network 41.4 ± 0.8
    Lorenz      valid for 7.7 Lyapunov times (median of 50 starts; 5.05 to 11.7); by BPTT alone for 1.4 (0.3 to 2.2),
                random units with a read-out by least squares for 6.7 (3.4 to 12.2)

So the network does not beat the autoregression, and of the generator's precision most is owed to the read-out.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import ctrnn
from ctrnn import plotting
from ctrnn.learning import Dataset, OnlineLearner, tasks, train
from ctrnn.plotting.style import AMBER, BLUE, GREEN, GREY, ORANGE, frame, styled

FIGURES = Path(__file__).resolve().parent.parent / "figures"
LYAPUNOV = 0.9056  # the largest exponent of the Lorenz system at the usual parameters, per unit of time
FIRST_TEST = 1949


# --- three bits


def flip_flop_network() -> tuple[ctrnn.RateNetwork, ctrnn.Readout]:
    """24 units before they have learned anything."""
    readout = ctrnn.Readout(np.random.default_rng(1).normal(size=(3, 24)) / np.sqrt(24))
    return ctrnn.RateNetwork(24, inputs=3, gain=1.2, seed=0), readout


def flip_flop(epochs: int = 100) -> Any:
    """By BPTT: new trials in each epoch."""
    field, readout = flip_flop_network()
    return train(
        field,
        lambda seed: tasks.flip_flop(trials=128, steps=60, seed=seed),
        readout=readout,
        lr=0.02,
        scheduler="CosineAnnealingLR",
        clip=1.0,
        epochs=epochs,
        validation=tasks.flip_flop(trials=64, steps=200, seed=101),
    )


def flip_flop_online(pieces: int = 30, lanes: int = 16) -> OnlineLearner:
    """By exact RTRL, on a stream in lanes: the weights move every ten steps, while the network runs."""
    field, readout = flip_flop_network()
    learner = OnlineLearner(
        field,
        method="rtrl",
        lr=3e-3,
        scheduler={"name": "CosineAnnealingLR", "T_max": 100 * pieces},
        readout=readout,
        dt=0.25,
        batch=lanes,
        update_every=10,
    )
    for k in range(pieces):
        stream = tasks.flip_flop(trials=lanes, steps=1000, seed=10 + k).stream(lanes)
        learner.run(stream.x, stream.y, 1000, weight=stream.weight, reset_every=stream.start)
    return learner


def right_bits(field: Any, readout: Any, task: Any) -> float:
    """The part of the bits that a network has right."""
    layer = ctrnn.nn.Recurrent(field, dt=task.dt, solver="euler")
    o = readout(layer(torch.tensor(task.x))[0].detach().numpy())
    counts = task.weight > 0
    return float(np.mean(np.sign(o[counts]) == task.y[counts]))


def report_flip_flop() -> None:
    test = tasks.flip_flop(trials=100, steps=400, seed=1000)
    began = time.perf_counter()
    done = flip_flop()
    print("flip-flop: bits right in 100 new sequences of 400 steps")
    print(f"  by BPTT {100 * done.accuracy(test):.2f} % ({time.perf_counter() - began:.0f} s)", flush=True)
    began = time.perf_counter()
    learner = flip_flop_online()
    print(f"  online by exact RTRL {100 * right_bits(learner.field, learner.readout, test):.2f} %", end=" ")
    print(f"({learner.steps:,} steps in 16 lanes, {time.perf_counter() - began:.0f} s)")
    o = done.predict(test.x[0])
    y = np.where(test.weight[0, :, None] > 0, test.y[0], np.nan)
    names = [f"bit {i}" for i in range(3)]
    words = {"names": names, "time_label": "t (units of tau)", "label": "½ squared error"}
    plotting.save(plotting.training(done, test.t, y, o, **words), FIGURES / "learned-flip-flop.png")


# --- sunspots


def sunspot_series() -> tuple[np.ndarray, np.ndarray, float]:
    """Years, numbers less their mean to 1948 over their standard deviation then, and that."""
    task = tasks.sunspots()
    return np.append(task.t0, task.t), np.append(task.x[0, :, 0], task.y[0, -1, 0]), float(task.scale[0])


def autoregression(s: np.ndarray, last: int, p: int = 9) -> np.ndarray:
    """Coefficients of s_k = Σ_i c_i s_{k−i} + c_0, the constant last, by least squares of the first ``last`` values."""
    rows = np.array([[*s[k - p : k][::-1], 1.0] for k in range(p, last)])
    return np.linalg.lstsq(rows, s[p:last], rcond=None)[0]


def autoregressive_forecast(s: np.ndarray, c: np.ndarray, k: int, horizon: int) -> float:
    """s_k as the coefficients foretell it from the values ``horizon`` before it and earlier."""
    past = list(s[: k - horizon + 1])
    for _ in range(horizon):
        past.append(float(c[:-1] @ past[: -len(c) : -1] + c[-1]))
    return past[-1]


def sunspot_network(horizon: int, seed: int, n: int = 16) -> Any:
    """Trained on the years before FIRST_TEST; epochs as the last fifth of those years advises."""
    task, (years, _, _) = tasks.sunspots(horizon), sunspot_series()
    K = int(np.searchsorted(years, FIRST_TEST)) - horizon  # targets up to 1948
    weight = np.ones((1, K))
    weight[:, :10] = 0.0  # the state comes into its course
    data = Dataset(task.x[:, :K], task.y[:, :K], weight)
    field = ctrnn.RateNetwork(n, inputs=1, form="rate", gain=0.8, seed=seed)
    readout = ctrnn.Readout(np.random.default_rng(seed).normal(size=(1, n)) / np.sqrt(n))
    options = {"readout": readout, "lr": 0.01, "optimizer": "adamw", "weight_decay": 0.1, "clip": 1.0, "seed": seed}
    options |= {"dropout": {"W": 0.1}}
    chosen = train(field, data, epochs=800, validation=0.2, split="time", patience=150, **options)
    return train(field, data, epochs=chosen.best.epoch, **options)


def report_sunspots() -> None:
    years, s, scale = sunspot_series()
    last = int(np.searchsorted(years, FIRST_TEST))
    test, c = range(last, len(s)), autoregression(s, last)
    y = s[last:]

    def error(foretold: Any) -> float:
        return float(scale * np.sqrt(np.mean((np.asarray(foretold) - y) ** 2)))

    curves = {}
    print("sunspots: root mean squared error 1949 to 2008")
    for horizon in (1, 5):
        each = []
        for seed in range(5):
            o = sunspot_network(horizon, seed).predict(s[:-horizon, None])[:, 0]
            each.append(o[np.array(test) - horizon])
        by_ar = [autoregressive_forecast(s, c, k, horizon) for k in test]
        errors = [error(one) for one in each]
        print(f"  {horizon} ahead: persistence {error(s[last - horizon : -horizon]):.1f}, AR(9) {error(by_ar):.1f};")
        print(f"    network {np.mean(errors):.1f} ± {np.std(errors, ddof=1):.1f} over 5 seeds, mean of the 5", end=" ")
        print(f"{error(np.mean(each, axis=0)):.1f}")
        curves[horizon] = by_ar, each
    try:
        from statsmodels.tsa.ar_model import AutoReg
    except ImportError:
        print("  (statsmodels is not installed)")
    else:
        other = AutoReg(s[:last], 9, old_names=False).fit().params
        print(
            f"  AR(9) of statsmodels: coefficients {np.abs(other - np.append(c[-1], c[:-1])).max():.1e} apart from ours"
        )
    offset = float(tasks.sunspots().offset[0])
    plotting.save(
        sunspot_figure(years[last:], offset + scale * y, curves, offset, scale), FIGURES / "learned-sunspots.png"
    )


@styled
def sunspot_figure(years: Any, y: Any, curves: Any, offset: float, scale: float) -> Figure:
    figure, every = frame(2, height=2.1, sharex=True)
    for axes, (horizon, (by_ar, each)) in zip(every, curves.items(), strict=True):
        foretold = offset + scale * np.array(each)
        axes.plot(years, y, "o-", color=GREY, lw=1.0, ms=3, label="observed")
        axes.plot(years, offset + scale * np.array(by_ar), color=ORANGE, label="AR(9)")
        axes.plot(years, foretold.mean(axis=0), color=BLUE, label="network, mean of 5 seeds")
        axes.fill_between(years, foretold.min(axis=0), foretold.max(axis=0), color=BLUE, alpha=0.2, lw=0)
        axes.set_ylabel(f"sunspot number,\n{horizon} year{'s' * (horizon > 1)} ahead")
    every[-1].set_xlabel("year")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


# --- Lorenz


def lorenz_units(n: int = 128) -> tuple[ctrnn.RateNetwork, ctrnn.Readout]:
    """Units that see the three coordinates, and each other through the outputs alone: W = 0 stays."""
    rng = np.random.default_rng(0)
    field = ctrnn.RateNetwork(n, inputs=3, form="rate", seed=0)
    field = field.with_parameters(W=np.zeros((n, n)), b=0.8 * rng.normal(size=n), U=0.5 * rng.normal(size=(n, 3)))
    return field, ctrnn.Readout(0.3 * rng.normal(size=(3, n)) / np.sqrt(n))


def lorenz(steps: int = 3000) -> tuple[Any, Any]:
    """The trained network, and the task that it was trained on."""
    task = tasks.lorenz_generation(trials=32, steps=1000, seed=1)
    data, (field, readout) = Dataset(task.x, task.y).windows(20), lorenz_units()
    held = tasks.lorenz_generation(trials=10, steps=300, seed=3)
    epochs = max(steps // -(-len(data) // 128), 1)
    done = train(
        field, data, readout=readout, parameters=["U", "b"], lr=5e-3, clip=1.0, epochs=epochs, batch_size=128,
        scheduler={"name": "OneCycleLR", "max_lr": 5e-3, "total_steps": epochs + 1, "pct_start": 0.1},
        feedback=True, validation=(held.x, held.y),
    )  # fmt: skip
    return done, task


def with_least_squares(field: Any, task: Any, ridge: float = 1e-12) -> ctrnn.Readout:
    """V, c of least Σ ‖V r + c − y‖²/2, with a ridge that keeps its digits."""
    p = field.parameters
    r = np.tanh(task.x @ p["U"].T + p["b"]).reshape(-1, field.n)
    A, Y = np.hstack([r, np.ones((len(r), 1))]), task.y.reshape(-1, 3)
    C = np.linalg.solve(A.T @ A + ridge * len(A) * np.eye(A.shape[1]), A.T @ Y)
    return ctrnn.Readout(C[:-1].T, C[-1])


def valid_times(done: Any, test: Any, free_after: int = 100, threshold: float = 0.4) -> np.ndarray:
    """Lyapunov times that each free run stays by the truth; those that do so to their end count with their length."""
    o, sd = done.predict(test.x, free_after=free_after), test.y.std(axis=(0, 1))
    error = np.sqrt((((o - test.y) / sd) ** 2).mean(axis=2))[:, free_after:]
    bad = error > threshold
    return LYAPUNOV * test.dt * np.where(bad.any(axis=1), bad.argmax(axis=1), error.shape[1])


def report_lorenz() -> None:
    began = time.perf_counter()
    done, task = lorenz()
    test = tasks.lorenz_generation(trials=50, steps=900, seed=2)
    finished = replace(done, readout=with_least_squares(done.field, task))
    random = replace(done, field=lorenz_units()[0], readout=with_least_squares(lorenz_units()[0], task))
    print(f"Lorenz: Lyapunov times of valid free runs, 50 starts ({time.perf_counter() - began:.0f} s)")
    rows = {"BPTT, read-out finished": finished, "BPTT alone": done, "random units, read-out": random}
    found = {}
    for name, one in rows.items():
        found[name] = v = valid_times(one, test)
        print(f"  {name:24s} median {np.median(v):.2f}, least {v.min():.2f}, most {v.max():.2f};", end=" ")
        print(f"one step: {one.evaluate(test):.1e}")
    plotting.save(lorenz_figure(finished, test, found), FIGURES / "learned-lorenz.png")


@styled
def lorenz_figure(done: Any, test: Any, found: dict[str, np.ndarray]) -> Figure:
    shown = int(np.argsort(found["BPTT, read-out finished"])[len(test) // 2])  # the median one
    o = done.predict(test.x[shown], free_after=100)
    t = LYAPUNOV * test.dt * (np.arange(len(o)) - 99)
    figure, every = frame(4, height=1.5, height_ratios=[1, 1, 1, 1.3])
    for i, axes in enumerate(every[:3]):
        axes.plot(t, test.y[shown, :, i], color=GREY, lw=3.0, alpha=0.6, label="Lorenz system")
        axes.plot(t, o[:, i], color=GREEN, label="network")
        axes.axvline(0.0, color=AMBER, label="from here on its own outputs" if i == 0 else None)
        axes.set_ylabel(f"{'xyz'[i]} (sd)")
        axes.tick_params(labelbottom=i == 2)
    every[2].set_xlabel("t (Lyapunov times)")
    for colour, (name, v) in zip((GREEN, BLUE, ORANGE), found.items(), strict=True):
        every[3].plot(np.sort(v), np.linspace(1, 0, len(v)), drawstyle="steps-post", color=colour, label=name)
    every[3].axvline(5.0, color=GREY, ls="--", lw=1.0)
    every[3].set(xlabel="valid for so many Lyapunov times", ylabel="part of 50 starts", xlim=(0, None))
    every[3].legend(loc="upper right")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure


REPORTS = {"flip-flop": report_flip_flop, "sunspots": report_sunspots, "lorenz": report_lorenz}

if __name__ == "__main__":
    for wanted in sys.argv[1:] or REPORTS:
        REPORTS[wanted]()
