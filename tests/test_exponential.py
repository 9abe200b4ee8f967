"""Exponential Euler: exact leak, first order, and every derivative of its steps, those that are cut included.

References: closed solutions, φ₁ by mpmath, a loop in torch that knows nothing of the package, and autograd through it.
"""

import mpmath
import numpy as np
import pytest
import torch

import ctrnn
from ctrnn import (
    Equations,
    Objective,
    Problem,
    RateNetwork,
    Readout,
    RTRLStream,
    Trials,
    gradient,
    hessian,
    inputs,
    sensitivities,
    simulate,
)
from ctrnn.errors import UsageError

HOW = {"solver": "exponential-euler", "dt": 0.07}
X = inputs.Pulse(0.2717, 0.511, 1.5) + inputs.Sine(0.5)
EXACT = [
    "adjoint",
    ctrnn.RTRL(),
    ctrnn.RTRL(block=1),
    ctrnn.RTRL(block=3),
    "adjoint-checkpoint",
    "rtrl-continuous",
    "autograd",
    "complex-step",
]


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def both(g):
    readout = [] if g.readout is None else [v.ravel() for v in g.readout.values()]
    return np.concatenate([g.vector, g.r0, *readout])


def membrane(objective=None):
    """A voltage and two gates, as in Hodgkin and Huxley's equations: each linear in itself, with rates that depend on
    v, t and parameters."""
    field = Equations(
        {
            "v": "I - g*m**3*h*(v - 1) - v",
            "m": "(1 - m)*0.1*exp(v) - m*b*exp(-v)",
            "h": "0.3*exp(-v)*(1 - h) - h*sin(q*t)**2",
        },
        {"g": 2.0, "b": 0.5, "q": 1.3},
        inputs=("I",),
    )
    return Problem(field, [0.1, 0.2, 0.3], (0.0, 1.0), x=X, objective=objective)


def cubic(objective=None):
    """D = −3 k u² depends on the state itself."""
    return Problem(
        Equations({"u": "-k*u**3 + v", "v": "-u*v + p"}, {"k": 0.8, "p": 1.2}),
        [1.0, 0.5],
        (0.0, 1.0),
        objective=objective,
    )


def network(form, train_tau=False, integral=False):
    t = np.array([0.0, 0.33, 1.0, 2.0])
    target = inputs.Sine(0.7) if integral else np.sin(t)[:, None]
    V = np.random.default_rng(0).normal(size=(1, 5))
    objective = Objective("squared_error", target, at=None if integral else t, readout=Readout(V))
    field = RateNetwork(5, inputs=1, tau=np.linspace(0.5, 2.0, 5), gain=1.5, seed=1, form=form, train_tau=train_tau)
    return Problem(field, np.linspace(-1, 1, 5), (0.0, 2.0), x=X, objective=objective)


# --- the method


def test_a_leak_and_a_constant_input_are_exact():
    """dr/dt = −k r + c, steps of any size, the last one cut: 1e-15; between the steps too, as they land on save_at."""
    problem = Problem(Equations({"r": "-k*r + c"}, {"k": 2.0, "c": 3.0}), [1.0], (0.0, 5.0))
    for at in (None, [0.1, 0.25, 4.9]):
        run = simulate(problem, "exponential-euler", dt=0.8, save_at=at)
        np.testing.assert_allclose(run.r[:, 0], 1.5 - 0.5 * np.exp(-2.0 * run.t), rtol=1e-15)
    assert "exponential-euler, dt = 0.8" in run.stats.solver


def test_the_alias():
    a, b = (simulate(membrane(), name, dt=0.07).r for name in ("exp_euler", "exponential-euler"))
    assert a.tobytes() == b.tobytes()


def test_order_one_on_a_time_dependent_problem():
    exact = simulate(membrane(), "dop853", rtol=1e-12, atol=1e-13).r[-1]
    one, two = (np.linalg.norm(simulate(membrane(), "exponential-euler", dt=dt).r[-1] - exact) for dt in (2e-3, 1e-3))
    assert np.log2(one / two) == pytest.approx(1.0, abs=0.05)


