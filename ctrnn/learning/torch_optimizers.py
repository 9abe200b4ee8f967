"""Optimisers and schedules of torch, by name or as objects: one place for all that steps parameters by their gradient.

    optimiser = make_optimizer("adamw", module.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = make_scheduler({"name": "CosineAnnealingLR", "T_max": 100}, optimiser)

Weight decay is for matrices: biases, time constants and single numbers are left as they are, whether it is asked for
or the optimiser's own, as AdamW's of 0.01.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.numbers import number

if TYPE_CHECKING:
    import torch

#: not for parameters that step by their gradient alone: abstract, by a closure, sparse, for matrices only
_NOT_PLAIN = {"optimizer", "lbfgs", "sparseadam", "muon"}
#: abstract, or made of other schedules
_NOT_BY_NAME = {"lrscheduler", "_lrscheduler", "sequentiallr", "chainedscheduler", "lambdalr", "multiplicativelr"}

#: those that look at the shape of a parameter; all others treat each number by itself
_BY_SHAPE = {"adafactor"}


def is_elementwise(optimizer: Any) -> bool:
    """Whether an optimiser, known by its name, treats each number by itself: then tensors may lie in one."""
    name, _ = _named("optimizer", optimizer)
    return name is not None and name.lower() not in _BY_SHAPE


def fused(optimizer: Any) -> Any:
    """An optimiser by name in torch's fused form, where it has one: the same step in one pass over memory, not ten."""
    name, options = _named("optimizer", optimizer)
    cls = None if name is None else torch_optimizers().get(name.lower())
    if cls is None or "fused" not in inspect.signature(cls).parameters or {"fused", "foreach"} & options.keys():
        return optimizer
    return {"name": name, **options, "fused": True}


def torch_optimizers() -> dict[str, Any]:
    """The classes of torch.optim that step on dense parameters from their gradient alone, by name in lower case."""
    import torch

    return {
        name.lower(): cls
        for name, cls in sorted(vars(torch.optim).items())
        if isinstance(cls, type) and issubclass(cls, torch.optim.Optimizer) and name.lower() not in _NOT_PLAIN
    }


def torch_schedulers() -> dict[str, Any]:
    """The classes of torch.optim.lr_scheduler that numbers describe, by their names."""
    import torch

    rooms = torch.optim.lr_scheduler
    return {
        name: cls
        for name, cls in sorted(vars(rooms).items())
        if isinstance(cls, type)
        and issubclass(cls, (rooms.LRScheduler, rooms.ReduceLROnPlateau))
        and name.lower() not in _NOT_BY_NAME
    }


def decay_of(optimizer: Any, weight_decay: float | None) -> float:
    """The weight decay: as given, or as among the optimiser's options, or torch's own; 0 of a callable.

    Raises UsageError for one that is no number, that the optimiser does not have, or that is given twice.
    """
    name, options = _named("optimizer", optimizer)
    cls = optimizer if isinstance(optimizer, type) else torch_optimizers().get(name.lower()) if name else None
    own = None if cls is None else inspect.signature(cls).parameters.get("weight_decay")
    if weight_decay is None:
        found = options.get("weight_decay", 0.0 if own is None else own.default)
        return number("weight_decay", found, "a number, at least 0", 0.0)
    weight_decay = number("weight_decay", weight_decay, "a number, at least 0", 0.0)
    if "weight_decay" in options:
        given = f"{weight_decay:g}, and {options['weight_decay']!r} among the options of {name}"
        raise UsageError("weight_decay", given=given, allowed="one of them")
    if weight_decay and cls is not None and own is None:
        raise UsageError("weight_decay", given=weight_decay, allowed=f"0 with {cls.__name__}", hint='optimizer="adamw"')
    return weight_decay


