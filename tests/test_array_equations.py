"""Equations with arrays against the same systems written by hand in torch, and what goes wrong in a text."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from array_systems import NAMES, System, rate, systems

import ctrnn
from ctrnn import Equations, Objective, Problem, gradient, simulate
from ctrnn.errors import ExpressionError, UnknownNameError, UsageError

DIGITS = 1e-12


def at(system: System, seed: int = 1) -> tuple[float, Any, Any]:
    rng = np.random.default_rng(seed)
    return 0.3, rng.normal(size=system.field.n), rng.normal(size=system.field.input_size)


def weights(system: System) -> dict[str, Any]:
    return {k: torch.tensor(v.copy(), requires_grad=True) for k, v in system.field.parameters.items()}


def by_torch(system: System, t: float, r: Any, x: Any) -> tuple[Any, Any, Any]:
    """F, J and F_w by torch's autograd, of the function written by hand."""
    w, state = weights(system), torch.tensor(r, requires_grad=True)
    out = system.torch_field(t, state, w, torch.tensor(x))
    J, by_w = np.zeros((len(r), len(r))), np.zeros((len(r), system.field.m))
    for i in range(len(r)):
        slopes = torch.autograd.grad(out[i], [state, *w.values()], retain_graph=True, allow_unused=True)
        values = [
            np.zeros(v.shape) if g is None else g.numpy() for g, v in zip(slopes, [state, *w.values()], strict=True)
        ]
        J[i], by_w[i] = values[0], np.concatenate([v.ravel() for v in values[1:]])
    return out.detach().numpy(), J, by_w


def close(a: Any, b: Any, digits: float = DIGITS) -> None:
    np.testing.assert_allclose(a, b, rtol=digits, atol=digits * max(1.0, float(np.abs(b).max(initial=0.0))))


@pytest.mark.parametrize("name", NAMES)
def test_every_function_of_the_table_agrees_with_torch(name):
    system = systems()[name]
    field = system.field
    t, r, x = at(system)
    F, J, by_w = by_torch(system, t, r, x)
    K = np.random.default_rng(2).normal(size=(5, field.n))
    close(field(t, r, x), F)
    close(field.jacobian(t, r, x), J)
    close(field.vjp(t, r, K[0], x), K[0] @ J)
    close(field.vjp(t, r, K, x), K @ J)
    close(field.vjp(t, r, np.eye(field.n), x), J)
    close(field.parameter_vjp(t, r, K[0], x), K[0] @ by_w)
    close(field.parameter_vjp(t, r, K, x), K @ by_w)


@pytest.mark.parametrize("name", NAMES)
def test_q_rows_directly_and_by_J_are_the_same(name):
    system = systems()[name]
    t, r, x = at(system)
    K = np.random.default_rng(2).normal(size=(3, system.field.n))
    J = system.field.jacobian(t, r, x)
    ways = []
    plan = system.field._kernel.keep[0]._plan
    from ctrnn.kernels import graph

    kept = plan[graph.BY_J]
    for cost in (-(2**40), 2**40):
        plan[graph.BY_J] = cost
        ways.append(system.field.vjp(t, r, K, x))
    plan[graph.BY_J] = kept
    close(ways[0], K @ J)
    close(ways[1], K @ J)


@pytest.mark.parametrize("name", NAMES)
def test_torch_function_of_rows_and_of_single_precision(name):
    system = systems()[name]
    t, _, _ = at(system)
    rng = np.random.default_rng(3)
    r, x = rng.normal(size=(2, 3, system.field.n)), rng.normal(size=(2, 3, system.field.input_size))
    function = system.field.torch_function()
    w = weights(system)
    rows = function(t, torch.tensor(r), w, torch.tensor(x)).detach().numpy()
    for i in np.ndindex(2, 3):
        close(rows[i], system.field(t, r[i], x[i]))
    single = function(t, torch.tensor(r).float(), {k: v.float() for k, v in w.items()}, torch.tensor(x).float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.detach().numpy(), rows, rtol=2e-3, atol=2e-5)


