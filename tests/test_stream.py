"""RTRL as the data come: pieces give what the whole problem gives, to 1e-12, and a saved stream goes on bit for bit.

References: ``gradient`` by the adjoint on one problem with all the data, an independent route through the same steps.
"""

import copy
import json
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from scenarios import driven, hare_lynx, jumping_inputs, linear_readout, lotka_volterra, softmax_readout, state_network

import ctrnn
from ctrnn import (
    Equations,
    Objective,
    Problem,
    RateNetwork,
    Readout,
    RTRLStream,
    TorchField,
    gradient,
    inputs,
    sensitivities,
)
from ctrnn.errors import DivergenceError, UnknownNameError, UsageError

FIXED = {"solver": "rk4", "dt": 0.05}
ADAPTIVE = {"solver": "tsit5", "rtol": 1e-6, "atol": 1e-8}
TIMES = [0.0, 0.45, 0.7531, 1.3, 2.0]
CUTS = [0.45, 0.7531, 1.3, 2.0]


def flat(g):
    readout = [] if g.readout is None else [g.readout["V"].ravel(), g.readout["c"]]
    return np.concatenate([[g.loss], g.vector, g.r0, *readout])


def distance(a, b):
    return np.linalg.norm(flat(a) - flat(b)) / np.linalg.norm(flat(b))


def stream_of(problem, how, **options):
    return RTRLStream(problem.field, problem.r0, problem.t_span[0], **how, **options)


def through(stream, problem, cuts, targets, weights=None):
    """Pieces that end at ``cuts``, each with the observation there, and the first with that at t0."""
    for k, until in enumerate(cuts):
        here = [k + 1] if k else [0, 1]
        stream.advance(
            until=until, x=problem.x, target=targets[here], at=[([0.0] + list(cuts))[i] for i in here],
            weight=1.0 if weights is None else weights[here],
        )  # fmt: skip


# --- pieces and the whole


@pytest.mark.parametrize(
    "how", [FIXED, ADAPTIVE, {"solver": "bs3", "rtol": 1e-5}, {"solver": "heun", "dt": 0.013}], ids=str
)
@pytest.mark.parametrize("make", [driven, state_network], ids=["equations", "network"])
@pytest.mark.parametrize("block", [None, 1, 7])
def test_pieces_give_the_gradient_of_the_whole_to_1e12(make, how, block):
    """x jumps at a cut and between cuts; t0 is observed; weights differ."""
    rng = np.random.default_rng(1)
    bare = driven(None, jumping_inputs()) if make is driven else state_network()
    targets, weights = rng.normal(size=(5, bare.field.n)), np.array([0.5, 1.0, 2.0, 0.25, 1.5])
    whole = bare.replace(objective=Objective(target=targets, at=TIMES, weight=weights))
    stream = stream_of(bare, how, block=block)
    through(stream, bare, CUTS, targets, weights)
    exact = gradient(whole, "adjoint", **how)
    assert stream.t == 2.0 and np.linalg.norm(exact.vector) > 0.1
    assert distance(stream.gradient(), exact) < 1e-12
    assert distance(stream.gradient(), gradient(whole, "rtrl", **how)) < 1e-12
    assert stream.stats.steps == exact.stats.steps and stream.stats.rejected == exact.stats.rejected


@pytest.mark.parametrize("how", [FIXED, ADAPTIVE], ids=["fixed", "adaptive"])
def test_the_gradient_is_right_at_every_moment(how):
    """After each piece it is that of the problem that ends there, and p is that of the sensitivity equation."""
    bare = state_network()
    targets = np.random.default_rng(2).normal(size=(5, 2))
    readout = linear_readout(5)
    stream = stream_of(bare, how, readout=readout)
    assert stream.gradient().loss == 0.0 and not stream.gradient().vector.any()
    assert not stream.p.any() and np.array_equal(stream.p0, np.eye(5))
    for k, until in enumerate(CUTS):
        here = [0, 1] if k == 0 else [k + 1]
        before = stream.loss
        added = stream.advance(until=until, x=bare.x, target=targets[here], at=np.array(TIMES)[here])
        objective = Objective(target=targets[: k + 2], at=TIMES[: k + 2], readout=readout)
        exact = gradient(bare.replace(t_span=(0.0, until), objective=objective), "adjoint", **how)
        assert distance(stream.gradient(), exact) < 1e-12
        assert stream.loss == pytest.approx(before + added, rel=1e-15)
        assert set(stream.gradient().readout) == {"V", "c"} and np.linalg.norm(stream.gradient().readout["V"]) > 0.1
    if "dt" in how:  # a step of the sensitivity equation is the derivative of the step
        s = sensitivities(bare, [*CUTS], **how)
        assert np.allclose(stream.p, s.p[-1], rtol=1e-12, atol=1e-13)
        assert np.allclose(stream.p0, s.p0[-1], rtol=1e-12, atol=1e-13)
        assert np.array_equal(stream.r, s.r[-1]) or np.allclose(stream.r, s.r[-1], rtol=1e-14)


