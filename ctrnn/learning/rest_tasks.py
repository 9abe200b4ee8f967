"""Learning at rest: tasks whose outputs are steady states, and the loop that trains them.

    classification       x: an image held at the input;  r*: the state it settles in;  logits V r* + c
    associative memory   x: what is left of a stored image;  the first units' r* is the whole image

    min over w of  mean ℓ(o(r*(w, x)), y) + c · mean max(0, ρ − ρ₁)²

The rest point r* and the penalty on its contraction ρ are those of ctrnn.learning.rest. The images are the 1,797
handwritten digits, 8 by 8, that come with scikit-learn (E. Alpaydin and C. Kaynak, UCI, 1998). Adam: Kingma and Ba,
2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ctrnn.clock import working
from ctrnn.errors import UsageError, optional_module
from ctrnn.learning.rest import RestLayer

__all__ = ["Curves", "Images", "digits", "erased", "memories", "train_at_rest"]

Tensor = torch.Tensor
#: samples whose spectrum is looked at after each epoch
MONITORED = 4


@dataclass(frozen=True)
class Images:
    """Pictures of digits, for training and for testing.

    ``x`` (N, 64), pixels from 0 to 1 less their mean over the training images; ``y`` (N,) the digits; ``x_test`` and
    ``y_test`` likewise; ``mean`` (64,).
    """

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor
    mean: Tensor


def digits(test: float = 0.25, seed: int = 0, most: int | None = None) -> Images:
    """scikit-learn's digits, split so that each digit is equally frequent in both parts.

    ``test`` is the part for testing, ``most`` so many images in all. Raises MissingDependencyError without
    scikit-learn.
    """
    datasets, selection = (
        optional_module(f"sklearn.{part}", "the digits task", "scikit-learn", "learning")
        for part in ("datasets", "model_selection")
    )
    split = selection.train_test_split
    x, y = datasets.load_digits(return_X_y=True)
    if most is not None:
        x, _, y, _ = split(x, y, train_size=most, stratify=y, random_state=seed)
    x, x_test, y, y_test = split(x / 16.0, y, test_size=test, stratify=y, random_state=seed)
    mean = x.mean(axis=0)
    parts = (x - mean, y.astype(np.int64), x_test - mean, y_test.astype(np.int64), mean)
    return Images(*(torch.as_tensor(v) for v in parts))


def erased(x: Tensor, share: float = 0.5, seed: int = 0) -> Tensor:
    """Images (N, 64) of which the fraction ``share`` of the pixels, chosen at random, is set to 0, the mean."""
    if not 0 <= share < 1:
        raise UsageError("share", given=share, allowed="at least 0 and below 1")
    kept = torch.as_tensor(np.random.default_rng(seed).random(tuple(x.shape)) >= share).to(x)
    return x * kept


def memories(
    images: Images, each: int = 2, copies: int = 40, share: float = 0.5, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """What an associative memory is trained on: images with pixels erased, and the same whole, (N, 64) each.

    ``each`` images of every digit, in ``copies`` copies.
    """
    if each < 1 or copies < 1:
        raise UsageError("memories", given={"each": each, "copies": copies}, allowed="whole numbers, at least 1")
    chosen = torch.cat([torch.nonzero(images.y == digit)[:each, 0] for digit in range(10)])
    whole = images.x[chosen].repeat(copies, 1)
    return erased(whole, share, seed), whole


@dataclass(frozen=True, repr=False, eq=False)
class Curves:
    """One training at rest, before the first epoch and after each.

    ``loss`` on the training data, ``score`` on the test data and ``abscissa``, max Re λ(J) over a few samples (per unit
    of t), are (epochs + 1,); ``factor`` (epochs,) is the worst factor of a step in the backward flow in each epoch.
    ``seconds`` in all; ``inverse`` which one.
    """

    inverse: str
    loss: np.ndarray
    score: np.ndarray
    abscissa: np.ndarray
    factor: np.ndarray
    seconds: float

    def __repr__(self) -> str:
        return (
            f"trained at rest, inverse {self.inverse!r}: {self.loss.size - 1} epochs in {self.seconds:.1f} s, loss "
            f"{self.loss[0]:.4g} → "
            f"{self.loss[-1]:.4g}, score {self.score[0]:.4g} → {self.score[-1]:.4g}, abscissa {self.abscissa[0]:.3g} "
            f"→ {self.abscissa[-1]:.3g}"
        )


def train_at_rest(
    layer: RestLayer,
    readout: nn.Module,
    data: tuple[Tensor, Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[Callable[[Tensor], Tensor]], float],
    *,
    epochs: int = 8,
    batch: int = 128,
    learning_rate: float = 5e-3,
    penalty: float = 0.0,
    most: float = 0.8,
    seed: int = 0,
) -> Curves:
    """Train the layer's weights and the readout by Adam, batches in an order fixed by the seed.

    Parameters
    ----------
    layer : RestLayer
        The network.
    readout : torch.nn.Module
        From rest points to outputs.
    data : tuple of tensor
        x (N, nx) and y (N, …).
    loss : callable
        ``loss(outputs, y)``, a mean.
    score : callable
        ``score(model)``, called after each epoch without a graph.
    epochs, batch : int
        Passes over the data, and samples a step.
    learning_rate : float
        Of Adam; of the matrices (n, n) among the layer's weights 1/√n of it.
    penalty, most : float
        c and ρ₁ in the formula at the top of this module.
    seed : int
        Of the order and of the penalty's random rows.

    Returns
    -------
    Curves
        Losses and scores.

    Raises
    ------
    NotAtRestError
        Where a state of a batch does not come to rest.
    UsageError
        For arguments that are not allowed.
    """
    if epochs < 1 or batch < 1 or not learning_rate > 0 or not penalty >= 0:
        given = {"epochs": epochs, "batch": batch, "learning_rate": learning_rate, "penalty": penalty}
        raise UsageError("train_at_rest", given=given, allowed="positive numbers, and a penalty of at least 0")
    x, y = data
    if len(x) != len(y) or not len(x):
        raise UsageError(
            "data", given=f"{len(x)} inputs and {len(y)} targets", allowed="as many targets as inputs, at least one"
        )
    order = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(seed + 1)
    recurrent = [p for p in layer.parameters() if p.shape == (layer.n, layer.n)]
    others = [p for p in (*layer.parameters(), *readout.parameters()) if all(p is not q for q in recurrent)]
    # a step of Adam moves every entry by the rate, and the norm of an n × n matrix by up to n times that: out of
    # stability in a few steps
    groups = [{"params": others}, {"params": recurrent, "lr": learning_rate / layer.n**0.5}]
    optimizer = torch.optim.Adam(groups, lr=learning_rate)

    def model(x: Tensor) -> Tensor:
        return readout(layer(x))

    @torch.no_grad()
    def measured() -> tuple[float, float, float]:
        few = x[:MONITORED]
        return float(loss(model(x), y)), score(model), layer.abscissa(layer(few), few)

    rows, factors, began = [measured()], [], working()
    for _ in range(epochs):
        worst = 0.0
        for chosen in torch.randperm(len(x), generator=order).split(batch):
            r = layer(x[chosen])
            total = loss(readout(r), y[chosen])
            if penalty:
                total = total + penalty * layer.contraction_penalty(r, x[chosen], most, generator=noise)
            optimizer.zero_grad()
            total.backward()
            worst = max(worst, layer.last["backward"].factor)
            optimizer.step()
        factors.append(worst)
        rows.append(measured())
    losses, scores, abscissas = (np.array(column) for column in zip(*rows, strict=True))
    return Curves(layer.inverse, losses, scores, abscissas, np.array(factors), working() - began)
