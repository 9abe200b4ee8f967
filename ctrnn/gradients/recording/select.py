"""Which recording takes some problems: the first that supports them, in the order of BACKENDS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctrnn.gradients.recording.base import Needs, Recording, Schedule, Totals, summed
from ctrnn.gradients.recording.control import controlled
from ctrnn.gradients.recording.rows import RowsRecording
from ctrnn.gradients.recording.sensitivity_error import is_controlled
from ctrnn.gradients.recording.stepper import StepperRecording
from ctrnn.gradients.recording.torch.recording import TorchRecording
from ctrnn.problem import Problem, Settings

#: the fastest first; the last takes any problem, one at a time
BACKENDS: tuple[type[Recording], ...] = (TorchRecording, RowsRecording, StepperRecording)


def backend_for(problems: Sequence[Problem], settings: Settings, needs: Needs) -> type[Recording] | None:
    """The backend that takes all of these problems together; None where they have to go one by one."""
    return next((backend for backend in BACKENDS if backend.supports(problems, settings, needs)), None)


def takes_together(problems: Sequence[Problem], settings: Settings, needs: Needs) -> bool:
    """Whether one recording takes several trials in lockstep.

    One alone is not worth it, but on a device all go there.
    """
    return (len(problems) > 1 or needs.device is not None) and backend_for(problems, settings, needs) is not None


class Prepared:
    """Problems that a recording takes together, made ready to be run many times.

    What does not depend on numbers (the backend, checks, the course, compiled addresses, working memory) is found at
    the first run and used again; later runs give the same problems with other numbers of the field or other r0
    (``Problem.replace``). One run at a time goes in the memory that is kept; what runs meanwhile on another thread has
    its own.
    """

    def __init__(self, problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs) -> None:
        backend = backend_for(problems, settings, needs)
        assert backend is not None
        self.backend, self.settings, self.caller, self.needs = backend, settings, caller, needs
        #: problems in a recording, for memory's sake
        self.some = backend.at_once(problems, settings, needs)
        self._kept: dict[int, Recording] = {}

    def totals(self, problems: Sequence[Problem], schedule: Schedule) -> Totals:
        """What a schedule finds along the problems' runs."""
        found, B = [], len(problems)
        with self.backend.threads(problems[0], self.settings):
            if self.backend.controls_steps and is_controlled(self.settings):
                (problem,), whole_way = problems, self.needs.whole_way
                first: Any = self._recording(problems, 0, 1) if whole_way else None
                totals = controlled(problem, self.settings, self.caller, schedule, whole_way, first)
                if whole_way:
                    self._kept[0] = first
                return totals
            for b in range(0, B, self.some):
                with self._recording(problems[b : b + self.some], b, B) as recording:
                    found.append(schedule(recording))
                if self.some >= B:
                    self._kept[b] = recording
        return summed(found)

    def _recording(self, problems: Sequence[Problem], b: int, B: int) -> Recording:
        kept = self._kept.pop(b, None)  # whoever takes it has it alone
        if kept is not None and kept.again(problems):
            return kept
        first = b if self.some < B else None
        return self.backend.record(problems, self.settings, self.caller, self.needs, first)


def recorded(problems: Sequence[Problem], settings: Settings, caller: str, needs: Needs, schedule: Schedule) -> Totals:
    """What a schedule finds along the problems' runs, as many of them at a time as memory allows."""
    if len(problems) > 1:
        return Prepared(problems, settings, caller, needs).totals(problems, schedule)
    # one problem, once: small systems notice every call in between
    backend = backend_for(problems, settings, needs)
    assert backend is not None
    backend.at_once(problems, settings, needs)
    with backend.threads(problems[0], settings):
        if backend.controls_steps and is_controlled(settings):
            return controlled(problems[0], settings, caller, schedule, needs.whole_way)
        with backend.record(problems, settings, caller, needs) as recording:
            return schedule(recording)
