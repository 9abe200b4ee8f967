"""Learning: fit a field to data, and say how well the data determine it.

The torch side of learning is in the modules beside these: `ctrnn.odeint`, `ctrnn.as_module`, `ctrnn.RestLayer`. What
trains by torch is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ctrnn.learning import tasks
from ctrnn.learning.data import Dataset
from ctrnn.learning.fit import Fit, fit
from ctrnn.learning.laplace import Laplace, laplace

if TYPE_CHECKING:
    from ctrnn.learning.online.compare import LearnerComparison, compare_learners
    from ctrnn.learning.online.learner import OnlineLearner
    from ctrnn.learning.trained import Training
    from ctrnn.learning.training import train

#: what needs torch, and where it is
_LAZY = {
    "LearnerComparison": "ctrnn.learning.online.compare",
    "compare_learners": "ctrnn.learning.online.compare",
    "OnlineLearner": "ctrnn.learning.online.learner",
    "Training": "ctrnn.learning.trained",
    "prepare": "ctrnn.learning.training",
    "train": "ctrnn.learning.training",
}

__all__ = [
    "Dataset",
    "Fit",
    "Laplace",
    "LearnerComparison",
    "OnlineLearner",
    "Training",
    "compare_learners",
    "fit",
    "laplace",
    "tasks",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
