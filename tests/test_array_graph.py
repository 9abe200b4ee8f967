"""Random systems of array equations: what their graph gives against the text, evaluated by Python on torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ctrnn
from ctrnn import Equations, Objective, Problem, gradient, simulate

DIGITS = 1e-10
STATES = {"v": (), "r": (3,), "u": (2,), "M": (3, 2)}
INPUTS = {"x": 2}
SHAPES = {"k": (), "b": (3,), "d": (2,), "A": (3, 3), "B": (2, 3), "C": (3, 2)}
CONSTANTS = {"c": (3,), "D": (3, 2)}
NAMED: dict[tuple[int, ...], list[str]] = {}
for _name, _shape in (STATES | SHAPES | CONSTANTS | {"x": (2,), "t": ()}).items():
    NAMED.setdefault(_shape, []).append(_name)
#: what a text may call, on tensors
ON_TENSORS = {
    "tanh": torch.tanh,
    "sin": torch.sin,
    "sigmoid": torch.sigmoid,
    "sum": torch.sum,
    "mean": torch.mean,
    "dot": lambda a, b: (a * b).sum(),
    "outer": lambda a, b: a[:, None] * b[None, :],
}


class Writer:
    """Random texts of a shape, smooth everywhere."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.named = {shape: list(names) for shape, names in NAMED.items()}

    def text(self, shape: tuple[int, ...], depth: int) -> str:
        pick, rng = self._pick, self.rng
        if depth == 0 or rng.random() < 0.15:
            return pick(self.named[shape])
        make = [
            lambda: f"({self.text(shape, depth - 1)} {pick(['+', '-', '*'])} {self.text(shape, depth - 1)})",
            lambda: f"{pick(['tanh', 'sin', 'sigmoid'])}({self.text(shape, depth - 1)})",
            lambda: f"({self.text((), depth - 1)}*{self.text(shape, depth - 1)})",
            lambda: f"({self.text(shape, depth - 1)}/(2 + tanh({self.text(shape, depth - 1)})))",
            lambda: f"({self.text(shape, depth - 1)}**2*0.3)",
        ]
        if shape == ():
            inner = pick([(3,), (2,), (3, 2)])
            make += 2 * [lambda: f"{pick(['sum', 'mean'])}({self.text(inner, depth - 1)})"]
            make += [
                lambda: f"dot({self.text((3,), depth - 1)}, {self.text((3,), depth - 1)})",
                lambda: f"({self.text((3,), depth - 1)})[{rng.integers(-3, 3)}]",
            ]
        elif len(shape) == 1:
            n = shape[0]
            k = int(pick([2, 3]))
            make += 3 * [lambda: f"({self.text((n, k), depth - 1)} @ {self.text((k,), depth - 1)})"]
            make += [
                lambda: f"({self.text((k,), depth - 1)} @ {self.text((k, n), depth - 1)})",
                lambda: (
                    f"({pick(NAMED[n, k])} @ {self.text((k,), depth - 1)} + {pick(self.named[shape])})"
                    if (n, k) in NAMED
                    else self.text(shape, depth - 1)
                ),
            ]
            if n == 2:
                make += [lambda: f"({self.text((3,), depth - 1)})[{pick(['0:2', '1:3', ':2', '-2:'])}]"]
            make += [lambda: f"({self.text((2, n), depth - 1)})[{rng.integers(2)}]"]
        else:
            m, n = shape
            make += [
                lambda: f"outer({self.text((m,), depth - 1)}, {self.text((n,), depth - 1)})",
                lambda: f"({self.text((n, m), depth - 1)}).T",
                lambda: f"({self.text((m, 3), depth - 1)} @ {self.text((3, n), depth - 1)})",
            ]
            if n == 2:
                make += [lambda: f"({self.text((m, 3), depth - 1)})[:, {pick(['0:2', '1:3'])}]"]
        return make[rng.integers(len(make))]()

    def _pick(self, of: list[Any]) -> Any:
        return of[self.rng.integers(len(of))]

    def system(self) -> tuple[dict[str, str], dict[str, str]]:
        self.named[2, 2] = ["(B @ C)"]
        definitions = {}
        for i in range(3):
            shape = self._pick(list(STATES.values()))
            definitions[f"q{i}"] = self.text(shape, 2)
            self.named[shape] = [*self.named[shape], f"q{i}"]
        self.named.setdefault((2, 3), []).append("M.T")
        return {k: f"-{k} + {self.text(shape, 3)}" for k, shape in STATES.items()}, definitions


NAMED[2, 2] = ["(B @ C)"]
NAMED.setdefault((3, 3), []).append("outer(r, b)")