def test_leak_is_what_a_unit_does_to_itself():
    system = rate(6)
    leak = np.zeros((6, 6))
    bound = system.field._bind()
    from ctrnn.kernels import abi, point

    table = bound.system.table.copy()
    table[abi.JACOBIAN] = table[abi.LEAK]
    point.jacobian(bound.system._replace(table=table), 0.0, np.ones(6), np.zeros(2), leak)
    close(leak, np.diag(-1.0 / np.linspace(0.5, 2.0, 6)))


def problem(name: str) -> Problem:
    system = systems()[name]
    t, r, x = at(system)
    objective = Objective(target=0.1, at=[0.21, 0.4, 0.6])
    return Problem(system.field, 0.3 * r, (0.0, 0.6), x=x, objective=objective)


def rk4_by_hand(system: System, r0: Any, x: Any, steps: int, dt: float) -> Any:
    """The loss ½ Σ (r − 0.1)² at the third and the last step of RK4, and its gradient, in torch alone."""
    w, x = weights(system), torch.tensor(x)
    r = torch.tensor(r0)
    loss = torch.zeros(())
    for k in range(steps):
        t = k * dt
        k1 = system.torch_field(t, r, w, x)
        k2 = system.torch_field(t + dt / 2, r + dt / 2 * k1, w, x)
        k3 = system.torch_field(t + dt / 2, r + dt / 2 * k2, w, x)
        k4 = system.torch_field(t + dt, r + dt * k3, w, x)
        r = r + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        if k in (2, steps - 1):
            loss = loss + 0.5 * ((r - 0.1) ** 2).sum()
    slopes = torch.autograd.grad(loss, list(w.values()), allow_unused=True)
    return np.concatenate(
        [np.zeros(v.numel()) if g is None else g.numpy().ravel() for g, v in zip(slopes, w.values(), strict=True)]
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_rk4_agree_with_torch(name):
    system = systems()[name]
    _, r, x = at(system)
    objective = Objective(target=0.1, at=[0.15, 0.5])
    made = Problem(system.field, 0.3 * r, (0.0, 0.5), x=x, objective=objective)
    expected = rk4_by_hand(system, 0.3 * r, x, 10, 0.05)
    for method in ("adjoint", ctrnn.RTRL(block=1), ctrnn.RTRL(block=4), "adjoint-checkpoint", "autograd"):
        close(gradient(made, method, solver="rk4", dt=0.05).vector, expected, 1e-11)


def test_names_of_states_and_trajectories():
    system = systems()["medley"]
    field = system.field
    assert field.state_names[:6] == ("v", "r[0]", "r[1]", "r[2]", "r[3]", "M[0,0]")
    assert field.input_names == ("x[0]", "x[1]")
    run = simulate(
        Problem(field, {"v": 0.1, "r": [0.1, 0.2, 0.3, 0.4], "M": 0.2}, (0.0, 0.2), x=[0.0, 1.0]), save_at=[0.0, 0.1]
    )
    assert run["r"].shape == (2, 4)
    assert run["M"].shape == (2, 4, 3)
    assert run["v"].shape == run["M[3,2]"].shape == (2,)
    np.testing.assert_array_equal(run["r"][0], [0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(run["M"][:, 3, 2], run["M[3,2]"])
    with pytest.raises(UnknownNameError, match="r"):
        run["q"]
    with pytest.raises(UsageError, match=r"shape \(4,\)"):
        Problem(field, {"v": 0.1, "r": [0.1], "M": 0.2}, (0.0, 0.2), x=[0.0, 1.0])


def test_masked_entries_stay_zero_and_have_no_gradient():
    field = systems()["medley"].field
    mask = field.masks["A"]
    t, r, x = at(systems()["medley"])
    rows = field.unflatten(field.parameter_jacobian(t, r, x))["A"]
    assert (rows[:, ~mask] == 0).all() and (rows[:, mask] != 0).any()
    low, high = (field.unflatten(b)["A"] for b in field.bounds)
    assert (low[~mask] == 0).all() and (high[~mask] == 0).all() and np.isinf(low[mask]).all()
    with pytest.raises(UsageError, match="0 outside the mask"):
        field.with_parameters(A=np.ones((4, 4)))


def test_definitions_and_constants_of_scalar_systems():
    field = Equations(
        {"u": "-u + a*k*s", "v": "s - c*v"},
        {"a": 1.5, "c": 0.3},
        definitions={"p": "u*v", "s": "tanh(p) + k"},
        constants={"k": 0.7},
    )
    plain = Equations({"u": "-u + a*k*(tanh(u*v) + k)", "v": "tanh(u*v) + k - c*v"}, {"a": 1.5, "c": 0.3, "k": 0.7})
    r = [0.4, -1.2]
    close(field(0.0, r), plain(0.0, r))
    close(field.jacobian(0.0, r), plain.jacobian(0.0, r))
    close(field.parameter_jacobian(0.0, r), plain.parameter_jacobian(0.0, r)[:, :2])
    w = {k: torch.tensor(v.copy()) for k, v in field.parameters.items()}
    close(field.torch_function()(0.0, torch.tensor(np.array(r)), w), field(0.0, r))
    made = Problem(field, r, (0.0, 1.0), objective=Objective(target=0.0, at=1.0))
    other = Problem(plain, r, (0.0, 1.0), objective=Objective(target=0.0, at=1.0))
    close(ctrnn.hessian(made, solver="rk4", dt=0.1), ctrnn.hessian(other, solver="rk4", dt=0.1)[:2, :2])


def test_a_field_survives_pickling_and_knows_new_parameters():
    field = rate(3).field
    again = pickle.loads(pickle.dumps(field))
    np.testing.assert_array_equal(again(0.0, [0.1, 0.2, 0.3], [0.0, 1.0]), field(0.0, [0.1, 0.2, 0.3], [0.0, 1.0]))
    slow = field.with_parameters(tau=2.0 * field.parameters["tau"])
    close(2.0 * slow(0.0, [0.1, 0.2, 0.3], [0.0, 1.0]), field(0.0, [0.1, 0.2, 0.3], [0.0, 1.0]))


def test_inputs_of_no_channel():
    field = Equations(
        {"r": "-r + W @ r + U @ x"}, {"W": np.eye(2), "U": np.zeros((2, 0))}, inputs={"x": 0}, states={"r": 2}
    )
    close(field(0.0, [1.0, 2.0]), [0.0, 0.0])
    assert field.parameter_jacobian(0.0, [1.0, 2.0]).shape == (2, 4)


MISTAKES = {
    "W @ v": ("'@': shapes (2, 3) and (2,) do not fit at column 3", "W.T @"),
    "W @ x": ("'@': shapes (2, 3) and a scalar", "* with a scalar"),
    "W * r": ("'*': shapes (2, 3) and (2,) do not fit at column 3", "@ for a matrix product"),
    "r + u": ("'+': shapes (2,) and (3,)", ""),
    "r.T": (".T: shapes (2,)", "outer(u, v)"),
    "r.real": ("an attribute (.real)", ""),
    "sum(x)": ("sum: shapes a scalar", ""),
    "dot(r, u)": ("dot: shapes (2,) and (3,)", ""),
    "outer(r, W)": ("outer: shapes (2,) and (2, 3)", ""),
    "r[2]": ("index 2 of 2 numbers", "0 to 1"),
    "r[0:3]": ("3 is outside 2 numbers", ""),
    "r[1:1]": ("an empty slice", ""),
    "r[::2]": ("a slice with a step", ""),
    "r[r]": ("not a whole number", ""),
    "x[0]": ("an index: shapes a scalar", ""),
    "where(r > u, r, r)": ("a comparison: shapes (2,) and (3,)", ""),
    "max(r, u)": ("max: shapes (2,) and (3,)", ""),
    "-r + V @ r": ("unknown name 'V'", "allowed: "),
    "sigmiod(r)": ("unknown function 'sigmiod'", "did you mean 'sigmoid'?"),
    "summ(r)": ("unknown function 'summ'", "did you mean 'sum'?"),
    "sum(r, r)": ("sum with 2 arguments", ""),
    "[r]": ("a list has no place", ""),
    "W": ("got 'shape (2, 3)'", "shape (2,), as r is"),
    "__import__('os')": ("has no place in a formula", ""),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_told_with_operator_shapes_and_place(text):
    says, tries = MISTAKES[text]
    with pytest.raises(UsageError) as caught:
        Equations(
            {"r": text, "v": "-v"},
            {"W": np.zeros((2, 3)), "u": np.zeros(3)},
            inputs="x",
            states={"r": 2, "v": 2},
        )
    message = str(caught.value)
    assert says in message and tries in message and message.startswith("dr/dt")
    if isinstance(caught.value, ExpressionError):
        assert message.splitlines()[-1].strip() == "^"


def test_mistakes_of_declarations():
    with pytest.raises(UnknownNameError, match="q"):
        Equations({"r": "-r"}, states={"q": 2})
    with pytest.raises(UsageError, match="states"):
        Equations({"r": "-r"}, states={"r": (2, 2, 2)})
    with pytest.raises(UsageError, match="at least one number"):
        Equations({"r": "-r"}, states={"r": 0})
    with pytest.raises(UsageError, match="one meaning each"):
        Equations({"r": "-r"}, {"a": 1.0}, states={"r": 2}, definitions={"a": "2"})
    with pytest.raises(UsageError, match="vector or a matrix"):
        Equations({"r": "-r"}, {"a": np.zeros((2, 2, 2))}, states={"r": 2})
    with pytest.raises(UnknownNameError, match="masks"):
        Equations({"r": "-r"}, {"a": np.zeros(2)}, states={"r": 2}, masks={"b": [True, False]})
    with pytest.raises(UsageError, match="0 and 1"):
        Equations({"r": "-r*a"}, {"a": np.zeros(2)}, states={"r": 2}, masks={"a": [True]})
    with pytest.raises(ExpressionError, match="^s: unknown name 'p'"):
        Equations({"r": "-r*s"}, states={"r": 2}, definitions={"s": "2*p", "p": "3"})


@pytest.mark.parametrize("name", NAMES)
def test_second_order_agrees_with_torch(name):
    """J δr + F_w δw, and K δJ, K δF_w: derivatives of what was written by hand, along a direction."""
    system = systems()[name]
    field = system.field
    t, r, x = at(system)
    rng = np.random.default_rng(4)
    dr, dw, K = rng.normal(size=field.n), rng.normal(size=field.m), rng.normal(size=field.n)
    for mask_name, mask in field.masks.items():
        field.unflatten(dw)[mask_name][~mask] = 0.0
    shapes = {k: v.shape for k, v in field.parameters.items()}

    def F(state: Any, flat: Any) -> Any:
        start, w = 0, {}
        for k, shape in shapes.items():
            size = int(np.prod(shape))
            w[k] = flat[start : start + size].reshape(shape)
            start += size
        return system.torch_field(t, state, w, torch.tensor(x))

    point, along = (torch.tensor(r), torch.tensor(field.vector)), (torch.tensor(dr), torch.tensor(dw))
    close(field.jvp(t, r, dr, dw, x), torch.func.jvp(F, point, along)[1].numpy())

    def pulled(*at: Any) -> Any:
        return torch.func.vjp(F, *at)[1](torch.tensor(K))

    rows, by_w = torch.func.jvp(pulled, point, along)[1]
    R, G = field.second_order(t, r, dr, K, dw, x)
    close(R, rows.numpy())
    close(G, by_w.numpy())


@pytest.mark.parametrize("name", NAMES)
def test_members_in_lanes_are_those_alone(name):
    system = systems()[name]
    field = system.field
    rng = np.random.default_rng(5)
    r0 = 0.3 * rng.normal(size=(3, field.n))
    made = Problem(field, r0[0], (0.0, 0.5), x=[0.2, -0.1])
    options = {"save_at": [0.0, 0.25, 0.5], "solver": "rk4", "dt": 0.05}
    run = ctrnn.ensemble(made, r0=r0, **options)
    for k in range(3):
        close(run.r[k], simulate(made.replace(r0=r0[k]), **options).r)


@pytest.mark.parametrize("name", ["rate, state", "lstm", "hebbian"])
def test_exponential_euler(name):
    """Against its formula, with D of the text by hand; its gradient against torch's."""
    system = systems()[name]
    field = system.field
    t, r, x = at(system)
    made = Problem(field, 0.3 * r, (0.0, 0.4), x=x, objective=Objective(target=0.1, at=[0.2, 0.4]))
    run = simulate(made, solver="exponential-euler", dt=0.2, save_at=[0.2])
    tau = field.parameters["tau"]
    own = {
        "rate, state": lambda: -1.0 / tau,
        "hebbian": lambda: np.concatenate([-1.0 / tau, np.full(16, -field.parameters["eta"])]),
        "lstm": lambda: None,
    }[name]()
    if own is not None:
        z = 0.2 * own
        close(run.r[0], 0.3 * r + 0.2 * np.expm1(z) / z * field(0.0, 0.3 * r, x))
    first = gradient(made, "adjoint", solver="exponential-euler", dt=0.2).vector
    close(gradient(made, ctrnn.RTRL(block=1), solver="exponential-euler", dt=0.2).vector, first)
    close(gradient(made, "autograd", solver="exponential-euler", dt=0.2).vector, first)
    close(gradient(made, "complex-step", solver="exponential-euler", dt=0.2).vector, first)


def test_independent_parts_are_found_and_change_no_gradient():
    mask = np.kron(np.eye(3), np.ones((2, 2)))
    rng = np.random.default_rng(11)
    text = "(-r + W @ tanh(r) + U @ x + b)/tau"
    w = {"W": rng.normal(size=(6, 6)) * mask, "U": rng.normal(size=(6, 2)), "b": rng.normal(size=6), "tau": np.ones(6)}
    masked = Equations({"r": text}, w, {"x": 2}, {"r": 6}, masks={"W": mask})
    whole = Equations({"r": text}, w, {"x": 2}, {"r": 6})
    parts = masked._kernel.parts
    assert parts is not None and whole._kernel.parts is None
    assert len(set(parts[0])) == 3 and len(set(parts[1])) == 3
    np.testing.assert_array_equal(parts[0], np.repeat(parts[0][::2], 2))
    shared = Equations({"r": text}, w | {"tau": 1.0}, {"x": 2}, {"r": 6}, masks={"W": mask})
    assert shared._kernel.parts is None  # a parameter of all parts belongs to none
    r0 = 0.3 * rng.normal(size=6)
    made, other = (
        Problem(field, r0, (0.0, 1.0), x=[0.2, -0.1], objective=Objective(target=0.1, at=[0.5, 1.0]))
        for field in (masked, whole)
    )
    expected = gradient(other, "adjoint", solver="rk4", dt=0.1).vector
    outside = np.flatnonzero(mask.ravel() == 0)
    expected[outside] = 0.0
    for method in ("adjoint", ctrnn.RTRL(block=1), ctrnn.RTRL(block=3), "rtrl-continuous"):
        found = gradient(made, method, **({} if method == "rtrl-continuous" else {"solver": "rk4", "dt": 0.1})).vector
        close(found, expected, 1e-5 if method == "rtrl-continuous" else 1e-11)


def test_a_stream_of_array_equations_is_saved_and_loaded(tmp_path):
    field = rate(3).field
    stream = ctrnn.RTRLStream(field, np.zeros(3), dt=0.1)
    stream.advance(0.5, x=[0.2, -0.1], target=0.1, at=[0.3, 0.5])
    stream.save(tmp_path / "stream.npz")
    again = ctrnn.RTRLStream.load(tmp_path / "stream.npz")
    assert again.field.equations == field.equations and again.field.states == field.states
    np.testing.assert_array_equal(again.field.vector, field.vector)
    np.testing.assert_array_equal(again.gradient().vector, stream.gradient().vector)
