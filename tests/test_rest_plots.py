"""The figures of what rests: what they draw is what they were given."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ctrnn import plotting
from ctrnn.errors import UsageError


def test_one_phase_draws_every_run_and_the_predicted_slope():
    t = np.linspace(0.0, 10.0, 21)
    runs = {
        name: (SimpleNamespace(t=t, speed=np.exp(-t)), size * np.exp(-t)) for name, size in (("a", 1.0), ("b", 0.1))
    }
    left, right = plotting.one_phase(runs, -1.0, time_label="t (s)").axes
    assert len(left.lines) == 3 and len(right.lines) == 2 and left.get_xlabel() == "t (s)"
    x, y = left.lines[-1].get_data()  # the line lies on the error whose rate it predicts
    np.testing.assert_allclose(y, np.exp(-x), rtol=1e-12)
    with pytest.raises(UsageError, match="runs"):
        plotting.one_phase({}, -1.0)


def test_trainings_lie_on_top_of_each_other():
    curves = [
        SimpleNamespace(inverse=name, loss=np.ones(4), score=np.full(4, 0.9), abscissa=-np.ones(4))
        for name in ("flow", "lu")
    ]
    axes = plotting.learning_at_rest(curves).axes
    assert [line.get_label() for line in axes[0].lines] == ["division-free flow", "LU"]
    assert all(len(panel.lines) >= 2 for panel in axes[:3])
    with pytest.raises(UsageError, match="curves"):
        plotting.learning_at_rest([])


def test_recalled_shows_three_rows_of_pictures():
    rows = [np.random.default_rng(k).random((4, 64)) for k in range(3)]
    figure = plotting.recalled(*rows)
    assert len(figure.axes) == 12
    np.testing.assert_array_equal(figure.axes[5].images[0].get_array(), rows[1][1].reshape(8, 8))
    with pytest.raises(UsageError, match="given"):
        plotting.recalled(rows[0], rows[1][:2], rows[2])
