"""The figures of the inverse show the numbers they are given."""

import numpy as np
import pytest

from ctrnn.errors import UsageError
from ctrnn.inverse import device_noise, right_divide, word_length
from ctrnn.plotting import euler_step, hardware_error, inverse_convergence, save

A = np.array([[-2.0, 1.0, 0.0], [0.0, -1.0, 0.5], [0.3, 0.0, -1.5]])
a = [1.0, 2.0, 3.0]


def test_convergence_shows_every_residual(tmp_path):
    results = {m: right_divide(a, A, m) for m in ("flow", "chebyshev", "newton-schulz", "lu")}
    figure = inverse_convergence(results)
    lines = figure.axes[0].get_lines()
    assert [line.get_label() for line in lines] == list(results)
    for line, result in zip(lines, results.values(), strict=True):
        np.testing.assert_allclose(line.get_ydata(), np.maximum(result.residual, 1e-17))
        np.testing.assert_array_equal(line.get_xdata(), result.residual_at + 1)
    save(figure, tmp_path / "convergence.png")
    with pytest.raises(UsageError):
        inverse_convergence({})


def test_the_disc_of_the_largest_step_goes_through_the_eigenvalue_that_bounds_it():
    λ = np.array([-1 + 2j, -1 - 2j, -3.0])
    figure = euler_step(λ, [(0.1, 0.95)])
    plane, rate = figure.axes
    radii = sorted(patch.radius for patch in plane.patches)
    assert radii[1] >= radii[0] == pytest.approx(1 / 0.4)  # 2·1/5
    distance = np.abs(λ + radii[0])
    assert distance.max() == pytest.approx(radii[0])
    assert any("0.4" in text.get_text() for text in figure.legends[0].get_texts())
    assert [0.1] in [list(line.get_xdata()) for line in rate.get_lines()]
    with pytest.raises(UsageError):
        euler_step([1.0])


def test_bits_and_noise_show_observed_expected_and_bound(tmp_path):
    bits = [word_length(a, A, m, fractions=[8, 12, 16]) for m in ("flow", "newton-schulz")]
    noise = [device_noise(a, A, levels=[1e-3, 1e-2]), device_noise(a, A, levels=[1e-3, 1e-2], kind="mismatch")]
    figure = hardware_error(bits, noise)
    left, right = figure.axes
    shown = [np.asarray(line.get_ydata(), float) for line in left.get_lines()]
    for table in bits:
        for values in (table.error, table.expected, table.bound):
            values = values[np.isfinite(values) & (values < 10)]
            assert any(y.shape == values.shape and np.allclose(y, values) for y in shown)
    assert right.get_xscale() == "log" and len(figure.legends) == 1
    assert {"flow", "newton-schulz", "flow, mismatch", "expected", "bound"} == {
        t.get_text() for t in figure.legends[0].get_texts()
    }
    save(figure, tmp_path / "bits.png")
    with pytest.raises(UsageError):
        hardware_error([])
