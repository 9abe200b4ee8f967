"""Derivatives to when inputs jump and by how much, against formulas and differences."""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn.errors import UsageError
from ctrnn.inputs import Constant, Pulse, Sine, Step, stack

TIGHT = {"rtol": 1e-12, "atol": 1e-13}
LEAK = ctrnn.Equations({"r": "(-r + x)/tau"}, parameters={"tau": 0.8}, inputs=["x"])


def leak(x: ctrnn.inputs.Input, objective: ctrnn.Objective, t1: float = 4.0) -> ctrnn.Problem:
    return ctrnn.Problem(LEAK, [0.3], (0.0, t1), x=x, objective=objective)


def differences(make, values: np.ndarray, h: float = 1e-3, **options: object) -> np.ndarray:
    """dl/d(values) by differences of order 4 of the losses of ``make(values)``."""

    def loss(v: np.ndarray) -> float:
        return ctrnn.gradient(make(v), "adjoint", **options).loss

    found = []
    for i in range(values.size):
        d = np.zeros(values.size)
        d[i] = h
        found.append(
            (8 * (loss(values + d) - loss(values - d)) - loss(values + 2 * d) + loss(values - 2 * d)) / (12 * h)
        )
    return np.array(found)


def test_pulse_into_a_leaky_unit() -> None:
    """r(t) = … + A (e^{−(t−s−d)/τ} − e^{−(t−s)/τ}): onset s, width d and amplitude A to 1e-11."""
    s, d, A, tau, t = 1.1, 0.7, 2.5, 0.8, 3.0
    g = ctrnn.input_gradient(leak(Pulse(s, d, A, name="cue"), ctrnn.Objective("r", at=[t])), **TIGHT)
    on, off = np.exp(-(t - s) / tau), np.exp(-(t - s - d) / tau)
    exact = {"cue.onset": A / tau * (off - on), "cue.width": A / tau * off, "cue.amplitude": off - on}
    assert set(g.inputs) == set(exact)
    for name, value in exact.items():
        assert g.inputs[name] == pytest.approx(value, rel=1e-11)
    assert g.loss == pytest.approx(0.3 * np.exp(-t / tau) + A * (off - on), rel=1e-11)


def test_step_with_an_integral() -> None:
    """∫ r dt over [s, T] is A (T − s − τ (1 − e^{−(T−s)/τ})), to 1e-10."""
    s, A, tau, end = 1.3, 1.7, 0.8, 4.0
    g = ctrnn.input_gradient(leak(Step(s, A, name="go"), ctrnn.Objective("r")), **TIGHT)
    decay = np.exp(-(end - s) / tau)
    assert g.inputs["go.onset"] == pytest.approx(A * (-1 + decay), rel=1e-10)
    assert g.inputs["go.amplitude"] == pytest.approx(end - s - tau * (1 - decay), rel=1e-10)


def test_fixed_steps_converge_to_the_formula() -> None:
    """With Euler steps the amplitude's derivative is that of the steps, 1e-10; the onset's is off by O(dt): half the
    step, half the error."""
    make = lambda v: leak(Pulse(v[0], 0.7, v[1], name="cue"), ctrnn.Objective("r**2", at=[3.0]))  # noqa: E731
    at = np.array([1.1, 2.5])
    exact, errors = ctrnn.input_gradient(make(at), **TIGHT).inputs["cue.onset"], []
    for dt in (0.05, 0.025):
        g = ctrnn.input_gradient(make(at), solver="euler", dt=dt)
        by_steps = differences(make, at, solver="euler", dt=dt)[1]
        assert g.inputs["cue.amplitude"] == pytest.approx(by_steps, rel=1e-10)
        errors.append(abs(g.inputs["cue.onset"] / exact - 1.0))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)


