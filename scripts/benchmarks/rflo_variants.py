"""What might have been meant by RFLO: variants of it on the tasks of published_learners.py, in plain NumPy.

    python scripts/benchmarks/rflo_variants.py [--seeds 0 1] [--variants "as published_learners.py"]

r⁺ = (1 − α) r + α tanh(W r + U x + b), eight lanes as rows; traces E ← λ E + α φ′ ⊗ [r; x; 1] of each weight, and

    g = Σ_b L_b E_b / B,    L = e B (random feedback, normal) or e V

The leak that belongs to the network is λ = 1 − α: 0 for the discrete one. Nothing is shared with ctrnn but the tasks,
the first weights, and the numbers of the experiment.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from published_learners import LANES, LAST, RECORD, RESET, TASKS, UNITS, start

VARIANTS: dict[str, dict[str, Any]] = {
    "as published_learners.py": {},
    "the read-out alone learns": {"learn": ""},
    "W and the read-out alone learn": {"learn": "W"},
    "without φ′": {"slope": False},
    "λ = 0.5": {"leak": 0.5},
    "λ = 0.9": {"leak": 0.9},
    "λ = 0.99": {"leak": 0.99},
    "λ = 0.9, exact feedback": {"leak": 0.9, "random": False},
    "α = 0.1, λ = 0.9": {"alpha": 0.1, "leak": 0.9},
}
RATE, BETA1, BETA2, EPSILON = 1e-3, 0.9, 0.999, 1e-8


def run(
    task: str, seed: int, leak: float = 0.0, learn: str = "WUb", random: bool = True, alpha: float = 1.0,
    slope: bool = True,
) -> float:  # fmt: skip
    """NMSE of the last records, as there."""
    data, n = TASKS[task](seed).stream(LANES), UNITS
    field, readout = start(seed)
    p = field.parameters
    weights = [np.hstack([p["W"], p["U"], p["b"][:, None]]), np.hstack([readout.V, np.zeros((1, 1))])]
    feedback = np.random.default_rng([seed, 1]).normal(size=(1, n))
    learns = np.repeat([float(name in learn) for name in "WUb"], [n, 1, 1])
    m, v = ([np.zeros_like(w) for w in weights] for _ in range(2))
    r, E, errors = np.zeros((LANES, n)), np.zeros((LANES, n, n + 2)), []
    for k, (x, y) in enumerate(zip(data.x, data.y, strict=True)):
        if k % RESET == 0:
            r[:], E[:] = 0.0, 0.0
        z = np.hstack([r, x, np.ones((LANES, 1))])
        new = np.tanh(z @ weights[0].T)
        r = (1.0 - alpha) * r + alpha * new
        d = alpha * (1.0 - new**2) if slope else np.full_like(r, alpha)
        V = weights[1][:, :-1]
        e = r @ V.T + weights[1][:, -1] - y
        L = e @ (feedback if random else V) / LANES
        if leak:
            E *= leak
            E += d[:, :, None] * z[:, None]
            g = np.einsum("bi,bij->ij", L, E)
        else:
            g = (L * d).T @ z
        gradients = g * learns, np.hstack([e.T @ r, e.sum(axis=0)[:, None]]) / LANES
        for i, g in enumerate(gradients):
            m[i] += (1.0 - BETA1) * (g - m[i])
            v[i] += (1.0 - BETA2) * (g**2 - v[i])
            root = np.sqrt(v[i] / (1.0 - BETA2 ** (k + 1)))
            weights[i] -= RATE * m[i] / (1.0 - BETA1 ** (k + 1)) / (root + EPSILON)
        errors.append(np.mean(e**2))
    return float(np.mean(errors[-LAST * RECORD :]) / data.y.var())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    given = parser.parse_args()
    for name in given.variants:
        for task in TASKS:
            found = "  ".join(f"{run(task, seed, **VARIANTS[name]):.4f}" for seed in given.seeds)
            print(f"{name:>32}  {task:<12}  {found}", flush=True)


if __name__ == "__main__":
    main()