@pytest.mark.parametrize("cuts", [[2.0], [0.3717, 2.0], [0.5, 0.75, 1.0, 2.0]], ids=str)
def test_integral_losses(cuts):
    """∫ a(t) ½‖o − y‖² dt with a weight that changes; the fixed grid goes on over cuts at a jump and on the grid."""
    bare, weight = driven(None, jumping_inputs()), inputs.Sine(0.4, amplitude=0.5, offset=1.0)
    target = inputs.stack(inputs.Sine(0.2), inputs.Sine(0.3))
    whole = bare.replace(objective=Objective(target=target, weight=weight, readout=["z", "u"]))
    stream = stream_of(bare, FIXED, readout=["z", "u"])
    for until in cuts:
        stream.advance(until=until, x=bare.x, target=target, weight=weight)
    assert distance(stream.gradient(), gradient(whole, "adjoint", **FIXED)) < 1e-12


def test_integral_losses_with_adaptive_steps():
    """In one piece to 1e-12; in several the tolerance of the integral is another one: to the tolerance."""
    bare = state_network()
    whole = bare.replace(objective=Objective(target=0.3))
    exact = gradient(whole, "adjoint", **ADAPTIVE)
    one, many = stream_of(bare, ADAPTIVE), stream_of(bare, ADAPTIVE)
    one.advance(until=2.0, x=bare.x, target=0.3)
    assert distance(one.gradient(), exact) < 1e-12
    for until in CUTS:
        many.advance(until=until, x=bare.x, target=0.3)
    tight = gradient(whole, "adjoint", solver="dop853", rtol=1e-12, atol=1e-13)
    assert distance(many.gradient(), tight) < 1e-4


def test_integral_and_observed_pieces_take_turns():
    bare = state_network()
    for how, digits in ((FIXED, 1e-12), ({"solver": "tsit5", "rtol": 1e-10, "atol": 1e-12}, 1e-8)):
        stream = stream_of(bare, how)
        stream.advance(until=0.7531, x=bare.x, target=0.3)
        stream.advance(until=2.0, x=bare.x, target=0.1, at=[1.3, 2.0])
        window = Objective(target=0.3, weight=1.0 + -1.0 * inputs.Step(0.7531))
        first = gradient(bare.replace(objective=window), "adjoint", **how)
        second = gradient(bare.replace(objective=Objective(target=0.1, at=[1.3, 2.0])), "adjoint", **how)
        wanted = flat(first) + flat(second)
        assert np.linalg.norm(flat(stream.gradient()) - wanted) < digits * np.linalg.norm(wanted)


@pytest.mark.parametrize("loss", ["prey**2 + pred", lambda o: (o**2).sum()], ids=["expression", "callable"])
def test_losses_without_a_target(loss):
    bare = lotka_volterra(None)
    stream = stream_of(bare, ADAPTIVE, loss=loss)
    stream.advance(until=1.5, at=[0.0, 1.5])
    stream.advance(until=4.0, at=[4.0])
    exact = gradient(bare.replace(objective=Objective(loss, at=[0.0, 1.5, 4.0])), "adjoint", **ADAPTIVE)
    assert distance(stream.gradient(), exact) < 1e-12


def test_a_loss_with_a_target_written_in_torch():
    def loss(o, y):
        return ((o - y) ** 4).sum()

    bare = lotka_volterra(None)
    stream = stream_of(bare, ADAPTIVE, loss=loss)
    stream.advance(until=1.0)  # no target, no loss
    assert stream.loss == 0.0
    stream.advance(until=4.0, target=[[1.0, 2.0]], at=[4.0])
    exact = gradient(bare.replace(objective=Objective(loss, [[1.0, 2.0]], at=[4.0])), "adjoint", **ADAPTIVE)
    # the cut at 1 is on no step of the whole problem: to the tolerance
    assert distance(stream.gradient(), exact) < 1e-4