def test_it_converges_with_the_tolerance() -> None:
    """Errors of the onset's derivative fall with rtol, from 1e-4 to 1e-8, by at least 1e3."""
    make = lambda: network_problem(np.array([1.1, 0.7, 0.8, 2.3, -0.5]), OBSERVED)  # noqa: E731
    exact = ctrnn.input_gradient(make(), **TIGHT).inputs["cue.onset"]
    errors = [
        abs(ctrnn.input_gradient(make(), solver="dopri5", rtol=rtol, atol=rtol).inputs["cue.onset"] / exact - 1.0)
        for rtol in (1e-4, 1e-8)
    ]
    assert errors[0] < 1e-2
    assert errors[1] < 1e-3 * errors[0]


T = np.array([0.5, 1.5, 2.6, 3.9])
OBSERVED = ctrnn.Objective(target=np.outer(np.sin(T), np.ones(6)), at=T)
INTEGRAL = ctrnn.Objective(target=np.linspace(-0.5, 0.5, 6), weight=1.0 + Sine(0.2))
NETWORK = ctrnn.RateNetwork(6, inputs=2, gain=1.8, seed=2)


def network_problem(v: np.ndarray, objective: ctrnn.Objective) -> ctrnn.Problem:
    """A pulse times a sine and a step, in two channels."""
    cue, go = Pulse(v[0], v[1], v[2], name="cue"), Step(v[3], v[4], name="go")
    x = stack(Sine(0.3) * cue + 0.4 * go, cue + 0.2)
    return ctrnn.Problem(NETWORK, np.linspace(-0.5, 0.5, 6), (0.0, 4.0), x=x, objective=objective)


@pytest.mark.parametrize("objective", [OBSERVED, INTEGRAL], ids=["observed", "integral"])
def test_sums_and_products_into_a_network(objective: ctrnn.Objective) -> None:
    """All five numbers, against differences to 1e-8."""
    at = np.array([1.1, 0.7, 0.8, 2.3, -0.5])
    g = ctrnn.input_gradient(network_problem(at, objective), **TIGHT)
    names = ["cue.onset", "cue.width", "cue.amplitude", "go.onset", "go.amplitude"]
    assert list(g.inputs) == names
    expected = differences(lambda v: network_problem(v, objective), at, **TIGHT)
    np.testing.assert_allclose([g.inputs[name] for name in names], expected, rtol=1e-8, atol=1e-8 * abs(expected).max())


