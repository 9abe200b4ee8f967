"""The notes that the project grew from: their set-ups run here, their recursions hold, their slips show.

000  real-time recurrent learning of the discrete network h_t = f(W h_{t−1} + U x_t), y_t = V h_t:
     an Euler step of the rate form with dt = τ = 1 is that network. Listing: n = 5, m = 3, p = 2,
     100 steps, sigmoid, learning rate 0.01.
001  the scalar example dr/dt = −r + w r + b + x.
"""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

import ctrnn
from ctrnn import Objective, Problem, RateNetwork, Readout, gradient, inputs
from ctrnn.errors import UsageError

n, m, p, T = 5, 3, 2, 100
ETA = 0.01


def f(u):
    return 1.0 / (1.0 + np.exp(-u))


def df(u):
    return f(u) * (1.0 - f(u))


def listing(size=0.1, seed=42):
    """W, U, V of standard deviation 0.1, inputs and targets uniform in [0, 1): the listing's."""
    rng = np.random.default_rng(seed)
    W, U, V = (size * rng.normal(size=shape) for shape in ((n, n), (n, m), (p, n)))
    return W, U, V, rng.random((T, m)), rng.random((T, p))


def as_problem(W, U, V, x, y, h=None):
    """The same in continuous time: h_t at t = 1 ... T, and x_t held from t − 1 to t."""
    field = RateNetwork(n, inputs=m, tau=1.0, activation="sigmoid", form="rate").with_parameters(W=W, U=U)
    steps = len(x)
    signal = inputs.Sampled(np.arange(steps), x, kind="hold")
    objective = Objective(target=y, at=np.arange(1, steps + 1), readout=Readout(V))
    return Problem(field, np.zeros(n) if h is None else h, (0.0, float(steps)), x=signal, objective=objective)


def bptt(W, U, V, x, y):
    """dl/dW, dl/dU, dl/dV of l = Σ ½‖V h_t − y_t‖², backwards through the stored states."""
    h, u = [np.zeros(n)], []
    for k in range(len(x)):
        u.append(W @ h[-1] + U @ x[k])
        h.append(f(u[-1]))
    e = [V @ h[k + 1] - y[k] for k in range(len(x))]
    dW, dU, dV, lam = np.zeros_like(W), np.zeros_like(U), np.zeros_like(V), np.zeros(n)
    for k in reversed(range(len(x))):
        lam = (lam + V.T @ e[k]) * df(u[k])
        dW += np.outer(lam, h[k])
        dU += np.outer(lam, x[k])
        dV += np.outer(e[k], h[k + 1])
        lam = W.T @ lam
    return 0.5 * sum(k @ k for k in e), dW, dU, dV


class RTRL:
    """The text's recursion P_t = f′ (W P_{t−1} + h_{t−1}ᵀ ⊗ I), P[k, i, j] = ∂h_k/∂W_ij, and the same for U.

    ``twice`` applies f′ once more in the gradient and ``diagonal`` takes "h where i = j" as the
    immediate term, as the listing prints; ``immediate_U`` leaves U with its own step's term only.
    """

    def __init__(self, W, U, V, twice=False, diagonal=False, immediate_U=False):
        self.W, self.U, self.V = W.copy(), U.copy(), V.copy()
        self.twice, self.diagonal, self.immediate_U = twice, diagonal, immediate_U
        self.h, self.P, self.Q = np.zeros(n), np.zeros((n, n, n)), np.zeros((n, n, m))

    def step(self, x, y):
        """One step: the loss there and its gradients."""
        u, I = self.W @ self.h + self.U @ x, np.eye(n)
        now = np.einsum("ij,k->kij", I, self.h) if self.diagonal else np.einsum("ki,j->kij", I, self.h)
        slope = df(u)[:, None, None]
        self.P = slope * (np.einsum("kl,lij->kij", self.W, self.P) + now)
        past = np.zeros_like(self.Q) if self.immediate_U else np.einsum("kl,lij->kij", self.W, self.Q)
        self.Q = slope * (past + np.einsum("ki,j->kij", I, x))
        self.h = f(u)
        e = self.V @ self.h - y
        delta = self.V.T @ e
        with_W = delta * df(u) if self.twice else delta
        dW, dU = np.einsum("k,kij->ij", with_W, self.P), np.einsum("k,kij->ij", delta, self.Q)
        return 0.5 * e @ e, dW, dU, np.outer(e, self.h)

    def run(self, x, y):
        parts = [self.step(*pair) for pair in zip(x, y, strict=True)]
        return tuple(sum(part) for part in zip(*parts, strict=True))


