"""RTRL and the adjoint in torch operations against the compiled kernels: equal to 1e-12 in float64, to 1e-4 in float32,
where they must also differ.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import ctrnn
from ctrnn import RTRL, Adjoint, Equations, Objective, Problem, RateNetwork, Readout, TorchField, Trials, gradient
from ctrnn.errors import DivergenceError, TooManyStepsError, UnknownNameError, UsageError
from ctrnn.gradients.recording.torch import carry, fields, graph, recording, structure, threads
from ctrnn.gradients.recording.torch.device import Device
from ctrnn.inputs import Pulse, Sine, stack

RNG = np.random.default_rng(0)
N, T = 7, np.linspace(0.0, 3.0, 16)
MASK = RNG.random((N, N)) < 0.5
TARGET = RNG.normal(size=(16, N))
ON_CPU = (Adjoint(device="cpu"), RTRL(device="cpu"), RTRL(device="cpu", block=7))
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")

OBJECTIVES = {
    "observations, t0 among them": Objective(target=TARGET, at=T),
    "last state": Objective("r2", at=[3.0]),
    "integral of a read-out": Objective(
        target=Sine(0.3), weight=Pulse(0.5, 1.7), readout=Readout(RNG.normal(size=(1, N)), c=0.2)
    ),
    "cross-entropy": Objective(
        "cross_entropy",
        target=np.eye(3)[RNG.integers(0, 3, 16)],
        at=T,
        readout=Readout(RNG.normal(size=(3, N)), activation="softmax"),
    ),
    "torch callable": Objective(lambda o, y: (o - y).abs().sum() ** 1.5, target=TARGET, at=T),
}


def network(form="state", **others):
    given = {"inputs": 2, "tau": np.linspace(0.5, 1.5, N), "gain": 1.3, "seed": 1} | others
    return RateNetwork(N, form=form, **given).with_parameters(b=RNG.normal(size=N))


def problem(field, objective="observations, t0 among them", r0=TARGET[0]):
    x = stack(Sine(0.4), Pulse(0.73, 0.5)) if field.input_size else None
    return Problem(field, r0, (0.0, 3.0), x, OBJECTIVES[objective])


def off(found, exact):
    """The largest relative distance between two gradients, of loss, w, r0 and the read-out."""
    pairs = [(np.array([found.loss]), np.array([exact.loss])), (found.vector, exact.vector), (found.r0, exact.r0)]
    if exact.readout is not None:
        pairs += [(found.readout[name], exact.readout[name]) for name in exact.readout]
    return max(np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in pairs)


def agree(one, methods=ON_CPU, solver="rk4", bound=1e-12, dt=0.07):
    exact = gradient(one, "adjoint", solver=solver, dt=dt)
    for method in methods:
        found = gradient(one, method, solver=solver, dt=dt)
        assert off(found, exact) < bound, method.name
        assert (found.stats.steps, found.stats.evaluations) == (exact.stats.steps, exact.stats.evaluations)


@pytest.mark.parametrize("solver", ["euler", "heun", "rk4", "tsit5", "dop853"])
@pytest.mark.parametrize("form", ["state", "rate"])
def test_every_explicit_tableau(solver, form):
    """To 1e-12; steps are cut by observations and by the jumps of a pulse."""
    agree(problem(network(form, train_tau=True)), solver=solver)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("form", ["state", "rate"])
def test_every_loss(objective, form):
    """To 1e-12."""
    agree(problem(network(form), objective))


@pytest.mark.parametrize("activation", ["relu", "softplus", "sigmoid", "linear", "erf"])
def test_every_activation(activation):
    """To 1e-12, from 0, where relu has a corner."""
    agree(problem(network(activation=activation), r0=np.zeros(N)))


def test_without_inputs():
    """To 1e-12, the last block shorter than the others."""
    agree(problem(network(inputs=0)))


@pytest.mark.parametrize("mask", [MASK, np.eye(N), np.kron(np.eye(1, 7)[0], np.ones((N, 1)))])
def test_masks(mask):
    """To 1e-12; what lies outside is 0."""
    one = problem(network(mask=mask, train_tau=True, tau=0.7))
    agree(one)
    for method in ON_CPU:
        W = gradient(one, method, solver="rk4", dt=0.1).parameters["W"]
        assert not W[np.asarray(mask) == 0].any() and W.any()


GATED = {
    "GRU": lambda: ctrnn.GRUNetwork(5, 2, seed=1, train_tau=True),
    "GRU, original": lambda: ctrnn.GRUNetwork(5, 2, seed=1, reset="before"),
    "LSTM": lambda: ctrnn.LSTMNetwork(3, 2, tau=0.5, seed=1),
    "liquid": lambda: ctrnn.LiquidNetwork(5, 2, seed=1),
    "a part of the state, weights twice": lambda: Equations(
        {"r": "(-r + W @ tanh(r))/2 + U @ x", "s": "-s + W @ r + V @ r[1:3] + b*s**2"},
        {"W": RNG.normal(size=(4, 4)), "U": RNG.normal(size=(4, 2)), "V": RNG.normal(size=(4, 2)), "b": 0.1},
        {"x": 2},
        {"r": 4, "s": 4},
    ),
}


@pytest.mark.parametrize("which", GATED)
def test_networks_as_texts(which):
    """To 1e-12; by the products of their graphs, but for weights behind other weights."""
    field = GATED[which]()
    direct = isinstance(fields.system_of(field, Device("cpu", "float64")), graph.GraphSystem)
    assert direct == (which != "GRU, original")
    end = Objective(target=np.linspace(-1.0, 1.0, field.n)[None], at=[3.0])
    agree(Problem(field, 0.1, (0.0, 3.0), stack(Sine(0.4), Pulse(0.73, 0.5)), end), dt=0.1)


def test_other_fields():
    """Equations that know t and x, and a torch callable with an input, to 1e-12."""
    duffing = Equations({"q": "v", "v": "-d*v - q**3 + a*cos(t) + x"}, parameters={"d": 0.3, "a": 0.7}, inputs=("x",))
    callable_ = TorchField(
        lambda t, r, w, x: -r + torch.tanh(w["A"] @ r + x) + w["b"] * t,
        n=2,
        inputs=1,
        parameters={"A": [[0.0, 2.0], [-2.0, 0.3]], "b": 0.1},
    )
    for field in (duffing, callable_):
        agree(Problem(field, [0.3, -0.2], (0.0, 2.0), Pulse(0.5, 0.6), Objective(target=0.1, at=[1.0, 2.0])), dt=0.1)


def test_two_sweeps_are_one(monkeypatch):
    """Where the cotangents of a block do not fit, they are made twice: the same to 1e-12."""
    one = problem(network(train_tau=True))
    exact = gradient(one, "adjoint", solver="rk4", dt=0.07)
    monkeypatch.setattr(carry, "SMALL", 8 * 4 * N * (N + 1) * 3)
    monkeypatch.setattr(carry, "LARGE", 0)
    assert carry.plan_for(N, N + 3, 4, 60, 8, block=40) == carry.Plan(40, 3)
    for block in (3, 5, 40):
        assert off(gradient(one, RTRL(block, device="cpu"), solver="rk4", dt=0.07), exact) < 1e-12


def test_threads_change_nothing(monkeypatch):
    """Work divided between two threads: the same to 1e-12; torch's own setting comes back."""
    monkeypatch.setattr(threads, "WORTH_THREADS", 0.0)
    monkeypatch.setattr(threads, "workers", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        agree(problem(network(train_tau=True)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("method", [Adjoint(dtype="float32"), RTRL(dtype="float32")])
@pytest.mark.parametrize("form", ["state", "rate"])
def test_float32(method, form):
    """Four digits and more, and not sixteen: nothing is computed in float64 behind one's back."""
    one = problem(network(form))
    exact = gradient(one, "adjoint", solver="rk4", dt=0.05)
    found = gradient(one, method, solver="rk4", dt=0.05)
    assert 1e-9 < off(found, exact) < 1e-4
    assert found.vector.dtype == np.float64 and "float32" in found.method


@pytest.mark.parametrize("together", [1, 2**30])
def test_trials_are_their_sum(monkeypatch, together):
    """To 1e-12, whether they go together or one after another; each with its own start, input, target and read-out
    weight."""
    monkeypatch.setattr(recording, "TOGETHER_BYTES", together)
    readout = Readout(RNG.normal(size=(2, N)))
    r0 = RNG.normal(size=(3, N))
    inputs = [stack(Sine(f), Pulse(0.73, 0.5)) for f in (0.2, 0.5, 0.9)]
    objectives = [Objective(target=RNG.normal(size=(16, 2)), at=T, weight=a, readout=readout) for a in (1.0, 0.0, 2.0)]
    trials = Trials(network(train_tau=True), r0, (0.0, 3.0), inputs, objectives)
    exact = gradient(trials, "adjoint", solver="rk4", dt=0.07)
    for method in ON_CPU:
        found = gradient(trials, method, solver="rk4", dt=0.07)
        assert off(found, exact) < 1e-12
        np.testing.assert_allclose(found.losses, exact.losses, rtol=1e-12)
        assert found.r0.shape == (3, N) and found.stats.steps == exact.stats.steps


@pytest.mark.parametrize("together", [1, 2**30])
def test_trials_of_other_times_are_refused(monkeypatch, together):
    monkeypatch.setattr(recording, "TOGETHER_BYTES", together)
    trials = Trials(network(), np.zeros(N), [(0.0, 1.0), (0.0, 2.0)], objective=Objective(target=1.0, at=[1.0]))
    for method in ON_CPU:
        with pytest.raises(UsageError, match="trial 1 stops at other times"):
            gradient(trials, method, solver="rk4", dt=0.1)
    with pytest.raises(UsageError, match="certify"):
        gradient(Trials(network(), np.zeros((2, N)), (0.0, 1.0), objective=Objective(target=1.0, at=[1.0])), ON_CPU[0],
                 solver="rk4", dt=0.1, certify=True)  # fmt: skip


def test_a_certificate_judges_it():
    """More than eleven digits in float64 where the steps are small, four to eight in float32."""
    one = problem(network(), "last state")
    exact, single = (
        gradient(one, RTRL(dtype=d), solver="dop853", dt=0.02, certify=True) for d in ("float64", "float32")
    )
    assert exact.certificate.digits > 11.0
    assert 4.0 < single.certificate.digits < 8.0


def test_what_cannot_be_is_said():
    one = problem(network())
    for wrong in ({"device": "gpu"}, {"device": "cuda:x"}, {"dtype": "float16"}):
        with pytest.raises(UnknownNameError):
            RTRL(**wrong)
    with pytest.raises(UsageError, match="mode"):
        RTRL(mode="continuous", dtype="float32")
    with pytest.raises(UsageError, match="mode"):
        Adjoint("checkpoint", device="cpu")
    with pytest.raises(UsageError, match="dt"):
        gradient(one, ON_CPU[0])
    for solver in ("kvaerno5", "exponential-euler"):
        with pytest.raises(UsageError, match="explicit"):
            gradient(one, ON_CPU[0], solver=solver, dt=0.1)
    event = ctrnn.Event("r0 - 10")
    with pytest.raises(UsageError, match="events"):
        gradient(
            Problem(network(), np.zeros(N), (0.0, 1.0), objective=Objective(target=1.0, at=[1.0]), events=[event]),
            ON_CPU[1],
            solver="rk4",
            dt=0.1,
        )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device():
    with pytest.raises(UsageError, match="device: got 'cuda'; allowed: 'cpu': torch finds no CUDA device"):
        gradient(problem(network()), RTRL(device="cuda", dtype="float32"), solver="rk4", dt=0.1)


def test_a_solution_that_ends():
    """The last good time and state are those of the compiled kernels; so is the limit of steps."""
    explosion = Problem(Equations({"r": "r**2"}), [1.0], (0.0, 3.0), objective=Objective(target=0.0, at=[3.0]))
    errors = []
    for method in ("adjoint", *ON_CPU):
        with pytest.raises(DivergenceError) as caught:
            gradient(explosion, method, solver="rk4", dt=0.1)
        errors.append(caught.value)
    assert all(error.t == pytest.approx(errors[0].t) for error in errors)
    np.testing.assert_allclose(errors[1].r, errors[0].r, rtol=1e-9)
    with pytest.raises(TooManyStepsError):
        gradient(problem(network()), ON_CPU[0], solver="rk4", dt=0.01, max_steps=100)


class Allocated(TorchDispatchMode):
    """The bytes of the tensors that are alive, at most, as each operation leaves them."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        out = op(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, torch.Tensor):
                reference = StorageWeakRef(value.untyped_storage())
                self.alive[reference.cdata] = reference, value.untyped_storage().nbytes()
        self.alive = {key: pair for key, pair in self.alive.items() if not pair[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("n", "nx", "train_tau", "piece"), [(40, 2, False, 100), (40, 0, True, 2), (56, 1, False, 1)])
def test_memory_is_as_counted(monkeypatch, n, nx, train_tau, piece, dtype):
    """The formula bounds what is allocated and is at most a quarter above it, whether for 24 steps or for 48."""
    item = np.dtype(dtype).itemsize
    monkeypatch.setattr(carry, "SMALL", item * 4 * n * (n + 1) * piece)
    monkeypatch.setattr(carry, "LARGE", 0)
    monkeypatch.setattr(carry, "PIECE", 1e9)
    monkeypatch.setattr(graph, "CHUNK_BYTES", 2**14)
    field = RateNetwork(n, inputs=nx, train_tau=train_tau, seed=0)
    plan = carry.plan_for(n, n + nx + 1, 4, 24, item, block=12)
    assert plan == carry.Plan(12, min(piece, 12))
    bound, peaks = carry.peak_bytes(structure.size_of(field), 4, plan, item), []
    for steps in (24, 48):
        one = Problem(field, np.ones(n), (0.0, 0.05 * steps), objective=Objective(target=0.1, at=[0.05 * steps]))
        with Allocated() as counted:
            gradient(one, RTRL(block=12, dtype=dtype), solver="rk4", dt=0.05)
        peaks.append(counted.peak)
    assert peaks[0] == peaks[1]
    assert 0.75 * bound < peaks[0] <= bound


def test_2048_units_fit_into_80_gigabytes():
    """4.2 million weights: P takes 68.8 GB in float64, all together 77.6, in blocks long enough for Φ P to cost less
    than the rest."""
    n, steps = 2048, 10_000
    plan = carry.plan_for(n, n + 1, 4, steps, 8)
    assert 8 * n * (n + 1) * (n + 1) == pytest.approx(68.8e9, rel=1e-3)
    size = structure.size_of(RateNetwork(n, seed=0))
    assert size.entries == n * (n + 1)
    assert carry.peak_bytes(size, 4, plan, 8) == pytest.approx(77.6e9, rel=1e-3)
    assert plan.piece < plan.block
    assert n / (2 * 4 * plan.block) < 0.2  # Φ P, 2n⁴/K a step, against the rest, 16n³ and more


def test_too_large_for_the_device(monkeypatch):
    """An error with both numbers before anything is allocated."""
    monkeypatch.setattr(Device, "free", 1e4)
    with pytest.raises(UsageError, match=r"0\.0 GB free.*allowed: .* GB, for RTRL of 7 units"):
        gradient(problem(network()), ON_CPU[1], solver="rk4", dt=0.1)


@pytest.mark.parametrize(
    "method", [Adjoint(device="cuda"), RTRL(5, device="cuda", dtype="float32")], ids=lambda m: m.name
)
def test_no_tensor_is_left_behind(monkeypatch, method):
    """Without a CUDA device: on torch's "meta" device, which refuses a tensor of the host beside one of its own, every
    operation finds all it
    takes over there and in the dtype asked for. Values are made up."""
    seen = set()

    def made_up(tensor):
        seen.add((tensor.device.type, str(tensor.dtype)))
        return np.ones(tuple(tensor.shape))

    there = {"device": torch.device("meta"), "dtype": getattr(torch, method.torch_device.dtype)}
    monkeypatch.setattr(Device, "options", there)
    monkeypatch.setattr(Device, "free", np.inf)
    monkeypatch.setattr(Device, "tensor", lambda self, array: torch.empty(np.shape(array), **there))
    monkeypatch.setattr(carry, "SMALL", 4 * 4 * N * (N + 1) * 3)  # two sweeps
    monkeypatch.setattr(carry, "LARGE", 0)
    for module in (carry, fields, graph, recording):
        monkeypatch.setattr(module, "to_numpy", made_up)
    equations = Equations({"q": "-d*q + cos(t)"}, parameters={"d": 0.3})
    problems = [problem(network("rate", mask=MASK, train_tau=True), name) for name in list(OBJECTIVES)[1:3]]
    problems.append(Problem(equations, [1.0], (0.0, 3.0), objective=Objective(target=0.1, at=[3.0])))
    for one in problems:
        with FakeTensorMode():
            gradient(one, method, solver="rk4", dt=0.4)
    assert seen == {("meta", f"torch.{method.torch_device.dtype}")}


@cuda
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-12), ("float32", 1e-4)])
def test_cuda(dtype, bound):
    """As on the CPU."""
    agree(
        problem(network(train_tau=True)),
        [Adjoint(device="cuda", dtype=dtype), RTRL(device="cuda", dtype=dtype)],
        bound=bound,
    )


@cuda
def test_cuda_memory():
    """What torch's allocator held at most is what the formula says, to a quarter."""
    n, steps = 256, 200
    torch.cuda.reset_peak_memory_stats()
    one = Problem(RateNetwork(n, seed=0), np.ones(n), (0.0, 10.0), objective=Objective(target=0.1, at=[10.0]))
    gradient(one, RTRL(device="cuda"), solver="rk4", dt=0.05)
    bound = carry.peak_bytes(structure.size_of(one.field), 4, carry.plan_for(n, n + 1, 4, steps, 8), 8)
    assert torch.cuda.max_memory_allocated() < 1.25 * bound