def test_pieces_without_targets_carry_the_sensitivities_on():
    """Classes by a softmax read-out at the end only; on a grid, cuts without observations change no step."""
    field = RateNetwork(4, inputs=2, gain=1.5, seed=4)
    x = inputs.Sampled([0.0, 0.5, 1.0, 1.5], np.random.default_rng(3).normal(size=(4, 2)))
    readout, r0 = softmax_readout(4), np.array([0.1, -0.2, 0.3, 0.0])
    stream = RTRLStream(field, r0, readout=readout, loss="cross_entropy", **FIXED)
    for k in range(3):  # a plain array is held for the piece
        assert stream.advance(until=0.5 * (k + 1), x=x.values[k]) == 0.0
    stream.advance(until=2.0, x=x.values[3], target=[[0.0, 1.0, 0.0]], at=[2.0])
    objective = Objective("cross_entropy", [[0.0, 1.0, 0.0]], at=[2.0], readout=readout)
    exact = gradient(Problem(field, r0, (0.0, 2.0), x=x, objective=objective), "adjoint", **FIXED)
    assert distance(stream.gradient(), exact) < 1e-12


def test_implicit_steps():
    """With fixed steps Newton is solved to round-off: 1e-9; with adaptive ones to a part of the tolerance."""
    bare = driven(None, jumping_inputs())
    targets = np.random.default_rng(5).normal(size=(5, 3))
    whole = bare.replace(objective=Objective(target=targets, at=TIMES))
    for how, digits in (
        ({"solver": "kvaerno5", "dt": 0.05}, 1e-9),
        ({"solver": "kencarp4", "rtol": 1e-8, "atol": 1e-10}, 1e-7),
    ):
        stream = stream_of(bare, how)
        through(stream, bare, CUTS, targets)
        assert distance(stream.gradient(), gradient(whole, "adjoint", **how)) < digits


def test_data_as_they_come_hare_and_lynx():
    whole = hare_lynx()
    targets = whole.objective.targets
    # the stream does not know what comes, and would take finer steps for the sake of P
    how = {"rtol": 1e-8, "atol": 1e-6, "solver": "dopri5", "error_control": "state"}
    stream = RTRLStream(whole.field, whole.r0, **how)
    for year in range(1, len(targets)):
        stream.advance(until=float(year), target=targets[year : year + 1], at=[float(year)])
    assert distance(stream.gradient(), gradient(whole, "adjoint", **how)) < 1e-12  # 1900 adds 0: r0 is the data


def test_an_observation_on_a_border_belongs_to_the_piece_that_names_it():
    bare = lotka_volterra(None)
    early, late = (stream_of(bare, FIXED) for _ in range(2))
    early.advance(until=1.0, target=5.0, at=[1.0])
    early.advance(until=2.0)
    late.advance(until=1.0)
    late.advance(until=2.0, target=5.0, at=[1.0])
    assert distance(late.gradient(), early.gradient()) < 1e-14 and early.loss > 0.1


def test_memory_is_constant():
    stream = RTRLStream(RateNetwork(40, inputs=1, seed=0), np.zeros(40), dt=0.1)

    def peak(pieces):
        tracemalloc.start()
        try:
            for _ in range(pieces):
                stream.advance(until=stream.t + 1.0, x=0.3, target=0.1)
            return tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    peak(3)
    few, many = peak(5), peak(100)
    assert few[1] > 8 * 40 * 40 * 43  # P at least
    assert many[1] < 1.1 * few[1]


# --- learning on the way