def off(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


# --- note 000


@pytest.mark.parametrize("method", ["rtrl", ctrnn.RTRL(block=1), ctrnn.RTRL(block=7), "adjoint", "autograd",
                                    "complex-step", "rtrl-continuous"])  # fmt: skip
@pytest.mark.parametrize("size", [0.1, 2.0], ids=["as printed", "large weights"])
def test_the_set_up_of_note_000(method, size):
    """Our gradient, BPTT and the text's RTRL in plain numpy: 1e-12; also with weights 20 times larger,
    where the past matters."""
    parts = listing(size)
    loss, dW, dU, dV = bptt(*parts)
    W, U, V, x, y = parts
    assert RTRL(W, U, V).run(x, y)[0] == pytest.approx(loss, rel=1e-14)
    for one, other in zip(RTRL(W, U, V).run(x, y)[1:], (dW, dU, dV), strict=True):
        assert off(one, other) < 1e-12
    g = gradient(as_problem(*parts), method, solver="euler", dt=1.0)
    assert g.stats.steps == T
    assert g.loss == pytest.approx(loss, rel=1e-13)
    assert off(g.parameters["W"], dW) < 1e-12
    assert off(g.parameters["U"], dU) < 1e-12
    assert off(g.readout["V"], dV) < 1e-12


def test_the_gradient_of_each_moment():
    """RTRL has dL_t/dW at hand at each t: it is the gradient of an objective that looks at t alone."""
    W, U, V, x, y = listing(2.0)
    learner = RTRL(W, U, V)
    moments = [learner.step(*pair) for pair in zip(x, y, strict=True)]
    problem = as_problem(W, U, V, x, y)
    for t in (1, 2, 50, 100):
        alone = problem.replace(objective=Objective(target=y[t - 1 : t], at=[float(t)], readout=Readout(V)))
        g = gradient(alone, "rtrl", solver="euler", dt=1.0)
        loss, dW, dU, dV = moments[t - 1]
        assert g.loss == pytest.approx(loss, rel=1e-12)
        if t == 1:  # h_0 = 0: no weight of W has been used yet
            np.testing.assert_array_equal(g.parameters["W"], 0.0)
        else:
            assert off(g.parameters["W"], dW) < 1e-12
        assert off(g.parameters["U"], dU) < 1e-12
        assert off(g.readout["V"], dV) < 1e-12


def test_the_slips_of_the_listing_show():
    """Each of them moves the gradient, alone and together; V's own step is all that V needs."""
    W, U, V, x, y = listing()
    _, dW, dU, dV = bptt(W, U, V, x, y)
    printed = RTRL(W, U, V, twice=True, diagonal=True, immediate_U=True).run(x, y)
    assert off(printed[1], dW) > 0.5
    assert off(printed[2], dU) > 1e-3
    assert off(printed[3], dV) < 1e-13
    assert off(RTRL(W, U, V, twice=True).run(x, y)[1], dW) > 0.5  # f′ ≤ ¼
    assert off(RTRL(W, U, V, diagonal=True).run(x, y)[1], dW) > 0.5
    # and the larger the recurrent weights, the more U's past weighs
    W, U, V, x, y = listing(2.0)
    assert off(RTRL(W, U, V, immediate_U=True).run(x, y)[2], bptt(W, U, V, x, y)[2]) > 0.05


def test_learning_at_the_rate_of_note_000():
    """100 online steps at η = 0.01 with the right P: the loss of the whole sequence falls, and at the
    weights so found our gradient is BPTT's still."""
    W, U, V, x, y = listing()
    learner = RTRL(W, U, V)
    for pair in zip(x, y, strict=True):
        _, dW, dU, dV = learner.step(*pair)
        learner.W -= ETA * dW
        learner.U -= ETA * dU
        learner.V -= ETA * dV
    before = gradient(as_problem(W, U, V, x, y), "rtrl", solver="euler", dt=1.0)
    learned = (learner.W, learner.U, learner.V, x, y)
    after = gradient(as_problem(*learned), "rtrl", solver="euler", dt=1.0)
    loss, dW, dU, dV = bptt(*learned)
    assert after.loss == pytest.approx(loss, rel=1e-13) and after.loss < 0.9 * before.loss
    assert off(after.parameters["W"], dW) < 1e-12 and off(after.readout["V"], dV) < 1e-12


def test_a_step_down_the_gradient():
    """l(w − η g) = l − η‖g‖² + O(η²): to 2% at η = 1e-4, ours for all of W, U, b and V."""
    problem = as_problem(*listing())
    g = gradient(problem, "rtrl", solver="euler", dt=1.0)
    eta, V = 1e-4, problem.objective.readout.V
    field = problem.field.with_vector(problem.field.vector - eta * g.vector)
    objective = Objective(
        target=problem.objective.targets, at=problem.objective.times,
        readout=Readout(V - eta * g.readout["V"], -eta * g.readout["c"]),
    )  # fmt: skip
    after = gradient(problem.replace(field=field, objective=objective), "rtrl", solver="euler", dt=1.0)
    steep = sum((part**2).sum() for part in (g.vector, g.readout["V"], g.readout["c"]))
    assert (g.loss - after.loss) / (eta * steep) == pytest.approx(1.0, abs=0.02)


# --- torch's own recurrent network


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("tau", [1.0, 0.3])
def test_an_euler_step_with_dt_tau_is_torchs_rnn(nonlinearity, tau):
    """Values of a sequence to 1e-14, gradients to weights, bias, inputs' weights and h_0 to 1e-12."""
    torch.manual_seed(1)
    units, channels, steps = 6, 3, 20
    cell = torch.nn.RNN(channels, units, nonlinearity=nonlinearity, dtype=torch.float64)
    x = torch.randn(steps, channels, dtype=torch.float64)
    y = torch.randn(steps, units, dtype=torch.float64)
    h0 = torch.randn(1, units, dtype=torch.float64, requires_grad=True)
    h, _ = cell(x, h0)
    loss = 0.5 * ((h - y) ** 2).sum()
    loss.backward()

    field = RateNetwork(units, inputs=channels, tau=tau, activation=nonlinearity, form="rate")
    with torch.no_grad():
        bias = cell.bias_ih_l0 + cell.bias_hh_l0
        field = field.with_parameters(W=cell.weight_hh_l0.numpy(), U=cell.weight_ih_l0.numpy(), b=bias.numpy())
    times = tau * np.arange(steps + 1)
    signal = inputs.Sampled(times[:-1], x.numpy(), kind="hold")
    objective = Objective(target=y.numpy(), at=times[1:])
    problem = Problem(field, h0.detach().numpy()[0], (0.0, times[-1]), x=signal, objective=objective)
    run = ctrnn.simulate(problem, solver="euler", dt=tau)
    assert run.r.shape == (steps + 1, units)
    np.testing.assert_allclose(run.r[1:], h.detach().numpy(), atol=1e-14, rtol=0)
    for method in ("rtrl", "adjoint", "autograd"):
        g = gradient(problem, method, solver="euler", dt=tau)
        assert g.loss == pytest.approx(loss.item(), rel=1e-13)
        assert off(g.parameters["W"], cell.weight_hh_l0.grad.numpy()) < 1e-12
        assert off(g.parameters["U"], cell.weight_ih_l0.grad.numpy()) < 1e-12
        assert off(g.parameters["b"], cell.bias_hh_l0.grad.numpy()) < 1e-12
        assert off(g.r0, h0.grad.numpy()[0]) < 1e-12


# --- note 001


W1, B1, Y0 = 0.6, 0.25, 0.8
TIMES = np.arange(1.0, 7.0)
TARGETS = np.array([0.1, 0.9, 0.4, 1.3, 0.2, 0.7])


def drive(t):
    return 0.5 * np.sin(2 * np.pi * 0.2 * t) + 0.3


def scalar():
    """dr/dt = −r + w r + b + x from r_0 = y_0, with l = Σ ½(r_t − y_t)² at t = 1 ... 6."""
    field = RateNetwork(1, inputs=1, activation="linear").with_parameters(W=[[W1]], U=[[1.0]], b=[B1])
    objective = Objective(target=TARGETS, at=TIMES)
    return Problem(field, [Y0], (0.0, 6.0), x=inputs.Sine(0.2, amplitude=0.5, offset=0.3), objective=objective)


def note_001(p_rate):
    """Σ (r_t − y_t) p_t for sensitivities p = (p_w, p_b) that obey dp/dt = p_rate(p, r)."""

    def rate(t, s):
        return [-s[0] + W1 * s[0] + B1 + drive(t), *p_rate(s[1:], s[0])]

    found = solve_ivp(rate, (0.0, 6.0), [Y0, 0.0, 0.0], method="DOP853", t_eval=TIMES, rtol=1e-12, atol=1e-13)
    r, *p = found.y
    return [float((r - TARGETS) @ q) for q in p]


def test_the_exact_sensitivities_of_note_001():
    """dp_w/dt = −p_w + w p_w + r and dp_b/dt = −p_b + w p_b + 1 are RTRL, to 1e-10."""
    exact = note_001(lambda p, r: [-p[0] + W1 * p[0] + r, -p[1] + W1 * p[1] + 1.0])
    for method in ("rtrl", "adjoint", "rtrl-continuous", "adjoint-backsolve", "adjoint-interpolate"):
        g = gradient(scalar(), method, solver="dop853", rtol=1e-12, atol=1e-13)
        assert g.parameters["W"][0, 0] == pytest.approx(exact[0], rel=1e-10)
        assert g.parameters["b"][0] == pytest.approx(exact[1], rel=1e-10)


def test_the_printed_rule_of_note_001_is_rflo():
    """dp/dt = −p + r drops w p: it is the leak-only rule, to 1e-10, and not the gradient."""
    printed = note_001(lambda p, r: [-p[0] + r, -p[1] + 1.0])
    local = gradient(scalar(), "rflo", solver="dop853", rtol=1e-12, atol=1e-13).parameters
    exact = gradient(scalar(), "rtrl", solver="dop853", rtol=1e-12, atol=1e-13).parameters
    assert local["W"][0, 0] == pytest.approx(printed[0], rel=1e-10)
    assert local["b"][0] == pytest.approx(printed[1], rel=1e-10)
    for name in ("W", "b"):
        assert abs(local[name].item() - exact[name].item()) > 0.2 * abs(exact[name].item())
    plain = ctrnn.Equations({"r": "-r + w*r + b + x"}, {"w": W1, "b": B1}, inputs=["x"])
    with pytest.raises(UsageError, match=r"rflo.*a leak of its own.*array equations, as .* W @ r"):
        ctrnn.learning.OnlineLearner(plain, "rflo")


def test_where_the_two_rules_part():
    """For constant x in closed form: p_b = 1 − e^−t, leak only, against (1 − e^−(1−w)t)/(1 − w)."""
    field = RateNetwork(1, activation="linear").with_parameters(W=[[W1]], b=[B1])
    problem = Problem(field, [Y0], (0.0, 5.0))
    t = np.array([0.5, 1.0, 2.0, 5.0])
    rest, k = B1 / (1.0 - W1), 1.0 - W1
    r = rest + (Y0 - rest) * np.exp(-k * t)
    tight = {"save_at": t, "solver": "dop853", "rtol": 1e-12, "atol": 1e-13}
    exact, local = (ctrnn.sensitivities(problem, leak_only=leak, **tight) for leak in (False, True))
    np.testing.assert_allclose(exact.r[:, 0], r, rtol=1e-11)
    # columns W, b
    np.testing.assert_allclose(local.p[:, 0, 1], 1.0 - np.exp(-t), rtol=1e-10)
    np.testing.assert_allclose(exact.p[:, 0, 1], (1.0 - np.exp(-k * t)) / k, rtol=1e-10)
    # p_w: ∫ e^{−κ(t−s)} r(s) ds with κ = 1, leak only, and κ = 1 − w
    np.testing.assert_allclose(
        local.p[:, 0, 0], rest * (1 - np.exp(-t)) + (Y0 - rest) * (np.exp(-k * t) - np.exp(-t)) / W1, rtol=1e-10
    )
    np.testing.assert_allclose(
        exact.p[:, 0, 0], rest * (1 - np.exp(-k * t)) / k + (Y0 - rest) * t * np.exp(-k * t), rtol=1e-10
    )
    # they part with time, to a factor 1/(1 − w) at rest
    assert (np.diff(exact.p[:, 0, 1] / local.p[:, 0, 1]) > 0).all()


def test_the_learning_rule_of_note_001_descends():
    """Δw = −Σ (r_t − y_t) p_t, Δb likewise, in small steps: the exact rule brings the loss down."""
    problem, losses = scalar(), []
    for _ in range(30):
        g = gradient(problem, "rtrl", solver="rk4", dt=0.1)
        losses.append(g.loss)
        w = {k: problem.field.parameters[k] - ETA * g.parameters[k] for k in ("W", "b")}
        problem = problem.replace(field=problem.field.with_parameters(**w))
    assert (np.diff(losses) < 0).all() and losses[-1] < 0.6 * losses[0]