def make_optimizer(
    optimizer: Any, parameters: Iterable[torch.Tensor], lr: float = 1e-3, weight_decay: float | None = None
) -> torch.optim.Optimizer:
    """An optimiser of these parameters.

    Parameters
    ----------
    optimizer : str, dict, class or callable
        A name of torch.optim ("adam", "AdamW", "sgd" …), a table of it with its options ({"name": "sgd", "momentum":
        0.9}), or what makes an optimiser of a list of parameters, as ``lambda p: torch.optim.Adam(p, lr=1e-3)``.
    parameters : iterable of torch.Tensor
        What it steps.
    lr : float, default 1e-3
        The learning rate; at least 0. A callable has its own.
    weight_decay : float, optional
        In the optimiser's sense, of matrices only; None: the optimiser's own, 0.01 of AdamW, 0 of most others.

    Returns
    -------
    torch.optim.Optimizer
        Ready to step.

    Raises
    ------
    UnknownNameError
        For another name.
    UsageError
        For a learning rate, a decay or options that are not allowed, a decay that is given twice, and for what makes no
        optimiser.

    Examples
    --------
    >>> import torch
    >>> w = torch.zeros(3, 3, requires_grad=True)
    >>> type(make_optimizer("AdamW", [w], lr=0.01, weight_decay=0.1)).__name__
    'AdamW'
    """
    parameters = list(parameters)
    lr = number("lr", lr, "a learning rate, at least 0", 0.0)
    name, options = _named("optimizer", optimizer)
    decay = decay_of(optimizer, weight_decay)
    groups: list[Any] = [{"params": parameters}]
    if decay:
        matrices = [p for p in parameters if p.ndim >= 2]
        others = [p for p in parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
    elif decay_of(optimizer, None):
        groups[0] |= {"weight_decay": 0.0}
    if name is not None:
        known = torch_optimizers()
        if name.lower() not in known:
            raise UnknownNameError("optimizer", name, known)
        cls = known[name.lower()]
        _check_options("optimizer", name, cls, options, ("params",))
        return _made("optimizer", lambda: cls(groups, **{"lr": lr, **options}))
    if not callable(optimizer):
        allowed = "a name of torch.optim, a table with a name, or what makes an optimiser of parameters"
        raise UsageError("optimizer", given=optimizer, allowed=allowed, hint='"adam"')
    takes_lr = isinstance(optimizer, type)
    made = _made("optimizer", lambda: optimizer(groups, lr=lr) if takes_lr else optimizer(groups))
    if not hasattr(made, "param_groups"):
        raise UsageError("optimizer", given=made, allowed="a torch.optim.Optimizer from the callable")
    return made


def make_scheduler(scheduler: Any, optimizer: torch.optim.Optimizer, steps: int | None = None) -> Any:
    """A schedule of the learning rate.

    Parameters
    ----------
    scheduler : None, str, dict, or callable
        A name of torch.optim.lr_scheduler, a table of it with its options ({"name": "StepLR", "step_size": 30}), or
        what makes one of an optimiser.
    optimizer : torch.optim.Optimizer
        Whose rate it sets.
    steps : int, optional
        Steps that will be taken: what ``T_max``, ``total_steps`` and ``total_iters`` are where they are not given.

    Returns
    -------
    LRScheduler or None
        As torch's.

    Raises
    ------
    UnknownNameError, UsageError
        For another name, and for options that are lacking or not allowed.

    Examples
    --------
    >>> import torch
    >>> optimizer = make_optimizer("sgd", [torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = make_scheduler({"name": "ExponentialLR", "gamma": 0.5}, optimizer)
    >>> optimizer.step(), schedule.step()
    (None, None)
    >>> optimizer.param_groups[0]["lr"]
    0.5
    """
    if scheduler is None:
        return None
    name, options = _named("scheduler", scheduler)
    if name is None:
        if not callable(scheduler):
            allowed = "a name of torch.optim.lr_scheduler, a table with a name, or what makes one of an optimiser"
            raise UsageError("scheduler", given=scheduler, allowed=allowed, hint='"CosineAnnealingLR"')
        made = _made("scheduler", lambda: scheduler(optimizer))
        if not hasattr(made, "step"):
            raise UsageError("scheduler", given=made, allowed="a scheduler of torch from the callable")
        return made
    known = torch_schedulers()
    found = {key.lower(): key for key in known}
    if name.lower() not in found:
        raise UnknownNameError("scheduler", name, known)
    cls = known[found[name.lower()]]
    _check_options("scheduler", name, cls, options, ("optimizer",))
    given = inspect.signature(cls).parameters
    for key in ("T_max", "total_steps", "total_iters"):
        if key in given and key not in options and steps is not None:
            options = options | {key: steps}
    if "max_lr" in given and "max_lr" not in options:
        options = options | {"max_lr": optimizer.param_groups[0]["lr"]}
    for key, parameter in given.items():
        if parameter.default is parameter.empty and key not in options and key != "optimizer":
            hint = f'{{"name": "{name}", "{key}": …}}'
            raise UsageError("scheduler", given=scheduler, allowed=f"{name} with its option {key}", hint=hint)
    return _made("scheduler", lambda: cls(optimizer, **options))


def _named(argument: str, given: Any) -> tuple[str | None, dict[str, Any]]:
    """The name and the options of what is given by name; None for an object."""
    if isinstance(given, str):
        return given, {}
    if isinstance(given, Mapping):
        options = dict(given)
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise UsageError(argument, given=dict(given), allowed="a table with a name", hint='{"name": …}')
        return name, options
    return None, {}


def _check_options(argument: str, name: str, cls: Any, options: Mapping[str, Any], own: tuple[str, ...]) -> None:
    known = [key for key in inspect.signature(cls).parameters if key not in own]
    for key in options:
        if key not in known:
            raise UnknownNameError(f"{argument} {name}", key, known)


def _made(argument: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise UsageError(argument, given=str(error), allowed="options that torch takes") from error