def test_update_keeps_the_sensitivities_and_changes_what_follows():
    bare = state_network()
    a, b = stream_of(bare, FIXED, readout=linear_readout(5)), stream_of(bare, FIXED, readout=linear_readout(5))
    for stream in (a, b):
        stream.advance(until=1.0, x=bare.x, target=[0.1, 0.2], at=[1.0])
    p = b.p
    b.update({"W": 0.5 * bare.field.parameters["W"]}, readout=Readout(np.ones((2, 5)), 0.0))
    assert np.array_equal(b.p, p) and b.loss == a.loss
    assert np.array_equal(b.field.parameters["W"], 0.5 * bare.field.parameters["W"])
    for stream in (a, b):
        stream.clear()
        assert stream.loss == 0.0 and not stream.gradient().vector.any() and stream.p.any()
        stream.advance(until=2.0, x=bare.x, target=[0.1, 0.2], at=[2.0])
    # g = a ∂ℓ/∂r P with the sensitivities that were carried on under the new weights
    part = bare.replace(field=b.field, r0=a.r, t_span=(1.0, 2.0))
    assert distance(a.gradient(), b.gradient()) > 0.1
    start = stream_of(bare, FIXED)
    start.advance(until=1.0, x=bare.x)
    s = sensitivities(part.replace(r0=start.r), [2.0], **FIXED)
    e = np.ones((2, 5)) @ b.r - np.array([0.1, 0.2])
    assert np.allclose(b.r, s.r[0], rtol=1e-13)
    assert np.allclose(b.gradient().vector, e @ np.ones((2, 5)) @ (s.p0[0] @ p + s.p[0]), rtol=1e-11, atol=1e-13)


def test_online_learning_lowers_the_loss():
    field = RateNetwork(12, inputs=1, gain=1.2, seed=1)
    stream = RTRLStream(field, np.zeros(12), dt=0.05, readout=Readout(np.full((1, 12), 0.1)))
    losses = []
    for _ in range(150):
        until = stream.t + 0.5
        target, drive = inputs.Sine(0.2, amplitude=0.8), inputs.Sine(0.2, phase=0.7)
        losses.append(stream.advance(until=until, x=drive, target=target))
        g = stream.gradient()
        stream.update(
            {name: value - 0.05 * g.parameters[name] for name, value in stream.field.parameters.items()},
            Readout(stream.readout.V - 0.05 * g.readout["V"], stream.readout.c - 0.05 * g.readout["c"]),
        )
        stream.clear()
    assert np.mean(losses[-20:]) < 0.2 * np.mean(losses[:20])


# --- to disk and back


def go_on(stream, x):
    for until in (1.1, 1.4, 2.0):
        stream.advance(until=until, x=x, target=0.2, at=[until])


@pytest.mark.parametrize(
    "how", [FIXED, ADAPTIVE, {"solver": "dop853", "rtol": 1e-7}], ids=["fixed", "adaptive", "dop853"]
)
@pytest.mark.parametrize("make", ["equations", "network", "readout"])
def test_a_loaded_stream_goes_on_bit_for_bit(make, how, tmp_path):
    bare = driven(None, jumping_inputs()) if make == "equations" else state_network(dale=None)
    options = {"readout": linear_readout(5)} if make == "readout" else {"readout": ["z"]} if make == "equations" else {}
    stream = stream_of(bare, how, block=5, **options)
    stream.advance(until=0.6, x=bare.x, target=0.1, at=[0.0, 0.45])
    stream.save(tmp_path / "stream.npz")
    assert [f.name for f in tmp_path.iterdir()] == ["stream.npz"]
    twin = RTRLStream.load(tmp_path / "stream.npz")
    assert twin.stats == stream.stats and repr(twin) == repr(stream)
    go_on(stream, bare.x)
    go_on(twin, bare.x)
    assert flat(twin.gradient()).tobytes() == flat(stream.gradient()).tobytes()
    for name in ("r", "p", "p0"):
        assert getattr(twin, name).tobytes() == getattr(stream, name).tobytes()
    assert twin.stats.steps == stream.stats.steps and twin.stats.evaluations == stream.stats.evaluations


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copied_stream_goes_on_bit_for_bit_and_by_itself(copied):
    bare = driven(None, jumping_inputs())
    stream, alone = (stream_of(bare, ADAPTIVE, block=5, readout=["z"]) for _ in range(2))
    for one in (stream, alone):
        one.advance(until=0.6, x=bare.x, target=0.1, at=[0.0, 0.45])
    twin = copied(stream)
    assert twin.stats == stream.stats and repr(twin) == repr(stream)
    go_on(twin, bare.x)
    go_on(stream, bare.x)  # the twin has moved, the stream has not
    go_on(alone, bare.x)
    for one in (stream, twin):
        assert flat(one.gradient()).tobytes() == flat(alone.gradient()).tobytes()