def test_stable_with_steps_ten_times_tau():
    """Where Euler's steps blow up by a factor 9 each, these go to rest."""
    field = RateNetwork(20, tau=0.1, gain=0.5, seed=0).with_parameters(b=np.linspace(-1, 1, 20))
    problem = Problem(field, np.ones(20), (0.0, 40.0))
    run = simulate(problem, "exponential-euler", dt=1.0)
    assert np.abs(field(0.0, run.r[-1])).max() < 1e-9  # dr/dt, with tau = 0.1
    assert np.abs(simulate(problem, "euler", dt=1.0).r[-1]).max() > 1e10


def test_it_differs_from_euler():
    a, b = (simulate(membrane(), solver, dt=0.07).r[-1] for solver in ("euler", "exponential-euler"))
    assert np.abs(a - b).max() > 1e-3


def test_phi_to_round_off():
    """φ₁, φ₁′ and φ₁″ from −700 to 50 and across 0, against mpmath: 1e-15 relative; the torch one with its slope by
    autograd, 1e-14."""
    from ctrnn.fields.torch_functions import phi as torch_phi
    from ctrnn.kernels.exponential import ddphi, dphi, phi

    mpmath.mp.dps = 60
    points = [
        0.0,
        *(s * 10.0**e for s in (-1, 1) for e in (-300, -20, -8, -3, -1)),
        -0.999,
        0.999,
        -1.001,
        1.001,
        -3.0,
        7.0,
        -40.0,
        50.0,
        -700.0,
    ]
    for z in points:
        exact = [
            mpmath.nsum(
                lambda k, d=d, z=z: mpmath.ff(k + d, d) * mpmath.mpf(z) ** k / mpmath.factorial(k + d + 1),
                [0, mpmath.inf],
            )
            if abs(z) < 5
            else mpmath.diff(lambda y: mpmath.expm1(y) / y, z, d)
            for d in range(3)
        ]
        for ours, true in zip((phi(z), dphi(z), ddphi(z)), exact, strict=True):
            assert ours == pytest.approx(float(true), rel=3e-15)
        leaf = torch.tensor(z, dtype=torch.float64, requires_grad=True)
        value = torch_phi(leaf)
        (slope,) = torch.autograd.grad(value, leaf)
        assert value.item() == pytest.approx(float(exact[0]), rel=3e-15)
        assert slope.item() == pytest.approx(float(exact[1]), rel=1e-14)


# --- its gradients


def unrolled(F, D, r, times, x):
    """A loop of one's own: r + (e^(hD) − 1)/D F, with the input just behind each step's start."""
    for t, end in zip(times[:-1], times[1:], strict=True):
        h = end - t
        d = D(t, r, x(t))
        r = r + torch.expm1(h * d) / d * F(t, r, x(t))
    return r


def cut_grid(problem, dt):
    """The grid of dt and every stop of the problem."""
    grid = np.arange(0.0, problem.t_span[1], dt)
    return np.union1d(grid, problem.course.stops)


def test_the_membrane_against_autograd_of_a_loop():
    """Steps cut at jumps of the input and at an observation between grid points: gradient to parameters and r0 to
    1e-13."""
    problem = membrane(Objective("v*m + h**2", at=[0.93]))
    problem = problem.replace(t_span=(0.0, 0.93))
    g, b, q = (torch.tensor(problem.field.parameters[k].item(), dtype=torch.float64, requires_grad=True) for k in "gbq")
    r0 = torch.tensor(problem.r0, requires_grad=True)

    def F(t, r, I):
        v, m, h = r
        return torch.stack([
            I - g * m**3 * h * (v - 1) - v,
            (1 - m) * 0.1 * torch.exp(v) - m * b * torch.exp(-v),
            0.3 * torch.exp(-v) * (1 - h) - h * torch.sin(q * t) ** 2,
        ])  # fmt: skip

    def D(t, r, I):
        v, m, h = r
        return torch.stack(
            [-g * m**3 * h - 1, -0.1 * torch.exp(v) - b * torch.exp(-v), -0.3 * torch.exp(-v) - torch.sin(q * t) ** 2]
        )

    def x(t):
        return (1.5 if 0.2717 <= t < 0.2717 + 0.511 else 0.0) + np.sin(2 * np.pi * 0.5 * t)

    r = unrolled(F, D, r0, cut_grid(problem, 0.07), x)
    loss = r[0] * r[1] + r[2] ** 2
    leaves = torch.autograd.grad(loss, [g, b, q, r0])
    exact = np.concatenate([part.numpy().ravel() for part in leaves])
    for method in EXACT:
        found = gradient(problem, method, **HOW)
        assert found.loss == pytest.approx(loss.item(), rel=1e-13)
        assert relative(both(found), exact) < 1e-13, method


