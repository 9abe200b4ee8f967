"""Tasks of memory: what comes has to be kept until it is asked for."""

from __future__ import annotations

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.learning.tasks.task import Task, chance, counts, generator, long_enough, room
from ctrnn.numbers import positive


def flip_flop(
    bits: int = 3,
    trials: int = 64,
    steps: int = 200,
    rate: float = 0.02,
    width: int = 4,
    dt: float = 0.25,
    seed: int | np.random.Generator = 0,
) -> Task:
    """n-bit flip-flop: each output holds the sign of the last pulse on its channel.

    Parameters
    ----------
    bits : int
        Channels.
    trials, steps : int
        Trials, and steps of each.
    rate : float
        Probability that a pulse begins in a step of a channel that has none under way.
    width : int
        Steps that a pulse lasts.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of the pulses.

    Returns
    -------
    Task
        Inputs and targets −1, 0 (no pulse) and +1. Every channel begins with a pulse. Nothing counts while a pulse
        changes a bit.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, no probability, and trials shorter than a pulse.

    Notes
    -----
    D. Sussillo and O. Barak, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural
    networks", Neural Computation 25 (2013).

    Examples
    --------
    >>> flip_flop(bits=3, trials=2, steps=100)
    task flip-flop: 2 trials of 100 steps of 0.25 tau, 3 inputs, 3 outputs, 86% of the steps count
    Each output holds the sign of the last pulse on its channel.
    """
    counts(bits=bits, trials=trials, width=width)
    chance("rate", rate)
    long_enough(steps, width + 1, "a pulse, and a step after it")
    room(trials, steps, 4 * bits + 1)
    rng = generator(seed)
    shape = (trials, steps, bits)
    begins, signs = rng.random(shape) < rate, rng.choice([-1.0, 1.0], size=shape)
    begins[:, 0] = True
    x, y, changing = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    left, bit = np.zeros((trials, bits), dtype=int), np.zeros((trials, bits))
    pulse, flips = np.zeros((trials, bits)), np.zeros((trials, bits), dtype=bool)
    for k in range(steps):
        new = begins[:, k] & (left == 0)
        flips = np.where(new, signs[:, k] != bit, flips)
        pulse, left = np.where(new, signs[:, k], pulse), np.where(new, width, left)
        bit = np.where(new, pulse, bit)
        x[:, k], y[:, k], changing[:, k] = pulse * (left > 0), bit, flips & (left > 0)
        left = np.maximum(left - 1, 0)
    channels = range(bits)
    return Task(
        "flip-flop",
        "Each output holds the sign of the last pulse on its channel.",
        x,
        y,
        np.where(changing.any(axis=2), 0.0, 1.0),
        dt,
        tuple(f"pulse {i}" for i in channels),
        tuple(f"bit {i}" for i in channels),
        reference="Sussillo and Barak 2013",
    )


def adding(trials: int = 64, steps: int = 50, dt: float = 1.0, seed: int | np.random.Generator = 0) -> Task:
    """Adding problem: the sum of the two numbers that were marked, at the end.

    Parameters
    ----------
    trials, steps : int
        Trials, and steps of each, at least 2.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of the numbers and the marks.

    Returns
    -------
    Task
        Inputs: numbers uniform in [0, 1], and a mark, which is 1 in one step of each half. The target, their sum,
        counts at the last step. Who says 1 always has the mean squared error 1/6.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, or too small.

    Notes
    -----
    S. Hochreiter and J. Schmidhuber, "Long short-term memory", Neural Computation 9 (1997); in the form of M. Arjovsky,
    A. Shah and Y. Bengio, "Unitary evolution recurrent neural networks", ICML 2016.

    Examples
    --------
    >>> import numpy as np
    >>> x, y, weight = adding(trials=1, steps=20)[0]
    >>> bool(np.isclose(x[:, 0] @ x[:, 1], y[-1, 0])), weight.sum()
    (True, np.float64(1.0))
    """
    counts(trials=trials)
    long_enough(steps, 2, "two numbers to add")
    room(trials, steps, 4)
    rng, half, rows = generator(seed), steps // 2, np.arange(trials)
    x, y, weight = np.zeros((trials, steps, 2)), np.zeros((trials, steps, 1)), np.zeros((trials, steps))
    x[:, :, 0] = rng.random((trials, steps))
    first, second = rng.integers(0, half, trials), rng.integers(half, steps, trials)
    x[rows, first, 1] = x[rows, second, 1] = 1.0
    y[:, -1, 0], weight[:, -1] = x[rows, first, 0] + x[rows, second, 0], 1.0
    description = "At the end, the sum of the two numbers that were marked."
    where = "Hochreiter and Schmidhuber 1997"
    return Task("adding", description, x, y, weight, dt, ("number", "mark"), ("sum",), reference=where)