def values(seed: int, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {k: 0.5 * rng.normal(size=shape) for k, shape in shapes.items()}


def by_python(equations: dict[str, str], definitions: dict[str, str], constants: dict[str, Any]) -> Any:
    """F(t, r, w, x) by evaluating the texts."""

    def F(t: Any, r: Any, w: Any, x: Any) -> Any:
        here = (
            ON_TENSORS
            | {k: torch.tensor(v) for k, v in constants.items()}
            | dict(w)
            | {"x": x, "t": torch.tensor(t, dtype=torch.float64)}
        )
        start = 0
        for k, shape in STATES.items():
            size = int(np.prod(shape))
            here[k] = r[start : start + size].reshape(shape)
            start += size
        for k, text in definitions.items():
            here[k] = eval(text, {}, here)
        return torch.cat([(eval(equations[k], {}, here) + r.new_zeros(s)).reshape(-1) for k, s in STATES.items()])

    return F


def close(a: Any, b: Any, digits: float = DIGITS) -> None:
    np.testing.assert_allclose(a, b, rtol=digits, atol=digits * max(1.0, float(np.abs(b).max(initial=0.0))))


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**20))
def test_random_graphs(seed):
    equations, definitions = Writer(seed).system()
    constants = values(1, CONSTANTS)
    field = Equations(equations, values(2, SHAPES), INPUTS, STATES, definitions, constants)
    F = by_python(equations, definitions, constants)
    rng = np.random.default_rng(seed)
    n, t = field.n, 0.4
    r, x, K = 0.7 * rng.normal(size=n), rng.normal(size=2), rng.normal(size=(4, n))
    names = list(SHAPES)

    def flat(state: Any, w: Any) -> Any:
        start, named = 0, {}
        for k in names:
            size = int(np.prod(SHAPES[k]))
            named[k] = w[start : start + size].reshape(SHAPES[k])
            start += size
        return F(t, state, named, torch.tensor(x))

    at = (torch.tensor(r), torch.tensor(field.vector))
    J, by_w = (v.numpy() for v in torch.func.jacrev(flat, argnums=(0, 1))(*at))
    close(field(t, r, x), flat(*at).numpy())
    close(field.jacobian(t, r, x), J)
    close(field.vjp(t, r, K, x), K @ J)
    close(field.vjp(t, r, K[0], x), K[0] @ J)
    close(field.parameter_vjp(t, r, K, x), K @ by_w)
    close(field.parameter_vjp(t, r, K[0], x), K[0] @ by_w)
    # second order
    dr, dw = rng.normal(size=n), rng.normal(size=field.m)
    along = (torch.tensor(dr), torch.tensor(dw))
    close(field.jvp(t, r, dr, dw, x), torch.func.jvp(flat, at, along)[1].numpy())
    rows, columns = torch.func.jvp(lambda *a: torch.func.vjp(flat, *a)[1](torch.tensor(K[0])), at, along)[1]
    R, G = field.second_order(t, r, dr, K[0], dw, x)
    close(R, rows.numpy())
    close(G, columns.numpy())
    # its own torch function, in rows and by complex steps
    function, w = field.torch_function(), {k: torch.tensor(v.copy()) for k, v in field.parameters.items()}
    two = function(t, torch.tensor(np.stack([r, 2 * r])), w, torch.tensor(np.stack([x, -x]))).numpy()
    close(two[0], field(t, r, x))
    close(two[1], field(t, 2 * r, -x))
    h = 1e-30
    step = function(
        t, torch.tensor(r + 1j * h * dr), {k: v.to(torch.complex128) for k, v in w.items()}, torch.tensor(x + 0j)
    )
    close(step.imag.numpy() / h, field.jacobian(t, r, x) @ dr)
    # a run: gradients and lanes
    problem = Problem(field, 0.3 * r, (0.0, 0.3), x=x, objective=Objective(target=0.1, at=[0.1, 0.3]))
    expected = gradient(problem, "autograd", solver="rk4", dt=0.1).vector
    for method in ("adjoint", ctrnn.RTRL(block=1), "complex-step"):
        close(gradient(problem, method, solver="rk4", dt=0.1).vector, expected)
    options = {"solver": "rk4", "dt": 0.1, "save_at": [0.3]}
    run = ctrnn.ensemble(problem, r0=np.stack([0.3 * r, 0.1 * r]), **options)
    close(run.r[1], simulate(problem.replace(r0=0.1 * r), **options).r)
    # trials in one company or another, to the bit, and beside those alone by another backend
    trials = problem.replace(r0=np.stack([0.3 * r, 0.1 * r, -0.2 * r]))
    fixed = {"method": "adjoint", "solver": "rk4", "dt": 0.1}
    together, fewer = gradient(trials, **fixed), gradient(trials[1:], **fixed)
    np.testing.assert_array_equal(together.losses[1:], fewer.losses)
    np.testing.assert_array_equal(together.r0[1:], fewer.r0)
    for b, trial in enumerate(trials):
        alone = gradient(trial, **fixed)
        assert alone.loss == together.losses[b]
        np.testing.assert_array_equal(alone.r0, together.r0[b])
        np.testing.assert_array_equal(alone.vector, together.trials[b].vector)
        close(gradient(trial, ctrnn.RTRL(block=2), solver="rk4", dt=0.1).r0, together.r0[b])