@pytest.mark.parametrize("solver", ["kvaerno5", "dop853"])
def test_nonlinear_equations_and_other_solvers(solver: str) -> None:
    """x enters squared and beside the state: 1e-7 against differences."""
    field = ctrnn.Equations({"u": "v*x - u**3", "v": "-u + sin(x*t)*x"}, inputs=["x"])

    def make(v: np.ndarray) -> ctrnn.Problem:
        x = Pulse(v[0], v[1], v[2], name="p") * Pulse(v[0], v[1], v[2], name="p") + 0.5  # one input, twice: squared
        return ctrnn.Problem(field, [0.5, 0.1], (0.0, 3.0), x=x, objective=ctrnn.Objective("u**2 + v", at=[2.5, 3.0]))

    at = np.array([0.6, 1.2, 1.3])
    g = ctrnn.input_gradient(make(at), solver=solver, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(list(g.inputs.values()), differences(make, at, **TIGHT), rtol=1e-7)


def test_edges_that_coincide_move_one_by_one() -> None:
    """A pulse that ends where a step begins: r(t) is linear in both, so each derivative is the one it has alone."""
    objective = ctrnn.Objective("r", at=[3.0])
    together = ctrnn.input_gradient(leak(Pulse(1.0, 0.5, 2.0, name="a") + Step(1.5, 3.0, name="b"), objective), **TIGHT)
    apart = ctrnn.input_gradient(leak(Pulse(1.0, 0.5, 2.0, name="a"), objective), **TIGHT)
    assert together.inputs["a.width"] == pytest.approx(apart.inputs["a.width"], rel=1e-11)
    assert together.inputs["b.onset"] == pytest.approx(-3.0 / 0.8 * np.exp(-1.5 / 0.8), rel=1e-11)


def test_a_weight_that_jumps() -> None:
    """∫ from s on of r dt, with r = 0.3 e^{−t/τ}: dl/ds = −r(s), 1e-11. Its amplitude is not offered."""
    objective = ctrnn.Objective("r", weight=Step(1.2, name="window"))
    g = ctrnn.input_gradient(leak(Constant(0.0), objective), **TIGHT)
    assert set(g.inputs) == {"window.onset"}
    assert g.inputs["window.onset"] == pytest.approx(-0.3 * np.exp(-1.2 / 0.8), rel=1e-11)


def test_times_outside_the_span_have_no_influence() -> None:
    x = Step(-1.0, 2.0, name="before") + Step(9.0, 2.0, name="behind")
    g = ctrnn.input_gradient(leak(x, ctrnn.Objective("r", at=[3.0])), **TIGHT)
    assert g.inputs["before.onset"] == g.inputs["behind.onset"] == g.inputs["behind.amplitude"] == 0.0
    assert g.inputs["before.amplitude"] == pytest.approx(1 - np.exp(-3.0 / 0.8), rel=1e-11)


def test_a_step_at_the_start() -> None:
    """Moved later, it is missing there: −A/τ e^{−t/τ}."""
    g = ctrnn.input_gradient(leak(Step(0.0, 2.0, name="s"), ctrnn.Objective("r", at=[3.0])), **TIGHT)
    assert g.inputs["s.onset"] == pytest.approx(-2.0 / 0.8 * np.exp(-3.0 / 0.8), rel=1e-11)


def test_channels_of_an_amplitude() -> None:
    field = ctrnn.Equations({"a": "-a + x", "b": "-b + 2*y"}, inputs=["x", "y"])
    x = Step(1.0, [1.0, 3.0], name="s")
    problem = ctrnn.Problem(field, [0.0, 0.0], (0.0, 2.0), x=x, objective=ctrnn.Objective("a + b", at=[2.0]))
    g = ctrnn.input_gradient(problem, **TIGHT)
    np.testing.assert_allclose(g.inputs["s.amplitude"], (1 - np.exp(-1)) * np.array([1.0, 2.0]), rtol=1e-11)
    assert "s.amplitude" in repr(g)


def test_a_torch_field() -> None:
    torch = pytest.importorskip("torch")
    field = ctrnn.TorchField(lambda t, r, w, x: -r / 0.8 + x[..., :1] / 0.8 + 0 * torch.tanh(r), n=1, inputs=1)
    objective = ctrnn.Objective("r0", at=[3.0])
    problem = ctrnn.Problem(field, [0.3], (0.0, 4.0), x=Step(1.0, 2.0, name="s"), objective=objective)
    g = ctrnn.input_gradient(problem)
    assert g.inputs["s.amplitude"] == pytest.approx(1 - np.exp(-2.0 / 0.8), rel=1e-7)


def test_what_is_refused() -> None:
    objective = ctrnn.Objective("r", at=[3.0])
    wrong = [
        leak(Step(1.0), objective),
        leak(Step(1.0, name="a") + Step(2.0, name="a"), objective),
        ctrnn.Problem(LEAK, [0.3], (0.0, 4.0), x=Step(1.0, name="a")),
        leak(Step(1.0, name="a"), objective).replace(events=[ctrnn.Event("r - 1")]),
    ]
    for problem in wrong:
        with pytest.raises(UsageError):
            ctrnn.input_gradient(problem)
    for solver in ("scipy:BDF", "exponential-euler"):
        with pytest.raises(UsageError):
            ctrnn.input_gradient(leak(Step(1.0, name="a"), objective), solver=solver, dt=0.1)
    with pytest.raises(UsageError):
        Step(1.0, name=3)
