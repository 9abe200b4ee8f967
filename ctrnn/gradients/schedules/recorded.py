"""From a schedule to a gradient: the recording that can do what the schedule needs, and the totals it finds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from ctrnn.gradients.method import GradientMethod
from ctrnn.gradients.recording.base import Recording, Totals
from ctrnn.gradients.recording.select import Prepared, recorded
from ctrnn.gradients.result import Gradient, result
from ctrnn.problem import Problem, Settings


class RecordedMethod(GradientMethod):
    """A gradient method that is a schedule over recorded steps.

    Exact for the steps taken, or an approximation through them.

    ``needs`` says what it asks of a recording; None for those of its modes that are no schedule.
    """

    @abstractmethod
    def schedule(self, recording: Recording) -> Totals:
        """Forward and back through a recording that meets the needs."""

    def prepare(self, problems: Sequence[Problem], settings: Settings) -> Prepared:
        """Problems made ready to be run many times: ``prepare(…).totals(problems, method.schedule)``."""
        assert self.needs is not None
        return Prepared(problems, settings, self.name, self.needs)

    def totals(self, problems: Sequence[Problem], settings: Settings) -> Totals:
        """Of problems that one recording takes together, as many at a time as memory allows."""
        assert self.needs is not None
        return recorded(problems, settings, self.name, self.needs, self.schedule)

    def compute(self, problem: Problem, settings: Settings) -> Gradient:
        """The gradient of one problem; raises NotFiniteError, and what the recording raises."""
        found = self.totals([problem], settings)
        return result(problem, self.name, float(found.loss[0]), found.vector, found.r0[0], found.readout, found.stats)
