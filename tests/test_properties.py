"""What holds for every field, every tableau and every step: properties of gradients that no reference value is needed
for.

The fields are compiled once; Hypothesis varies their parameters, the solver, the step and the loss. Every identity is
one of the discrete run, exact for the steps taken, and must hold to 11 digits of the size of its terms.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ctrnn
from ctrnn import Equations, Objective, Problem, RateNetwork, Readout, RTRLStream, Trials, gradient, simulate
from ctrnn.inputs import Pulse
from ctrnn.solvers import tableaus

DIGITS = 1e-11
#: RTRL in several blocks: in a single one, which a small system takes by itself, it is BPTT
FORWARD = ctrnn.RTRL(block=3)
#: by fixed steps; each stage of the implicit ones is solved to round-off
SOLVERS = [name for name in tableaus.names() if not name.startswith("exponential")]
#: dissipative, with products, a saturation and a rate that depends on t
EQUATIONS = {
    "u": "-a*u + b*tanh(v) + c*cos(t)",
    "v": "-d*v + b*sin(u)*v/(1 + v**2) - u",
    "z": "-z + a*u*v",
}
AUTONOMOUS = EQUATIONS | {"u": "-a*u + b*tanh(v) + c"}


@cache
def equations(is_autonomous: bool) -> Equations:
    return Equations(AUTONOMOUS if is_autonomous else EQUATIONS, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0})


@cache
def network(form: str) -> RateNetwork:
    return RateNetwork(3, inputs=1, form=form, tau=0.8, train_tau=True)


def seeds() -> st.SearchStrategy[np.random.Generator]:
    return st.integers(0, 2**20).map(np.random.default_rng)


@st.composite
def fields(draw: st.DrawFn, is_autonomous: bool = False) -> ctrnn.Field:
    """Equations or a network of three states, with random parameters."""
    rng = draw(seeds())
    if draw(st.booleans()):
        return equations(is_autonomous).with_vector(rng.uniform(0.3, 1.8, 4))
    field = network(draw(st.sampled_from(["state", "rate"])))
    W, U, b = rng.normal(0.0, 0.9, (3, 3)), rng.normal(size=(3, 1)), rng.normal(0.0, 0.5, 3)
    return field.with_parameters(W=W, U=U, b=b, tau=rng.uniform(0.5, 1.5))


@st.composite
def steps(draw: st.DrawFn) -> dict[str, object]:
    """A solver and a fixed step."""
    dt = draw(st.sampled_from([0.05, 0.1, 0.125]))
    return {"solver": draw(st.sampled_from(SOLVERS)), "dt": dt, "rtol": 1e-13, "atol": 1e-15}


def drive(field: ctrnn.Field, shift: float = 0.0) -> Pulse | None:
    return Pulse(0.17 + shift, 0.4, 1.5) if field.input_size else None


def grid(dt: float, N: int) -> np.ndarray:
    """k dt for k = 1 … N, as the solver counts them."""
    return dt * np.arange(1, N + 1)


def loss_at(times: np.ndarray, kind: str, rng: np.random.Generator, a: np.ndarray | None = None) -> Objective:
    """A loss of three states at times: squares of all or of a read-out, or the cross-entropy of two classes."""
    K = len(times)
    weight = rng.uniform(0.5, 2.0, K) if a is None else a
    if kind == "states":
        return Objective(target=rng.normal(size=(K, 3)), at=times, weight=weight)
    readout = Readout(
        rng.normal(size=(2, 3)), rng.normal(size=2), activation="softmax" if kind == "classes" else "linear"
    )
    if kind == "classes":
        return Objective("cross_entropy", np.eye(2)[rng.integers(0, 2, K)], at=times, weight=weight, readout=readout)
    return Objective(target=rng.normal(size=(K, 2)), at=times, weight=weight, readout=readout)


KINDS = st.sampled_from(["states", "readout", "classes"])


def linear(r: np.ndarray, c: np.ndarray, t: float) -> Objective:
    """An objective whose ∂ℓ/∂r is c where the state is r."""
    return Objective(target=(r - c)[None, :], at=[t])


def flat(g: ctrnn.Gradient) -> np.ndarray:
    return np.concatenate([g.vector, g.r0.ravel(), *(part.ravel() for part in (g.readout or {}).values())])


def assert_equal(a: np.ndarray, b: np.ndarray, *terms: np.ndarray) -> None:
    """To 11 digits of the largest of what was added up."""
    size = max(float(np.linalg.norm(v)) for v in (a, b, *terms))
    assert float(np.linalg.norm(a - b)) <= DIGITS * size


# ---- ⟨λ, p⟩ --------------------------------------------------------------------------------------------------------


@settings(max_examples=12)
@given(field=fields(), steps=steps(), rng=seeds(), N=st.integers(2, 8))
def test_lambda_times_p_is_constant_along_a_run_without_losses(field, steps, rng, N):
    """λ(s) S(s) = dl/dr0, and λ(s) p(s) + what the rest of the run adds = dl/dw, at every step s: λ by BPTT from the
    end, S and p by RTRL
    from the start, row by row."""
    times, r0, c = grid(steps["dt"], N), rng.normal(size=3), rng.normal(size=3)
    problem = Problem(field, r0, (0.0, times[-1]), drive(field))
    run = simulate(problem, save_at=times, **steps).r
    whole = gradient(problem.replace(objective=linear(run[-1], c, times[-1])), "adjoint", **steps)
    for s, r in zip(times[:-1], run[:-1], strict=True):
        before = problem.replace(t_span=(0.0, s))
        rows = [gradient(before.replace(objective=linear(r, e, s)), FORWARD, **steps) for e in np.eye(3)]
        S, p = np.stack([g.r0 for g in rows]), np.stack([g.vector for g in rows])
        after = problem.replace(t_span=(s, times[-1]), r0=r, objective=linear(run[-1], c, times[-1]))
        rest = gradient(after, "adjoint", **steps)
        assert_equal(rest.r0 @ S, whole.r0)
        assert_equal(rest.r0 @ p + rest.vector, whole.vector, rest.vector)
        assert np.linalg.norm(rest.vector) > 0 and not np.allclose(rest.r0, whole.r0, rtol=1e-6)


# ---- linear in the weights -----------------------------------------------------------------------------------------

numbers = st.floats(-3.0, 3.0).filter(lambda v: abs(v) > 1e-2)


@settings(max_examples=40)
@given(
    field=fields(),
    steps=steps(),
    kind=KINDS,
    rng=seeds(),
    s=numbers,
    t=numbers,
    method=st.sampled_from(["adjoint", FORWARD, "adjoint-checkpoint"]),
    is_adaptive=st.booleans(),
)
def test_the_gradient_is_linear_in_the_weights(field, steps, kind, rng, s, t, method, is_adaptive):
    options = {"solver": steps["solver"], "rtol": 1e-5} if is_adaptive else steps
    assume(not is_adaptive or len(tableaus.get(steps["solver"]).e))
    a, b, r0, seed = rng.normal(size=4), rng.normal(size=4), rng.normal(size=3), int(rng.integers(1e6))
    times = np.array([0.0, 0.3, 0.71, 1.0])
    g = {}
    for name, weight in (("a", a), ("b", b), ("both", s * a + t * b)):
        objective = loss_at(times, kind, np.random.default_rng(seed), weight)
        g[name] = gradient(Problem(field, r0, (0.0, 1.0), drive(field), objective), method, **options)
    assert_equal(flat(g["both"]), s * flat(g["a"]) + t * flat(g["b"]), s * flat(g["a"]), t * flat(g["b"]))
    terms = s * g["a"].loss, t * g["b"].loss
    assert abs(g["both"].loss - sum(terms)) <= DIGITS * max(map(abs, terms))


# ---- a run in two parts --------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(field=fields(), steps=steps(), kind=KINDS, rng=seeds(), N=st.integers(3, 12), data=st.data())
def test_a_run_split_in_two_and_chained_gives_the_same(field, steps, kind, rng, N, data):
    """Backward: λ at the cut, from the second half, is an end-weighted loss of the first. Forward: P is carried over
    the cut."""
    times, cut = grid(steps["dt"], N), data.draw(st.integers(1, N - 1))
    objective, r0 = loss_at(times, kind, rng), rng.normal(size=3)
    problem = Problem(field, r0, (0.0, times[-1]), drive(field), objective)
    whole = gradient(problem, "adjoint", **steps)

    def part(here: slice) -> Objective:
        y, a = objective.target[here], objective.weight[here]
        return Objective(objective.loss, y, at=times[here], weight=a, readout=objective.readout)

    s = times[cut - 1]
    first = problem.replace(t_span=(0.0, s), objective=part(slice(cut)))
    r = simulate(first, save_at=[s], **steps).r[0]
    second = gradient(
        problem.replace(t_span=(s, times[-1]), r0=r, objective=part(slice(cut, None))), "adjoint", **steps
    )
    own = gradient(first, FORWARD, **steps)
    handed_back = gradient(first.replace(objective=linear(r, second.r0, s)), "adjoint", **steps)
    assert abs(own.loss + second.loss - whole.loss) <= DIGITS * abs(whole.loss)
    terms = own.vector, second.vector, handed_back.vector
    assert_equal(sum(terms), whole.vector, *terms)
    assert_equal(own.r0 + handed_back.r0, whole.r0, own.r0, handed_back.r0)
    if whole.readout:
        for name, value in whole.readout.items():
            assert_equal(own.readout[name] + second.readout[name], value, own.readout[name], second.readout[name])

    stream = RTRLStream(field, r0, readout=objective.readout, loss=objective.loss, **steps)
    for here in (slice(cut), slice(cut, None)):
        y, a = objective.target[here], objective.weight[here]
        stream.advance(x=drive(field), until=times[here][-1], target=y, at=times[here], weight=a)
    assert_equal(flat(stream.gradient()), flat(whole))


# ---- symmetries ----------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    order=st.permutations(range(3)),
    form=st.sampled_from(["state", "rate"]),
    steps=steps(),
    rng=seeds(),
    method=st.sampled_from(["adjoint", FORWARD, "autograd"]),
)
def test_permuted_units_have_the_permuted_gradient(order, form, steps, rng, method):
    order = np.array(order)
    W, U, b, r0 = rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), rng.normal(size=3), rng.normal(size=3)
    y, t = rng.normal(size=(2, 3)), [0.4, 1.0]
    g = []
    for p in (np.arange(3), order):
        field = network(form).with_parameters(W=W[np.ix_(p, p)], U=U[p], b=b[p])
        problem = Problem(field, r0[p], (0.0, 1.0), drive(field), Objective(target=y[:, p], at=t))
        g.append(gradient(problem, method, **steps))
    one, other = g
    moved = {"W": one.parameters["W"][np.ix_(order, order)], "U": one.parameters["U"][order]}
    moved |= {"b": one.parameters["b"][order], "tau": one.parameters["tau"]}
    for name, value in moved.items():
        assert_equal(other.parameters[name], value, one.vector)
    assert_equal(other.r0, one.r0[order])


@settings(max_examples=30)
@given(field=fields(is_autonomous=True), steps=steps(), kind=KINDS, rng=seeds(), shift=st.floats(-50.0, 50.0))
def test_the_time_of_an_autonomous_problem_may_be_shifted(field, steps, kind, rng, shift):
    """The input shifts along. A time near 50 is known to 7e-15, which the length of a step of 0.05 feels in its 13th
    digit."""
    seed, r0 = int(rng.integers(1e6)), rng.normal(size=3)
    g = []
    for start in (0.0, shift):
        objective = loss_at(start + np.array([0.2, 0.45, 1.0]), kind, np.random.default_rng(seed))
        problem = Problem(field, r0, (start, start + 1.0), drive(field, start), objective)
        g.append(gradient(problem, "adjoint", **steps))
    assert_equal(flat(g[0]), flat(g[1]))


# ---- batches -------------------------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(
    field=fields(),
    solver=st.sampled_from(["tsit5", "bs3", "kvaerno5"]),
    rng=seeds(),
    order=st.permutations(range(5)),
    size=st.integers(1, 5),
    kind=KINDS,
    method=st.sampled_from(["adjoint", FORWARD]),
)
def test_a_trial_in_any_company_is_what_it_is_alone(field, solver, rng, order, size, kind, method):
    """Bit for bit, in gradients, sensitivities and second derivatives; and sums are sums in the order of the trials."""
    every = [
        Problem(field, rng.normal(size=3), (0.0, end), drive(field), loss_at(np.array([0.2, end]), kind, rng))
        for end in rng.uniform(0.5, 2.0, 5)
    ]
    company = [every[b] for b in order[:size]]
    batch = Trials.of(company)
    options = {"solver": solver, "rtol": 1e-5, "atol": 1e-7}
    g = gradient(batch, method, **options)
    alone = [gradient(problem, method, **options) for problem in company]
    total = np.zeros(field.m)
    for b, one in enumerate(alone):
        np.testing.assert_array_equal(flat(g.trials[b]), flat(one))
        assert g.losses[b] == one.loss
        total = total + one.vector
    np.testing.assert_array_equal(g.vector, total)
    H = sum((ctrnn.hessian(problem, **options) for problem in company), np.zeros((field.m, field.m)))
    np.testing.assert_allclose(ctrnn.hessian(batch, **options), H, rtol=1e-14, atol=1e-14 * np.abs(H).max())
    if solver != "kvaerno5":  # our own implicit solvers have no continuous sensitivities
        for s, problem in zip(ctrnn.sensitivities(batch, [0.3], **options), company, strict=True):
            np.testing.assert_array_equal(s.p, ctrnn.sensitivities(problem, [0.3], **options).p)