def copy(
    symbols: int = 8,
    length: int = 5,
    delay: int = 20,
    trials: int = 64,
    dt: float = 1.0,
    seed: int | np.random.Generator = 0,
) -> Task:
    """Copy a sequence of symbols after a delay.

    Parameters
    ----------
    symbols : int
        Different symbols, at least 2.
    length, delay : int
        Symbols to be copied, and steps between the last of them and the first of the copy, at least 1.
    trials : int
        Trials, of 2 length + delay steps each.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of the symbols.

    Returns
    -------
    Task
        Inputs: a channel for each symbol, and "go", which is 1 in the step before the copy begins. Targets: the symbols
        as classes, in the last ``length`` steps. Who remembers nothing has the cross-entropy log(symbols).

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, or too small.

    Notes
    -----
    S. Hochreiter and J. Schmidhuber, Neural Computation 9 (1997); M. Arjovsky, A. Shah and Y. Bengio, ICML 2016, who
    count the steps before the copy too, with a symbol for "nothing".

    Examples
    --------
    >>> x, y, weight = copy(symbols=3, length=2, delay=4, trials=1)[0]
    >>> x.argmax(axis=1)[:2] == y.argmax(axis=1)[-2:], int(x[:, 3].argmax())
    (array([ True,  True]), 5)
    """
    counts(2, symbols=symbols)
    counts(length=length, delay=delay, trials=trials)
    room(trials, 2 * length + delay, 2 * symbols + 2)
    rng, T = generator(seed), 2 * length + delay
    said = rng.integers(0, symbols, (trials, length))
    x, y, weight = np.zeros((trials, T, symbols + 1)), np.zeros((trials, T, symbols)), np.zeros((trials, T))
    one = np.eye(symbols)[said]
    x[:, :length, :symbols], y[:, -length:], weight[:, -length:] = one, one, 1.0
    x[:, T - length - 1, symbols] = 1.0
    names = tuple(f"symbol {i}" for i in range(symbols))
    return Task(
        "copy",
        f"{length} symbols, to be repeated {delay} steps later.",
        x,
        y,
        weight,
        dt,
        (*names, "go"),
        names,
        classes=True,
        reference="Arjovsky, Shah and Bengio 2016",
    )


def delayed_match(
    stimuli: int = 2,
    trials: int = 64,
    width: int = 4,
    delay: tuple[int, int] = (10, 30),
    answer: int = 8,
    dt: float = 0.25,
    seed: int | np.random.Generator = 0,
) -> Task:
    """Delayed match to sample: whether two stimuli, shown one after the other, are the same.

    Parameters
    ----------
    stimuli : int
        Different stimuli, at least 2.
    trials : int
        Trials; a half of them match, as nearly as can be.
    width : int
        Steps that a stimulus is shown.
    delay : tuple of int
        Fewest and most steps between the two, drawn for each trial.
    answer : int
        Steps after the second stimulus in which the answer counts.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of the stimuli and the delays.

    Returns
    -------
    Task
        Inputs: a channel for each stimulus. Target: +1 for a match, −1 otherwise, after the second stimulus; all
        trials are as long as the longest, and after an answer nothing counts.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, or too small, and a delay that is no pair in increasing order.

    Notes
    -----
    E. Miller, C. Erickson and R. Desimone, "Neural mechanisms of visual working memory in prefrontal cortex of the
    macaque", Journal of Neuroscience 16 (1996), has the experiment with animals.

    Examples
    --------
    >>> task = delayed_match(trials=10, seed=3)
    >>> int((task.y.sum(axis=(1, 2)) > 0).sum())
    5
    """
    counts(2, stimuli=stimuli)
    counts(trials=trials, width=width, answer=answer)
    if not isinstance(delay, (tuple, list)) or len(delay) != 2:
        raise UsageError("delay", given=delay, allowed="fewest and most steps, a pair")
    counts(0, delay=delay[0])
    counts(delay[0], delay=delay[1])
    positive("dt", dt)
    T = 2 * width + delay[1] + answer
    room(trials, T, stimuli + 2)
    rng = generator(seed)
    match = rng.permutation(np.arange(trials) % 2 == 0)
    first = rng.integers(0, stimuli, trials)
    second = np.where(match, first, (first + rng.integers(1, stimuli, trials)) % stimuli)
    waits = rng.integers(delay[0], delay[1] + 1, trials)
    x, y, weight = np.zeros((trials, T, stimuli)), np.zeros((trials, T, 1)), np.zeros((trials, T))
    for b, wait in enumerate(waits):
        again = width + wait
        x[b, :width, first[b]] = x[b, again : again + width, second[b]] = 1.0
        now = slice(again + width, again + width + answer)
        y[b, now, 0], weight[b, now] = 1.0 if match[b] else -1.0, 1.0
    names = tuple(f"stimulus {i}" for i in range(stimuli))
    description = "+1 if the second stimulus is the first one again, −1 if it is another."
    where = "Miller, Erickson and Desimone 1996"
    return Task("delayed-match", description, x, y, weight, dt, names, ("match",), reference=where)