@pytest.mark.parametrize("form", ["state", "rate"])
def test_a_network_against_autograd_of_a_loop(form):
    """W, U, b, tau, r0, V and c to 1e-13; D is −1/tau alone, without the self-weights' part."""
    problem = network(form, train_tau=True)
    field, objective = problem.field, problem.objective
    w = {k: torch.tensor(v, requires_grad=True) for k, v in field.parameters.items()}
    V, c = (torch.tensor(v, requires_grad=True) for v in (objective.readout.V, objective.readout.c))
    r = r0 = torch.tensor(problem.r0, requires_grad=True)
    times, loss = cut_grid(problem, 0.07), 0.0

    def drive(t, r, x):
        inner = torch.tanh(r) if form == "state" else r
        u = w["W"] @ inner + w["U"][:, 0] * x + w["b"]
        return u if form == "state" else torch.tanh(u)

    def x(t):
        return (1.5 if 0.2717 <= t < 0.2717 + 0.511 else 0.0) + np.sin(2 * np.pi * 0.5 * t)

    for a, b in zip([0.0, 0.0, 0.33, 1.0], [0.0, 0.33, 1.0, 2.0], strict=True):
        piece = times[(times >= a) & (times <= b)]
        r = unrolled(lambda t, r, x: (-r + drive(t, r, x)) / w["tau"], lambda t, r, x: -1.0 / w["tau"], r, piece, x)
        loss = loss + 0.5 * ((V @ r + c - np.sin(b)) ** 2).sum()
    names = [w[k] for k in field.parameter_names]
    exact = np.concatenate([part.numpy().ravel() for part in torch.autograd.grad(loss, [*names, r0, V, c])])
    for method in EXACT:
        found = gradient(problem, method, **HOW)
        assert found.loss == pytest.approx(loss.item(), rel=1e-13)
        assert relative(both(found), exact) < 1e-13, method


@pytest.mark.parametrize(
    "make",
    [
        lambda: membrane(Objective("v*m + h**2")),
        lambda: cubic(Objective("u*v", at=[0.0, 0.41, 1.0])),
        lambda: cubic(Objective("u*v")),
        lambda: network("state", integral=True),
        lambda: network("rate", train_tau=True, integral=True),
    ],
    ids=["membrane", "cubic", "cubic-integral", "state", "rate"],
)
def test_every_exact_method_agrees(make):
    """To 1e-13, with losses at t0, at times and integrated."""
    problem = make()
    first = both(gradient(problem, EXACT[0], **HOW))
    for method in EXACT[1:]:
        assert relative(both(gradient(problem, method, **HOW)), first) < 1e-13, method
    assert relative(both(gradient(problem, "central-difference", **HOW)), first) < 1e-9


@pytest.mark.parametrize(
    "make",
    [
        lambda: membrane(Objective("v*m + h**2", at=[1.0])),
        lambda: cubic(Objective("u*v")),
        lambda: network("rate", train_tau=True),
    ],
    ids=["membrane", "cubic", "rate"],
)
def test_the_hessian(make):
    """Against central differences of the gradient, 1e-7."""
    problem, step = make(), 1e-5
    w = problem.field.vector
    rows = [
        [
            gradient(problem.replace(field=problem.field.with_vector(w + s * step * e)), "adjoint", **HOW).vector
            for s in (1, -1)
        ]
        for e in np.eye(w.size)
    ]
    differences = np.stack([(up - down) / (2 * step) for up, down in rows])
    H = hessian(problem, **HOW)
    assert np.abs(H - differences).max() < 1e-7 * np.abs(H).max()