def test_a_stream_can_be_saved_before_its_first_piece_and_after_an_integral(tmp_path):
    bare = state_network()
    stream = stream_of(bare, ADAPTIVE)
    stream.save(tmp_path / "a")  # any name
    stream = RTRLStream.load(tmp_path / "a")
    stream.advance(until=1.0, x=bare.x, target=0.3)
    stream.save(tmp_path / "a")
    twin = RTRLStream.load(tmp_path / "a")
    for one in (stream, twin):
        one.advance(until=2.0, x=bare.x, target=0.3, at=[1.5])
    assert flat(twin.gradient()).tobytes() == flat(stream.gradient()).tobytes()


def test_a_field_and_a_loss_in_python_are_given_again(tmp_path):
    field = TorchField(lambda t, r, w, x: -r + torch.tanh(w["A"] @ r), n=2, parameters={"A": [[0.1, 1.0], [-1.0, 0.0]]})

    def loss(o):
        return (o**2).sum()

    stream = RTRLStream(field, [1.0, 0.5], loss=loss, **FIXED)
    stream.advance(until=0.5, at=[0.5])
    stream.update({"A": [[0.2, 1.0], [-1.0, 0.0]]})
    stream.save(tmp_path / "s.npz")
    with pytest.raises(UsageError, match="field"):
        RTRLStream.load(tmp_path / "s.npz", loss=loss)
    with pytest.raises(UsageError, match="loss"):
        RTRLStream.load(tmp_path / "s.npz", field=field)
    with pytest.raises(UsageError, match="parameters, A"):
        RTRLStream.load(tmp_path / "s.npz", field=Equations({"r": "-k*r"}, {"k": 1.0}), loss=loss)
    twin = RTRLStream.load(tmp_path / "s.npz", field=field, loss=loss)
    assert twin.field.parameters["A"][0, 0] == 0.2  # the file's parameters, not the field's
    for one in (stream, twin):
        one.advance(until=1.0, at=[1.0])
    assert flat(twin.gradient()).tobytes() == flat(stream.gradient()).tobytes()


def test_files_that_are_no_streams(tmp_path):
    (tmp_path / "text").write_text("hello")
    np.savez(tmp_path / "other.npz", a=1)
    np.savez(tmp_path / "newer.npz", text='{"format": "ctrnn RTRLStream 99"}')
    for name in ("text", "other.npz", "absent.npz", "newer.npz"):
        with pytest.raises(UsageError, match="path"):
            RTRLStream.load(tmp_path / name)
    with pytest.raises(UsageError, match="path"):
        RTRLStream(RateNetwork(2, seed=0), [0.0, 0.0], dt=0.1).save(tmp_path / "no" / "folder.npz")


@pytest.mark.parametrize("left_out", ["G", "r", "times", "rtol", "memory 3"])
def test_a_file_without_all_its_parts_is_no_stream(tmp_path, left_out):
    stream = RTRLStream(RateNetwork(2, inputs=1, seed=0), [0.0, 0.0], dt=0.1)
    stream.advance(1.0, x=0.3)
    stream.save(tmp_path / "s.npz")
    parts = dict(np.load(tmp_path / "s.npz"))
    del parts[left_out]
    np.savez(tmp_path / "s.npz", **parts)
    with pytest.raises(UsageError, match="path"):
        RTRLStream.load(tmp_path / "s.npz")


def test_a_stream_of_independent_units_is_not_loaded_into_a_field_that_couples_them(tmp_path):
    stream = RTRLStream(RateNetwork(3, seed=0, mask=np.eye(3)), np.zeros(3), dt=0.1)
    stream.advance(1.0, target=0.2)
    stream.save(tmp_path / "s.npz")
    with pytest.raises(UsageError, match="the same connections"):
        RTRLStream.load(tmp_path / "s.npz", field=RateNetwork(3, seed=0))


# --- what does not fit


