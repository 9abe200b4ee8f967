"""A learner along its data: in as few calls of the compiled loop as can be, with what Python does between them.

Rows of a table, resets, checkpoints, starts of the window of `OnlineLearner.drift`, progress.
"""

from __future__ import annotations

import os
import time
from typing import Any

import numpy as np

from ctrnn.fields.base import Array
from ctrnn.kernels.rules.loop import LOSS_SINCE, SINCE
from ctrnn.learning.online.given import Data
from ctrnn.learning.online.table import LearningTable
from ctrnn.progress import track
from ctrnn.threads import one_blas_thread, one_torch_thread


def go(learner: Any, data: Data, here: slice) -> None:
    """Steps without a reset between them."""
    loop, window, due, first = learner._loop, learner._window, learner._due, here.start or 0
    while first < here.stop:
        last = min(here.stop, first + loop.patient, first + window.room(learner))
        part = data.part(slice(first, last), due.after(loop.steps, loop.t0, loop.h, last - first))
        try:
            loop.go(*part)
        finally:
            due.passed(loop.t, loop.h)
        window.take(learner, *part)
        first = last


def follow(
    learner: Any, data: Data, resets: Array, record_every: int, checkpoint: str | os.PathLike[str] | None, every: int
) -> LearningTable:
    """All steps, with resets of the state before some of them; the rows of the table."""
    begin, anew = learner.steps, set(resets.tolist())
    # where Python has something to do: before these steps
    ends = {*anew, data.T, *_multiples(record_every, begin, data.T)}
    ends |= set() if checkpoint is None else set(_multiples(every, begin, data.T))
    table, began, last, first = LearningTable(), time.perf_counter(), begin, 0
    with track(data.T, "learn") as update, one_blas_thread, one_torch_thread:
        for end in sorted(ends):
            if first < end:
                go(learner, data, slice(first, end))
                first = end
                if learner.steps % record_every == 0 or end == data.T:
                    now = time.perf_counter()
                    row = _row(learner, now - began)
                    table.rows.append(row)
                    learner.history.rows.append(row)
                    rate = (learner.steps - last) / max(now - began, 1e-9)
                    update(end, f"loss {row[2]:.4g}, {rate:.0f} steps/s")
                    began, last = now, learner.steps
                if checkpoint is not None and (learner.steps % every == 0 or end == data.T):
                    learner.save(checkpoint)
            if end in anew:
                learner.reset()
    return table


def _multiples(every: int, begin: int, count: int) -> range:
    """Steps of a run, counted from 0, before which the learner has taken a multiple of ``every``, but for the first."""
    return range(every - begin % every, count + 1, every)


def _row(learner: Any, seconds: float) -> tuple[float, ...]:
    counts, sums, weights = learner._loop.counts, learner._loop.sums, learner._weights
    total, count = float(sums[LOSS_SINCE]), int(counts[SINCE])
    counts[SINCE], sums[LOSS_SINCE] = 0, 0.0
    return (
        learner.steps, learner.t, total / count if count else float("nan"), float(np.linalg.norm(weights.gradient)),
        weights.lr, learner.bound, seconds,
    )  # fmt: skip
