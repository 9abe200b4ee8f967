"""Array equations in experiment files: arrays written out, from files, drawn; states, definitions, constants, masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctrnn.errors import UsageError
from ctrnn.experiment.build import Experiment

TEXT = """
[field]
kind = "equations"
states = {r = 4, P = [4, 4]}
inputs = {x = 2}

[field.equations]
r = "(-r + (W*g + P) @ s + U @ x + b)/tau"
P = "eta*(outer(s, s) - P)"

[field.definitions]
s = "tanh(r)"

[field.parameters]
W = {random = "normal", scale = 0.5, shape = [4, 4], seed = 3}
U = {file = "weights.npz"}
b = {fill = 0.25, shape = 4}
eta = 0.1

[field.constants]
tau = [0.5, 1.0, 1.5, 2.0]
g = {file = "gains.csv"}

[field.masks]
W = {random = "bernoulli", scale = 0.5, shape = [4, 4], seed = 5}

[problem]
t_span = [0.0, 1.0]
r0 = {r = [0.1, 0.2, 0.3, 0.4], P = 0.0}

[inputs]
kind = "constant"
values = [0.3, -0.2]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "weights.npz", U=np.arange(8.0).reshape(4, 2) / 10)
    np.savetxt(tmp_path / "gains.csv", np.full((4, 4), 2.0), delimiter=",")
    return tmp_path


def made(folder: Path, text: str = TEXT) -> Experiment:
    file = folder / "plastic.toml"
    file.write_text(text)
    return Experiment(file)


def test_arrays_of_every_source(folder):
    experiment = made(folder)
    field = experiment.field
    mask = np.random.default_rng(5).random((4, 4)) < 0.5
    np.testing.assert_array_equal(field.parameters["W"], np.random.default_rng(3).normal(0.0, 0.5, (4, 4)) * mask)
    np.testing.assert_array_equal(field.parameters["U"], np.arange(8.0).reshape(4, 2) / 10)
    np.testing.assert_array_equal(field.parameters["b"], np.full(4, 0.25))
    np.testing.assert_array_equal(field.masks["W"], mask)
    assert field.states == {"r": (4,), "P": (4, 4)} and field.input_names == ("x[0]", "x[1]")
    problem = experiment.problem
    np.testing.assert_array_equal(problem.r0, [0.1, 0.2, 0.3, 0.4, *[0.0] * 16])
    r, w, g = problem.r0[:4], field.parameters, 2.0
    rate = (-r + (g * w["W"]) @ np.tanh(r) + w["U"] @ [0.3, -0.2] + w["b"]) / [0.5, 1.0, 1.5, 2.0]
    np.testing.assert_allclose(field(0.0, problem.r0, [0.3, -0.2])[:4], rate, rtol=1e-14)


MISTAKES = {
    'U = {file = "weights.npz"}|U = {file = "weights.npz", key = "V"}': "an array of weights.npz: U",
    'U = {file = "weights.npz"}|U = {file = "none.npz"}': "a file of numbers",
    'U = {file = "weights.npz"}|U = {file = "weights.txt"}': "ends in .npz or .csv",
    'random = "normal"|random = "gauss"': "normal",
    's = "tanh(r)"|s = "tanh(r) + P"': "do not fit",
    "r = [0.1, 0.2, 0.3, 0.4]|r = [0.1, 0.2]": "problem.r0.r",
    "b = {fill = 0.25, shape = 4}|b = {fill = 0.25, shape = 3}": "do not fit",
    "states = {r = 4, P = [4, 4]}|states = {r = 4, P = [4, 4, 4]}": "states",
}


@pytest.mark.parametrize("change", MISTAKES)
def test_mistakes_are_told_with_the_line(folder, change):
    before, after = change.split("|")
    assert before in TEXT
    with pytest.raises(UsageError) as caught:
        _ = made(folder, TEXT.replace(before, after)).problem
    assert MISTAKES[change] in str(caught.value) and "plastic.toml" in str(caught.value)