def test_arguments():
    field = RateNetwork(2, inputs=1, seed=0)
    for options, name in (
        ({"dt": None}, "dt"),
        ({"dt": -1.0}, "dt"),
        ({"dt": 0.1, "solver": "scipy:RK45"}, "solver"),
        ({"dt": 0.1, "block": 0}, "block"),
        ({"dt": 0.1, "t0": np.nan}, "t0"),
        ({"dt": 0.1, "readout": Readout(np.ones((1, 3)))}, "readout"),
        ({"dt": 0.1, "loss": "cross_entropy"}, "readout"),
    ):
        with pytest.raises(UsageError, match=name):
            RTRLStream(field, [0.0, 0.0], **options)
    with pytest.raises(UsageError, match="r0"):
        RTRLStream(field, [0.0, 0.0, 0.0], dt=0.1)
    with pytest.raises(UsageError, match="field"):
        RTRLStream("network", [0.0], dt=0.1)


def test_pieces_that_do_not_fit_leave_the_stream_as_it_was():
    stream = RTRLStream(RateNetwork(2, inputs=1, seed=0), [0.1, 0.2], dt=0.1)
    stream.advance(until=1.0, x=0.5, target=0.0, at=[1.0])
    before = (stream.t, stream.r.tobytes(), flat(stream.gradient()).tobytes(), stream.p.tobytes())
    for piece, name in (
        ({"until": 1.0}, "until"),
        ({"until": 0.5}, "until"),
        ({"until": np.inf}, "until"),
        ({"until": 2.0, "x": [1.0, 2.0]}, "x"),
        ({"until": 2.0, "x": np.nan}, "input"),
        ({"until": 2.0, "at": [1.5]}, "target"),
        ({"until": 2.0, "target": 0.0, "at": [2.5]}, "at"),
        ({"until": 2.0, "target": 0.0, "at": [0.5]}, "at"),
        ({"until": 2.0, "target": [[1.0, 2.0, 3.0]], "at": [2.0]}, "target"),
        ({"until": 9.0, "x": inputs.Sampled([0.0, 2.0], [0.0, 1.0], kind="linear")}, "x"),
    ):
        with pytest.raises(UsageError, match=name):
            stream.advance(**piece)
    assert (stream.t, stream.r.tobytes(), flat(stream.gradient()).tobytes(), stream.p.tobytes()) == before
    with pytest.raises(UnknownNameError, match="V"):
        stream.update({"V": 1.0})
    with pytest.raises(UsageError, match="readout"):
        stream.update(readout=Readout(np.ones((1, 2))))


def test_a_solution_that_ends_leaves_the_stream_as_it_was():
    stream = RTRLStream(Equations({"r": "k*r**2"}, {"k": 1.0}), [1.0], solver="tsit5")
    stream.advance(until=0.9, target=0.0, at=[0.9])
    before = (stream.t, stream.loss, stream.p.tobytes())
    with pytest.raises((DivergenceError, ctrnn.errors.StepUnderflowError)):
        stream.advance(until=1.5)  # r = 1/(1 − t)
    assert (stream.t, stream.loss, stream.p.tobytes()) == before
    stream.advance(until=0.95)
    assert stream.r[0] == pytest.approx(20.0, rel=1e-6)


def test_a_stream_of_array_equations_is_loaded_as_it_was(tmp_path):
    """With states and inputs that are arrays, a definition, a constant and a mask."""
    rng = np.random.default_rng(0)
    field = ctrnn.Equations(
        {"r": "(-r + W @ s + U @ x)/tau"},
        parameters={"W": np.diag(rng.normal(size=3)), "U": rng.normal(size=(3, 2))},
        states={"r": 3},
        inputs={"x": 2},
        definitions={"s": "tanh(r)"},
        constants={"tau": 0.7},
        masks={"W": np.eye(3)},
    )
    stream = ctrnn.RTRLStream(field, rng.normal(size=3), dt=0.1)
    stream.advance(1.0, x=[0.3, -0.2], target=0.1, at=[1.0])
    stream.save(tmp_path / "stream.npz")
    twin = ctrnn.RTRLStream.load(tmp_path / "stream.npz")
    assert repr(twin.field) == repr(field) and np.array_equal(twin.field.masks["W"], field.masks["W"])
    for one in (stream, twin):
        one.advance(2.0, x=[0.1, 0.5], target=0.2, at=[2.0])
    assert twin.gradient().vector.tobytes() == stream.gradient().vector.tobytes()


