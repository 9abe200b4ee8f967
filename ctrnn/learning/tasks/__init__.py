"""Tasks to learn: each a function that gives trials, and by ``stream`` a stream, the same to the bit for the same seed.

>>> from ctrnn.learning import tasks
>>> task = tasks.make("flip-flop", bits=2, trials=8)
>>> task.x.shape, task.y.shape
((8, 200, 2), (8, 200, 2))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ctrnn.errors import UnknownNameError
from ctrnn.learning.tasks.decisions import context_decision, t_maze
from ctrnn.learning.tasks.memory import adding, copy, delayed_match, flip_flop
from ctrnn.learning.tasks.series import hare_lynx, sunspots
from ctrnn.learning.tasks.signals import lorenz, lorenz_generation, mackey_glass, sine
from ctrnn.learning.tasks.task import Stream, Task

#: name -> the function that makes the task
TASKS: dict[str, Callable[..., Task]] = {
    "flip-flop": flip_flop,
    "adding": adding,
    "copy": copy,
    "delayed-match": delayed_match,
    "context-decision": context_decision,
    "t-maze": t_maze,
    "sine": sine,
    "lorenz": lorenz,
    "lorenz-generation": lorenz_generation,
    "mackey-glass": mackey_glass,
    "hare-lynx": hare_lynx,
    "sunspots": sunspots,
}

#: the names that `make` takes
NAMES = tuple(TASKS)


def options(name: str) -> dict[str, Any]:
    """The options of a task with their defaults.

    Parameters
    ----------
    name : str
        One of ``NAMES``.

    Returns
    -------
    dict
        Option -> default.

    Raises
    ------
    UnknownNameError
        For another name.

    Examples
    --------
    >>> options("adding")
    {'trials': 64, 'steps': 50, 'dt': 1.0, 'seed': 0}
    """
    if not isinstance(name, str) or name not in TASKS:
        raise UnknownNameError("task", name, NAMES)
    return {key: parameter.default for key, parameter in inspect.signature(TASKS[name]).parameters.items()}


def make(name: str, **given: Any) -> Task:
    """A task by its name, as experiment files and command lines ask for it.

    Parameters
    ----------
    name : str
        One of ``NAMES``.
    **given
        Options of the function of that name; lists stand for tuples.

    Returns
    -------
    Task
        Its trials.

    Raises
    ------
    UnknownNameError
        For a task or an option that there is not.
    UsageError
        As the function does.

    Examples
    --------
    >>> make("sunspots", horizon=5).x.shape
    (1, 304, 1)
    """
    known = options(name)
    for key in given:
        if key not in known:
            raise UnknownNameError(f"option of the task {name}", key, known)
    return TASKS[name](**given)


__all__ = [
    "NAMES",
    "TASKS",
    "Stream",
    "Task",
    "adding",
    "context_decision",
    "copy",
    "delayed_match",
    "flip_flop",
    "hare_lynx",
    "lorenz",
    "lorenz_generation",
    "mackey_glass",
    "make",
    "options",
    "sine",
    "sunspots",
    "t_maze",
]
