"""What moving weights do: P, carried while they moved, beside a fresh one with today's weights.

The textbook's P_t is made of Φ_s, C_s at the weights of their own steps. Had the weights always been what they are now,
it would be another. Over a window from a stored start s to now, t,

    carried    g = ∂ℓ/∂r P_t                 as the learner's rule has it
    fresh      g* = ∂ℓ/∂r (Φ* P_s + C*)      exact, along the same inputs from r_s, with today's weights at each step

with one row, ∂ℓ/∂r of the last loss that was seen. P_s is what the exact rule carried at s, so that at rest (lr = 0)
both are equal to round-off; of other rules nothing exact is known of the time before s, unless the run began there:
P_s = 0, and the window should be longer than the system remembers. The state that the fresh pass ends in differs from
the present one too; how much, is said beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ctrnn.errors import UsageError
from ctrnn.fields.base import Array
from ctrnn.gradients.rules.exact import ExactRule
from ctrnn.kernels.rules.loop import COUNTS


@dataclass(frozen=True)
class Drift:
    """What moving weights do to the gradient.

    Attributes
    ----------
    relative_error : float
        ‖g − g*‖/‖g*‖ of the carried gradient against the fresh one.
    cosine : float
        Of the angle between both.
    state : float
        ‖r − r*‖/‖r*‖ of the present states against those where the fresh pass ends.
    window : int
        Steps from the stored start to now.
    is_whole : bool
        Whether the fresh pass knows all influence from before the window; False: it begins with P = 0 in mid-run.
    """

    relative_error: float
    cosine: float
    state: float
    window: int
    is_whole: bool

    def __repr__(self) -> str:
        begun = "" if self.is_whole else ", without the influence from before"
        return (
            f"Drift over {self.window} steps{begun}: relative error {self.relative_error:.3g}, "
            f"cosine {self.cosine:.6f}, state {self.state:.3g}"
        )


@dataclass
class _Start:
    """A point from which a fresh pass may begin: steps, states, and what the rules carried, where they are exact."""

    steps: int
    r: Array
    carried: list[dict[str, Array]] | None
    is_whole: bool


class Window:
    """The inputs since a stored start. Two starts are kept, so that one is always ``size`` steps ago, if there were."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.starts: list[_Start] = []
        #: inputs (B, channels) of the steps since the first start, and ∂ℓ/∂r (B, n) of the last loss
        self.inputs: list[Array] = []
        self.row: Array | None = None

    def begin(self, learner: Any, all_lanes: bool = True) -> None:
        """A run that begins, or begins anew, in all lanes or in some."""
        self.starts, self.inputs, self.row = [], [], None
        if self.size:
            self.starts.append(_start(learner, all_lanes))

    def room(self, learner: Any) -> int:
        """Steps until the next start is stored."""
        return self.size - (learner.steps - self.starts[-1].steps) if self.size else 2**62

    def take(self, learner: Any, x: Array, _: Array, todo: Array) -> None:
        """Steps with the inputs x (T, B, channels), no more than there was room for."""
        if not self.size:
            return
        self.inputs += list(x)
        if todo[:, COUNTS].any():
            self.row = learner._loop.l_r.copy()
        if learner.steps - self.starts[-1].steps >= self.size:
            self.starts.append(_start(learner, False))
        if len(self.starts) > 2:
            gone = self.starts.pop(0)
            del self.inputs[: self.starts[0].steps - gone.steps]

    def measure(self, learner: Any) -> Drift:
        """The drift over the window; raises UsageError where there is nothing to measure."""
        if not self.size:
            raise UsageError(
                "drift_window", given=0, allowed="a number of steps, of a learner whose drift is asked for"
            )
        if self.row is None or not self.inputs:
            raise UsageError("drift", given="no loss", allowed="a step with a loss, since the last reset of all lanes")
        start, loop = self.starts[0], learner._loop
        fresh = loop.beside(start.r, start.steps, ExactRule())
        for memory, carried in zip(fresh.memories, start.carried or [], strict=False):
            memory.load_state_dict(carried)
        x = np.array(self.inputs)
        fresh.go(x, np.zeros((*x.shape[:2], learner._observer.target_size + 1)), np.zeros((len(x), 2), dtype=np.int64))
        ours, theirs = (
            loop.lane.vector(sum((m.pull(row) for m, row in zip(all_of, self.row, strict=True)), loop.lane.zeros()))
            for all_of in (loop.memories, fresh.memories)
        )
        size = float(np.linalg.norm(theirs))
        both = size * float(np.linalg.norm(ours))
        return Drift(
            float(np.linalg.norm(ours - theirs)) / size if size else float("nan"),
            float(ours @ theirs) / both if both else float("nan"),
            float(np.linalg.norm(loop.r - fresh.r) / max(float(np.linalg.norm(fresh.r)), 1e-300)),
            len(self.inputs),
            start.is_whole,
        )

    # -- to disk and back

    def state(self, arrays: dict[str, Array]) -> dict[str, Any]:
        """What a file holds of it; arrays go to ``arrays``."""
        for i, start in enumerate(self.starts):
            arrays[f"drift {i} r"] = start.r
            for b, carried in enumerate(start.carried or []):
                arrays |= {f"drift {i} {b} {k}": v for k, v in carried.items()}
        if self.inputs:
            arrays["drift inputs"] = np.array(self.inputs)
        if self.row is not None:
            arrays["drift row"] = self.row
        return {"starts": [[start.steps, start.carried is not None, start.is_whole] for start in self.starts]}

    def restore(self, text: dict[str, Any], arrays: dict[str, Array]) -> None:
        """The same again."""
        self.starts = []
        for i, (steps, has_carried, is_whole) in enumerate(text["starts"]):
            r, carried = arrays[f"drift {i} r"], None
            if has_carried:
                carried = [
                    {k.removeprefix(f"drift {i} {b} "): v for k, v in arrays.items() if k.startswith(f"drift {i} {b} ")}
                    for b in range(len(r))
                ]
            self.starts.append(_Start(steps, r, carried, is_whole))
        self.inputs = list(arrays.get("drift inputs", []))
        self.row = arrays.get("drift row")


def _start(learner: Any, is_anew: bool) -> _Start:
    """Here; is_anew: whether P = 0 in all lanes."""
    is_exact = learner.rule.is_exact
    carried = [memory.state_dict() for memory in learner._loop.memories] if is_exact and not is_anew else None
    return _Start(learner.steps, learner._loop.r.copy(), carried, is_exact or is_anew)