def _saved(tmp_path, solver):
    options = {"dt": 0.1} if solver == "rk4" else {}
    stream = RTRLStream(RateNetwork(3, inputs=1, seed=0), [0.1, 0.2, 0.3], solver=solver, **options)
    stream.advance(until=1.0, x=0.1, target=[0.1, 0.2, 0.3], at=[1.0])
    stream.save(tmp_path / "s.npz")
    return stream, dict(np.load(tmp_path / "s.npz"))


@pytest.mark.parametrize("solver", ["rk4", "tsit5", "kvaerno5"])
def test_a_file_that_somebody_has_changed_is_refused_or_is_what_it_was(tmp_path, solver):
    """Each array of it longer, shorter, of another kind, or not finite; each text of another type."""
    _, parts = _saved(tmp_path, solver)
    changes = {
        "longer": lambda a: np.concatenate([a.ravel(), a.ravel()[:1]]) if a.size else np.ones(3),
        "empty": lambda a: np.empty(0),
        "another kind": lambda a: a.astype(np.complex128) if a.dtype.kind != "U" else np.array(3),
        "text": lambda a: np.array("abc"),
        "NaN": lambda a: np.full(a.shape, np.nan),
        "huge": lambda a: (
            np.full(a.shape, 2**31 - 1, dtype=a.dtype) if a.dtype.kind == "i" else np.full(a.shape, -np.inf)
        ),
    }
    refused = 0
    for name, value in parts.items():
        for kind, change in changes.items():
            if value.dtype.kind == "U" and kind != "text":
                continue
            if not value.size and kind in ("empty", "NaN", "huge", "another kind"):
                continue  # still as empty, or of no consequence
            np.savez(tmp_path / "changed.npz", **(parts | {name: change(value)}))
            with pytest.raises(UsageError):
                RTRLStream.load(tmp_path / "changed.npz")
            refused += 1
    assert refused > 60


def test_texts_of_other_types_are_refused(tmp_path):
    _, parts = _saved(tmp_path, "tsit5")
    text = json.loads(str(parts["text"]))
    wrong = [None, 3, "x", [], {}, [1], [[]], {"a": 1}, 1e400, -1]
    for key, value in text.items():
        for other in wrong:
            if other == value or (key, other) in (
                ("readout", None),
                ("block", None),
                ("activation", None),
                ("block", 3),
            ):
                continue
            if key == "format" and isinstance(other, str):
                continue
            np.savez(tmp_path / "t.npz", **(parts | {"text": np.array(json.dumps(text | {key: other}))}))
            with pytest.raises(UsageError):
                RTRLStream.load(tmp_path / "t.npz")
    for whole in ("[]", "3", "{", "null", '{"format": 3}', json.dumps({"format": text["format"]})):
        np.savez(tmp_path / "t.npz", **(parts | {"text": np.array(whole)}))
        with pytest.raises(UsageError):
            RTRLStream.load(tmp_path / "t.npz")


def test_bytes_that_are_wrong_or_lacking_are_refused_or_harmless(tmp_path):
    stream, _ = _saved(tmp_path, "tsit5")
    whole = (tmp_path / "s.npz").read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(whole)
        damaged[random.integers(len(damaged))] ^= int(random.integers(1, 256))
        if random.random() < 0.3:
            damaged = damaged[: random.integers(len(damaged))]
        (tmp_path / "d.npz").write_bytes(damaged)
        try:
            twin = RTRLStream.load(tmp_path / "d.npz")
        except UsageError:
            continue
        assert twin.t == stream.t and np.array_equal(twin.p, stream.p)
    with pytest.raises(UsageError, match="no such file"):
        RTRLStream.load(tmp_path / "nothing.npz")


def test_a_file_keeps_what_the_steps_answer_for(tmp_path):
    """At rest the two kinds of steps differ: a stream that forgot would go on with the others."""
    leak = Equations({"r": "-k*r + I"}, {"k": 1.0, "I": 1.0})
    found = {}
    for control in ("state", "all"):
        stream = RTRLStream(leak, [1.0], solver="tsit5", error_control=control)
        stream.advance(until=1.0)
        stream.save(tmp_path / "stream.npz")
        loaded = RTRLStream.load(tmp_path / "stream.npz")
        assert loaded.settings.error_control == control
        for one in (stream, loaded):
            one.advance(until=20.0, target=0.0, at=[20.0])
        assert (loaded.p == stream.p).all()
        found[control] = loaded.p
    assert not np.allclose(found["state"], found["all"], rtol=1e-3)
