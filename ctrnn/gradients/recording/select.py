"""Which recording takes some problems: the first that supports them, in the order of BACKENDS."""

from __future__ import annotations

from collections.abc import Sequence

from ctrnn.gradients.recording.base import Needs, Recording, Schedule, Totals, summed
from ctrnn.gradients.recording.rows import RowsRecording
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.recording.torch.recording import TorchRecording
from ctrnn.problem import Problem, Settings

#: the fastest first; the last takes any problem, one at a time
BACKENDS: tuple[type[Recording], ...] = (TorchRecording, RowsRecording, StepperRecording)


def backend_for(problems: Sequence[Problem], settings: Settings, needs: Needs) -> type[Recording] | None:
    """The backend that takes all of these problems together; None where they have to go one by one."""
    return next((backend for backend in BACKENDS if backend.supports(problems, settings, needs)), None)


def takes_together(problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
    """Whether one recording takes several trials in lockstep; one alone is not worth it, but on a device all go there."""
    return (len(problems) > 1 or needs.device is not None) and backend_for(problems, settings, needs) is not None


def recorded(problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, schedule: Schedule) -> Totals:
    """What a schedule finds along the problems' runs, as many of them at a time as memory allows."""
    backend = backend_for(problems, settings, needs)
    assert backend is not None
    some, B = backend.at_once(problems, settings, needs), len(problems)
    found = []
    with backend.threads(problems[0], settings):
        for b in range(0, B, some):
            first = b if some < B else None
            with backend.record(problems[b : b + some], settings, caller, needs, first) as recording:
                found.append(schedule(recording))
    return summed(found)