def test_truncated():
    """A window longer than the run is exact; a short one is not."""
    problem = membrane(Objective("v*m + h**2", at=[0.5, 1.0]))
    exact = gradient(problem, "adjoint", **HOW).vector
    assert relative(gradient(problem, ctrnn.TruncatedBPTT(1000), **HOW).vector, exact) < 1e-13
    assert relative(gradient(problem, ctrnn.TruncatedBPTT(2), **HOW).vector, exact) > 1e-2


def test_sensitivities():
    """p(t) is the derivative of the steps: the gradient of each state, 1e-13, also between grid points."""
    problem = membrane()
    s = sensitivities(problem, [0.33, 1.0], **HOW)
    for i, state in enumerate(problem.field.state_names):
        g = gradient(problem.replace(objective=Objective(state, at=[0.33])), "adjoint", **HOW)
        np.testing.assert_allclose(s.p[0, i], g.vector, rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(s.p0[0, i], g.r0, rtol=1e-12, atol=1e-15)


def test_a_stream_in_pieces():
    """Pieces that end on the grid and off it, where the steps are cut: loss, gradient to 1e-13 of the whole with the
    same stops."""
    field, r0 = network("state").field, np.linspace(-1, 1, 5)
    stream = RTRLStream(field, r0, readout="r0", **HOW)
    ends = [0.35, 0.52, 1.4, 2.0]
    for end in ends:
        stream.advance(until=end, x=X, target=[0.3], at=[end])
    whole = Problem(
        field, r0, (0.0, 2.0), x=X, objective=Objective("squared_error", np.full(4, 0.3), at=ends, readout="r0")
    )
    g = gradient(whole, "adjoint", **HOW)
    assert stream.loss == pytest.approx(g.loss, rel=1e-13)
    assert relative(both(stream.gradient()), both(g)) < 1e-13


def test_trials():
    problem = membrane(Objective("v*m + h**2", at=[0.33, 1.0]))
    starts = [[0.1, 0.2, 0.3], [0.5, 0.1, 0.9]]
    trials = Trials(problem.field, starts, (0.0, 1.0), x=X, objective=Objective("v*m + h**2", at=[0.33, 1.0]))
    g = gradient(trials, "rtrl", **HOW)
    each = [gradient(problem.replace(r0=r0), "adjoint", **HOW) for r0 in starts]
    assert relative(g.vector, each[0].vector + each[1].vector) < 1e-13
    for run, r0 in zip(simulate(trials, **HOW), starts, strict=True):
        np.testing.assert_array_equal(run.r, simulate(problem.replace(r0=r0), **HOW).r)


# --- what is refused


def test_it_needs_a_step_and_a_leak():
    for call in (simulate, gradient, sensitivities, hessian):
        with pytest.raises(UsageError, match="dt"):
            call(membrane(Objective("v", at=[1.0])), solver="exponential-euler")
    field = ctrnn.TorchField(lambda t, r, w, x: -w["k"] * r, n=1, parameters={"k": 1.0})
    torch_problem = Problem(field, [1.0], (0.0, 1.0), objective=Objective("r0", at=[1.0]))
    for call in (simulate, gradient):
        with pytest.raises(UsageError, match="TorchField.*leak"):
            call(torch_problem, **HOW)


def test_without_a_step_it_is_the_field():
    """G_0 = F: with another solver, and by itself."""
    from ctrnn.fields.exponential import Exponential

    field = membrane().field
    np.testing.assert_array_equal(
        Exponential(field)(0.3, [0.1, 0.2, 0.3], x=[0.7, 0.0]), field(0.3, [0.1, 0.2, 0.3], x=[0.7])
    )
    changed = Exponential(field).with_parameters(g=3.0)
    np.testing.assert_array_equal(
        changed(0.3, [0.1, 0.2, 0.3], x=[0.7, 0.0]), field.with_parameters(g=3.0)(0.3, [0.1, 0.2, 0.3], x=[0.7])
    )
