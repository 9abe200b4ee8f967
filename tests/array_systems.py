"""Systems of array equations, and each of them written by hand in torch: shared by the tests."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch

from ctrnn import Equations


@dataclass(frozen=True)
class System:
    """A field, and F by hand: (t, state tensors by name, weights by name, x) -> derivatives by state name."""

    field: Equations
    by_hand: Callable[[Any, dict[str, Any], dict[str, Any], Any], dict[str, Any]]

    def torch_field(self, t: Any, r: Any, w: dict[str, Any], x: Any) -> Any:
        """F on one flat state (n,)."""
        start, states = 0, {}
        for name, shape in self.field.states.items():
            size = int(np.prod(shape))
            states[name] = r[start : start + size].reshape(shape)
            start += size
        rates = self.by_hand(t, states, w, x)
        return torch.cat([(rates[k] + torch.zeros(s, dtype=r.dtype)).reshape(-1) for k, s in self.field.states.items()])


def _weights(seed: int, **shapes: tuple[int, ...]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape) / max(1, shape[-1] if shape else 1) ** 0.5 for name, shape in shapes.items()}


def _gates(names: str, n: int, nx: int) -> dict[str, tuple[int, ...]]:
    return {f"{letter}{g}": shape for g in names for letter, shape in (("W", (n, n)), ("U", (n, nx)), ("b", (n,)))}


def rate(n: int = 6, form: str = "state") -> System:
    w = _weights(0, W=(n, n), U=(n, 2), b=(n,)) | {"tau": np.linspace(0.5, 2.0, n)}
    text = "(-r + W @ tanh(r) + U @ x + b)/tau" if form == "state" else "(-r + tanh(W @ r + U @ x + b))/tau"

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        r = s["r"]
        if form == "state":
            return {"r": (-r + w["W"] @ torch.tanh(r) + w["U"] @ x + w["b"]) / w["tau"]}
        return {"r": (-r + torch.tanh(w["W"] @ r + w["U"] @ x + w["b"])) / w["tau"]}

    return System(Equations({"r": text}, w, inputs={"x": 2}, states={"r": n}), F)


def gru(n: int = 5) -> System:
    """The reset inside the product: two products in turn."""
    w = _weights(1, **_gates("zgc", n, 2)) | {"tau": 0.7}
    field = Equations(
        {"h": "(1 - z)*(tanh(Wc @ (g*h) + Uc @ x + bc) - h)/tau"},
        w,
        inputs={"x": 2},
        states={"h": n},
        definitions={"z": "sigmoid(Wz @ h + Uz @ x + bz)", "g": "sigmoid(Wg @ h + Ug @ x + bg)"},
    )

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        h = s["h"]
        z, g = (torch.sigmoid(w["W" + k] @ h + w["U" + k] @ x + w["b" + k]) for k in "zg")
        return {"h": (1 - z) * (torch.tanh(w["Wc"] @ (g * h) + w["Uc"] @ x + w["bc"]) - h) / w["tau"]}

    return System(field, F)


def lstm(n: int = 4) -> System:
    def u(k: str) -> str:
        return f"W{k} @ h + U{k} @ x + b{k}"

    field = Equations(
        {"h": "(-h + o*tanh(c_new))/tau", "c": "(-c + c_new)/tau"},
        _weights(2, **_gates("ifgo", n, 2)) | {"tau": 1.3},
        inputs={"x": 2},
        states={"h": n, "c": n},
        definitions={k: f"sigmoid({u(k)})" for k in "ifo"} | {"g": f"tanh({u('g')})", "c_new": "f*c + i*g"},
    )

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        h, c = s["h"], s["c"]
        i, f, o, g = (w["W" + k] @ h + w["U" + k] @ x + w["b" + k] for k in "ifog")
        new = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return {"h": (-h + torch.sigmoid(o) * torch.tanh(new)) / w["tau"], "c": (new - c) / w["tau"]}

    return System(field, F)


def low_rank(n: int = 7, k: int = 2, whole: bool = False) -> System:
    w = _weights(3, M=(n, k), N=(n, k), U=(n, 2), b=(n,)) | {"tau": 0.6}
    product = "(M @ N.T) @ tanh(r)" if whole else "M @ (N.T @ tanh(r))"
    field = Equations({"r": f"(-r + {product}/{n} + U @ x + b)/tau"}, w, inputs={"x": 2}, states={"r": n})

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        r = s["r"]
        return {"r": (-r + w["M"] @ w["N"].T @ torch.tanh(r) / n + w["U"] @ x + w["b"]) / w["tau"]}

    return System(field, F)


def mlp(n: int = 4) -> System:
    w = _weights(4, W1=(7, n), U=(7, 2), b1=(7,), W2=(6, 7), b2=(6,), W3=(n, 6), k=())
    field = Equations(
        {"r": "W3 @ tanh(W2 @ tanh(W1 @ r + U @ x + b1) + b2) - k*r**3/10"}, w, inputs={"x": 2}, states={"r": n}
    )

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        r = s["r"]
        a = torch.tanh(w["W1"] @ r + w["U"] @ x + w["b1"])
        return {"r": w["W3"] @ torch.tanh(w["W2"] @ a + w["b2"]) - w["k"] * r**3 / 10}

    return System(field, F)


def hebbian(n: int = 4) -> System:
    """Weights that are states."""
    w = _weights(5, U=(n, 2), b=(n,)) | {"tau": np.linspace(0.5, 1.5, n), "eta": 0.3, "k": 0.8}
    field = Equations(
        {"r": "(-r + W @ s + U @ x + b)/tau", "W": "eta*(outer(s, s) - W)"},
        w,
        inputs={"x": 2},
        states={"r": n, "W": (n, n)},
        definitions={"s": "tanh(k*r)"},
    )

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        a = torch.tanh(w["k"] * s["r"])
        r = (-s["r"] + s["W"] @ a + w["U"] @ x + w["b"]) / w["tau"]
        return {"r": r, "W": w["eta"] * (a[:, None] * a[None, :] - s["W"])}

    return System(field, F)


def medley() -> System:
    """All operators, a scalar state among arrays, time, constants, a mask."""
    rng = np.random.default_rng(6)
    mask = rng.random((4, 4)) < 0.6
    c = rng.normal(size=4)
    field = Equations(
        {
            "v": "-v*sum(r)*t + mean(M) + x[0] + c[1]",
            "r": "(-r + v*k + M[1] @ M.T[0:3]*0.1 + r @ A + A[0])*dot(r[1:3], c[0:2]) + (r - 1 if r > v else sin(t)*r)",
            "M": "-M + 0.1*outer(r, r[0:3])*B + where(M > 0.2, v*M, M**2) + r[2]*c[3:4][0] - A[:, 1:4]",
        },
        {"A": rng.normal(size=(4, 4)) * mask, "B": rng.normal(size=(4, 3)), "k": 0.5},
        inputs={"x": 2},
        states={"r": 4, "M": (4, 3)},
        constants={"c": c},
        masks={"A": mask},
    )
    held, kept = torch.tensor(c), torch.tensor(mask)

    def F(t: Any, s: Any, w: Any, x: Any) -> Any:
        v, r, M, A = s["v"], s["r"], s["M"], w["A"] * kept
        rate = (-r + v * w["k"] + M[1] @ M.T[0:3] * 0.1 + r @ A + A[0]) * torch.dot(r[1:3], held[0:2])
        rate = rate + torch.where(r > v, r - 1, math.sin(t) * r)
        plastic = -M + 0.1 * r[:, None] * r[None, :3] * w["B"] + torch.where(M > 0.2, v * M, M**2)
        return {
            "v": -v * r.sum() * t + M.mean() + x[0] + held[1],
            "r": rate,
            "M": plastic + r[2] * held[3] - A[:, 1:4],
        }

    return System(field, F)


@cache
def systems() -> dict[str, System]:
    made = {"rate, state": rate(), "rate, rate": rate(form="rate"), "one unit": rate(1), "gru": gru(), "lstm": lstm()}
    made |= {"low rank": low_rank(), "low rank, whole": low_rank(whole=True), "mlp": mlp(), "hebbian": hebbian()}
    return made | {"medley": medley()}


NAMES = tuple(systems())
