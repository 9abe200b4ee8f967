"""Every network by its kind in an experiment file."""

from __future__ import annotations

import numpy as np
import pytest

import ctrnn
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.locate import LocatedError

NETWORKS = {
    "rate_network": (
        "rank = 2\ntau = [1.0, 2.0, 3.0]",
        ctrnn.RateNetwork,
        {"rank": 2, "tau": np.array([1.0, 2.0, 3.0])},
    ),
    "gru_network": ('reset = "before"\ntrain_tau = true', ctrnn.GRUNetwork, {"reset": "before", "train_tau": True}),
    "lstm_network": ("tau = 0.5", ctrnn.LSTMNetwork, {"tau": 0.5}),
    "liquid_network": ("gain = 0.7", ctrnn.LiquidNetwork, {"gain": 0.7}),
    "linear_network": ("", ctrnn.LinearNetwork, {}),
    "mlp": ('hidden = [8]\nactivation = "softplus"', ctrnn.MLPField, {"hidden": [8], "activation": "softplus"}),
}
DRIVE = "[[inputs]]\nkind = 'constant'\nvalues = [0.5]"


@pytest.fixture
def load(tmp_path):
    def write(lines, after=""):
        path = tmp_path / "x.toml"
        path.write_text(f"[field]\n{lines}\n[problem]\nr0 = 0.1\nt_span = [0.0, 1.0]\n{after}", encoding="utf-8")
        return Experiment(path)

    return write


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_a_network_from_a_file_is_that_of_its_class(load, kind: str) -> None:
    lines, network, options = NETWORKS[kind]
    experiment = load(f'kind = "{kind}"\nn = 3\ninputs = 1\nseed = 4\n{lines}', DRIVE)
    expected = network(3, inputs=1, seed=4, **options)
    assert type(experiment.field) is type(expected)
    assert experiment.field.parameters.keys() == expected.parameters.keys()
    for name, value in expected.parameters.items():
        assert np.array_equal(experiment.field.parameters[name], value)
    found, right = (
        ctrnn.simulate(p, save_at=[1.0]).r
        for p in (experiment.problem, ctrnn.Problem(expected, np.full(expected.n, 0.1), (0.0, 1.0), x=0.5))
    )
    assert np.array_equal(found, right)


def test_masks_and_weights_come_from_wherever_arrays_do(load, tmp_path) -> None:
    U = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "weights.npz", U=U)
    drawn = "{ random = 'bernoulli', scale = 0.5, shape = [3, 3], seed = 3 }"
    rate = load(f"kind = 'rate_network'\nn = 3\ninputs = 2\nmask = {drawn}\nparameters.U = {{ file = 'weights.npz' }}")
    mask = np.random.default_rng(3).random((3, 3)) < 0.5
    assert np.array_equal(rate.field.parameters["W"] != 0.0, mask)
    assert np.array_equal(rate.field.parameters["U"], U)
    linear = load(f"kind = 'linear_network'\nn = 3\nmasks.A = {drawn}")
    assert np.array_equal(linear.field.parameters["A"] != 0.0, mask)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("kind = 'gru'\nn = 3", "gru_network"),
        ("kind = 'gru_network'\nn = 3\ngain = 2.0", "gain"),
        ("kind = 'lstm_network'\nn = 3\nmasks.V = [[1, 0, 1]]", "masks"),
        ("kind = 'mlp'\nn = 3\nhidden = []", "hidden"),
        ("kind = 'rate_network'\nn = 3\nrank = 0", "rank"),
        ("kind = 'rate_network'\nn = 3\nmask = { file = 'no.npz' }", "no.npz"),
        ("kind = 'gru_network'\nn = 3\nparameters.Q = 1.0", "Q"),
    ],
)
def test_a_fault_names_its_key(load, lines: str, says: str) -> None:
    with pytest.raises(LocatedError, match=says):
        _ = load(lines).problem
