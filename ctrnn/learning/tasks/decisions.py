"""Tasks of decision: evidence that is gathered, and an answer at the end."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.learning.tasks.task import Task, counts, generator, room
from ctrnn.numbers import number, positive, real_array


def context_decision(
    trials: int = 64,
    evidence: int = 30,
    answer: int = 10,
    coherences: Sequence[float] = (0.05, 0.1, 0.2, 0.4),
    noise: float = 0.3,
    dt: float = 0.25,
    seed: int | np.random.Generator = 0,
) -> Task:
    """Context-dependent decision: the sign of that one of two noisy inputs which the context names.

    Parameters
    ----------
    trials : int
        Trials.
    evidence, answer : int
        Steps in which the evidence comes, and steps after it in which the answer counts.
    coherences : sequence of float
        Strengths |mean| of the evidence, drawn for each input and trial, with a random sign.
    noise : float
        Standard deviation of the evidence's mean over one unit of time: of a step it is noise/√dt.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of means, contexts and noise.

    Returns
    -------
    Task
        Inputs: evidence 1 and 2, and the context as two channels, which stay to the end. Target: +1 or −1.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers or no positive numbers.

    Notes
    -----
    V. Mante, D. Sussillo, K. Shenoy and W. Newsome, "Context-dependent computation by recurrent dynamics in prefrontal
    cortex", Nature 503 (2013).

    Examples
    --------
    >>> x, y, weight = context_decision(trials=1, noise=0.0, seed=2)[0]
    >>> context = int(x[0, 2:].argmax())
    >>> bool(y[-1, 0] == np.sign(x[0, context]))
    True
    """
    counts(trials=trials, evidence=evidence, answer=answer)
    strengths = np.atleast_1d(real_array("coherences", coherences))
    if strengths.ndim != 1 or not strengths.size or not (np.isfinite(strengths) & (strengths > 0)).all():
        raise UsageError("coherences", given=coherences, allowed="positive numbers, at least one")
    noise = number("noise", noise, "a finite number, 0 or more", 0.0)
    dt = positive("dt", dt)
    room(trials, evidence + answer, 8)
    rng, T, rows = generator(seed), evidence + answer, np.arange(trials)
    mean = rng.choice(strengths, (trials, 2)) * rng.choice([-1.0, 1.0], (trials, 2))
    context = rng.integers(0, 2, trials)
    x, y, weight = np.zeros((trials, T, 4)), np.zeros((trials, T, 1)), np.zeros((trials, T))
    x[:, :evidence, :2] = mean[:, None] + noise / np.sqrt(dt) * rng.standard_normal((trials, evidence, 2))
    x[rows, :, 2 + context] = 1.0
    y[:, evidence:, 0], weight[:, evidence:] = np.sign(mean[rows, context])[:, None], 1.0
    return Task(
        "context-decision",
        "The sign of the evidence that the context names.",
        x,
        y,
        weight,
        dt,
        ("evidence 0", "evidence 1", "context 0", "context 1"),
        ("choice",),
        reference="Mante, Sussillo, Shenoy and Newsome 2013",
    )


def t_maze(
    corridor: int = 20,
    cues: int = 1,
    trials: int = 64,
    width: int = 2,
    answer: int = 5,
    dt: float = 0.5,
    seed: int | np.random.Generator = 0,
) -> Task:
    """T-maze: at the end of a corridor, turn to the side that the cues along its beginning named.

    Parameters
    ----------
    corridor : int
        Steps from the last cue to the junction.
    cues : int
        Cues, an odd number: 1 is the T-maze; of several, each on a side of its own, most of them win.
    trials : int
        Trials.
    width : int
        Steps that a cue is seen, and steps between two of them.
    answer : int
        Steps at the junction, in which the answer counts.
    dt : float
        Length of a step, in tau.
    seed : int or numpy.random.Generator
        Of the cues.

    Returns
    -------
    Task
        Inputs: left, right and junction, 0 or 1. Target: −1 left, +1 right.

    Raises
    ------
    UsageError
        For sizes that are no whole numbers, and an even number of cues.

    Notes
    -----
    B. Bakker, "Reinforcement learning with long short-term memory", NIPS 14 (2002), here with the right answer in the
    place of a reward; with several cues as in G. Bellec et al., Nature Communications 11:3625 (2020).

    Examples
    --------
    >>> x, y, weight = t_maze(cues=3, trials=1, seed=0)[0]
    >>> bool(np.sign(x[:, 1].sum() - x[:, 0].sum()) == y[-1, 0])
    True
    """
    counts(0, corridor=corridor)
    counts(cues=cues, trials=trials, width=width, answer=answer)
    if cues % 2 == 0:
        raise UsageError("cues", given=cues, allowed="an odd number, so that one side has more")
    begin = (2 * cues - 1) * width
    T = begin + corridor + answer
    room(trials, T, 5)
    rng = generator(seed)
    side = rng.integers(0, 2, (trials, cues))
    x, y, weight = np.zeros((trials, T, 3)), np.zeros((trials, T, 1)), np.zeros((trials, T))
    for c in range(cues):
        x[np.arange(trials), 2 * c * width : (2 * c + 1) * width, side[:, c]] = 1.0
    now = slice(begin + corridor, T)
    x[:, now, 2], weight[:, now] = 1.0, 1.0
    y[:, now, 0] = np.where(2 * side.sum(axis=1) > cues, 1.0, -1.0)[:, None]
    description = "At the junction, the side on which more cues were."
    names = ("left", "right", "junction")
    return Task("t-maze", description, x, y, weight, dt, names, ("turn",), reference="Bakker 2002; Bellec et al. 2020")
