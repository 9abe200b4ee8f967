"""Learning at rest, in short: images classified by where a network settles, and completed; the division-free gradient
and LU learn alike (1e-6).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ctrnn import RateNetwork
from ctrnn.errors import UsageError
from ctrnn.learning.rest import RestLayer
from ctrnn.learning.rest_tasks import digits, erased, memories, train_at_rest

pytest.importorskip("sklearn")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Batches this small gain nothing from a second thread, which spins against everything else on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def images():
    return digits(most=700)


def classifier(images, inverse, n=48, epochs=6, batch=64, **options):
    torch.manual_seed(0)
    layer = RestLayer(RateNetwork(n, inputs=64, gain=0.5, seed=0), inverse=inverse)
    readout = nn.Linear(n, 10, dtype=torch.float64)

    def accuracy(model):
        return float((model(images.x_test).argmax(1) == images.y_test).double().mean())

    data = (images.x, images.y)
    return train_at_rest(
        layer,
        readout,
        data,
        nn.functional.cross_entropy,
        accuracy,
        epochs=epochs,
        batch=batch,
        learning_rate=1e-2,
        **options,
    )


def test_digits_are_told_by_where_the_network_settles_and_flow_and_lu_learn_alike(images):
    flow, lu = (classifier(images, inverse) for inverse in ("flow", "lu"))
    assert flow.score[0] < 0.3 and flow.score[-1] > 0.85
    assert flow.loss[-1] < 0.3 * flow.loss[0]
    np.testing.assert_allclose(flow.loss, lu.loss, rtol=1e-6)
    np.testing.assert_array_equal(flow.score, lu.score)
    assert (flow.abscissa < 0).all() and (flow.factor < 1).all()
    assert "accuracy" not in str(flow) and "6 epochs" in str(flow)


def test_all_1797_digits_by_200_units_above_95_percent():
    """Of the 450 held back; 95.6 to 96.9 % by the seed (three tried)."""
    curves = classifier(digits(), "flow", n=200, epochs=4, batch=128)
    assert curves.score[-1] > 0.95 > 0.2 > curves.score[0]
    assert (curves.abscissa < 0).all() and (curves.factor < 0.9).all()


def test_the_penalty_keeps_the_network_further_from_losing_its_stability(images):
    free = classifier(images, "flow", n=24, epochs=4)
    kept = classifier(images, "flow", n=24, epochs=4, penalty=30.0, most=0.5)
    assert kept.factor[-1] < 0.9 * free.factor[-1] and kept.abscissa[-1] < free.abscissa[-1]


class Visible(nn.Module):
    """The first 64 units are the image."""

    def forward(self, r):
        return r[:, :64]


def test_stored_images_are_recalled_from_half_of_their_pixels(images):
    x, y = memories(images, copies=30, seed=1)
    x_test, y_test = memories(images, copies=5, seed=2)
    layer = RestLayer(RateNetwork(80, inputs=64, gain=0.5, seed=0))

    def error(model):
        return float((model(x_test) - y_test).square().mean() / y_test.square().mean())

    curves = train_at_rest(
        layer, Visible(), (x, y), nn.functional.mse_loss, error, epochs=10, batch=32, learning_rate=1e-2
    )
    left = float((x_test - y_test).square().mean() / y_test.square().mean())
    assert 0.45 < left < 0.55  # what is erased is half of the variance
    assert curves.score[-1] < 0.55 * left
    with torch.no_grad():  # and each recalled image is nearest to the one that was meant
        nearest = torch.cdist(layer(x_test)[:, :64], y_test[:20]).argmin(1)
    assert (nearest == torch.arange(20).repeat(5)).double().mean() > 0.9


def test_the_split_is_stratified_and_whole():
    images = digits()
    assert len(images.x) + len(images.x_test) == 1797
    share = torch.bincount(images.y).double() / len(images.y) - torch.bincount(images.y_test).double() / len(
        images.y_test
    )
    assert share.abs().max() < 0.005 and images.x.mean(0).abs().max() < 1e-14
    torch.testing.assert_close(digits().x, images.x, rtol=0, atol=0)


def test_bad_arguments_are_named(images):
    with pytest.raises(UsageError, match="share"):
        erased(images.x, 1.0)
    with pytest.raises(UsageError, match="memories"):
        memories(images, each=0)
    layer, readout = RestLayer(RateNetwork(5, inputs=64)), nn.Linear(5, 10, dtype=torch.float64)
    with pytest.raises(UsageError, match="data"):
        train_at_rest(layer, readout, (images.x, images.y[:3]), nn.functional.cross_entropy, lambda m: 0.0)
    with pytest.raises(UsageError, match="epochs"):
        train_at_rest(layer, readout, (images.x, images.y), nn.functional.cross_entropy, lambda m: 0.0, epochs=0)
