"""Fit a field to an objective: the parameters w, and r0 if asked, at which the loss l is least.

The loss comes from ``loss.py``, the coordinates from ``transforms.py`` (positive quantities as logarithms), one descent
with the tests of its end from ``descent.py``, what was found is told by ``result.py``. Squared errors go to SciPy's
least squares with the exact Jacobian of their residuals, other losses to SciPy's or torch's optimisers with the
gradient of :func:`ctrnn.gradient`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctrnn.errors import CtrnnError, UsageError
from ctrnn.fields.checks import as_mapping
from ctrnn.learning.loss import Loss, Statement, quantities
from ctrnn.learning.minimise import AUTO, Minimum, chosen_optimizer, minimise
from ctrnn.learning.multistart import from_many
from ctrnn.learning.noise import noise_named
from ctrnn.learning.optimizers import LEAST_SQUARES
from ctrnn.learning.priors import Normal, priors_of
from ctrnn.learning.residuals import has_residuals
from ctrnn.learning.result import Fit, Valley
from ctrnn.learning.shooting import shoot
from ctrnn.numbers import flag, generator, positive, whole
from ctrnn.problem import Trials, checked_problem, is_noisy
from ctrnn.progress import track
from ctrnn.threads import one_blas_thread

__all__ = ["Fit", "fit"]

Array = NDArray[np.float64]


def fit(
    problem: Any,
    parameters: Sequence[str] | None = None,
    *,
    r0: bool = False,
    transform: str | Mapping[str, str] = "none",
    bounds: Mapping[str, Any] | None = None,
    fixed: Sequence[str] = (),
    prior: Mapping[str, Any] | None = None,
    regularisation: float | Mapping[str, float] | None = None,
    noise: Any = "normal",
    sigma: Any = None,
    robust: str = "linear",
    robust_scale: float = 1.0,
    optimizer: str = AUTO,
    multistart: int | None = None,
    spread: float = 0.3,
    seed: int = 0,
    shooting: Any = None,
    method: Any = "auto",
    solver: str = "tsit5",
    rtol: float = 1e-8,
    atol: float = 1e-10,
    dt: float | None = None,
    max_iterations: int = 200,
    learning_rate: float = 1e-2,
    callback: Callable[[int, float], Any] | None = None,
) -> Fit:
    """The parameters, initial state and read-out at which the objective of a problem is least.

    Parameters
    ----------
    problem : ctrnn.Problem, ctrnn.Trials or Fit
        With an objective; its values are the start. Of trials, the sum of their losses is made least: one set of
        parameters for all, and one read-out, which must be the same in all. A Fit goes on where it stands, as it was
        asked; of the other arguments only ``optimizer``, ``max_iterations``, ``learning_rate`` and ``callback`` count
        then.
    parameters : names of those to fit, all by default; the others stay
    r0 : bool
        Whether to fit the initial state too; of trials that were given (B, n), each trial's own, B n quantities; of
        trials that were given one r0 for all, that one.
    transform : "none", "log", or one of them by name, as {"a": "log", "r0": "log"}
    bounds : name -> (lower, upper)
        Names of parameters, "r0", or single entries as "W[0,1]" and "r0[prey]"; None is no bound. Natural units. The
        field's own bounds (signs of Dale's law, say) hold too.
    fixed : names, or single entries, that stay as they are
    prior : name -> (mean, sd), ("lognormal", mean, sd) of the logarithm, or an object of ctrnn.learning.priors
        What is known of a quantity before the data; enters as the residual (w − mean)/sd. The loss is then a negative
        log posterior, in which an observation of weight 1 has sigma = 1 unless ``sigma`` says otherwise. "sigma" is a
        name too, where that is estimated.
    regularisation : a number, or name -> number
        lambda of the penalty ½ lambda w²: the prior N(0, 1/lambda).
    noise : "normal", "lognormal" or "poisson"
        How data deviate, for squared errors at times; see ctrnn.learning.noise. In place of o − y, least squares then
        compare log o and log y, or counts by their deviance.
    sigma : None, "estimate", a number, (p,) or (K, p)
        The standard deviation of the observations. None: one for all, of which only the standard errors need to know,
        from the residuals. "estimate": one for each observable, a fitted quantity.
    robust, robust_scale : "linear", "soft_l1", "huber", "cauchy" or "arctan"; a number
        ρ(z²) in the place of z², beyond ``robust_scale`` (in the unit of the residual), so that outliers count less.
    optimizer : str
        "auto": least-squares where the objective is a squared error at times and at most 200 numbers are fitted, else
        L-BFGS-B. Or least-squares (also called gauss-newton), L-BFGS-B, BFGS, CG, SLSQP, TNC or trust-constr, which are
        SciPy's; newton-cg, on exact products with the Hessian; or a class of torch.optim in lower case: adam, adamw,
        sgd, rmsprop, ...
    multistart : int, optional
        How many starts: the given one, and others by a Sobol sequence, between the ``bounds`` where both are given,
        else within a relative ``spread`` about the start; on all cores. ``valleys`` tells where they ended.
    spread, seed : of these starts
    shooting : None, True, a number of pieces, or the times between them
        Multiple shooting first (ctrnn.learning.shooting): the solution in pieces that start at the data and are joined
        on the way. For oscillations over several cycles and for chaos, where one long solution makes many valleys. True
        is a piece for each interval between observations, at most 100.
    method : the method of the gradient, see :func:`ctrnn.gradient`; least squares take sensitivities
    solver, rtol, atol, dt : of every solution, see :func:`ctrnn.simulate`
    max_iterations : of the optimiser
    learning_rate : of a torch optimiser
    callback : called with (iteration, loss) after each iteration; of several starts, with (start, its least loss)

    Returns
    -------
    Fit

    Raises
    ------
    ctrnn.errors.UsageError
        For a call that is not possible.
    ctrnn.errors.SolverError
        If there is no solution at the start.
    ctrnn.errors.ConvergenceError
        If the loss or its gradient is not finite there, or the gradient is zero and the loss is not.

    Notes
    -----
    A read-out (V, c) of the objective is trained along. Bounds are kept: as bounds where the optimiser knows them, else
    by projection after each step of a torch optimiser. A trial point at which the solution fails is a rejected step:
    SciPy takes a shorter one, a torch optimiser goes back and halves its learning rate.

    ``converged`` is a claim about the end, not about the way (ctrnn.learning.convergence): the decrease that a
    Gauss–Newton step foretells is below 1e-7 of the loss, the step is small beside the quantities, and a polish by
    another method finds nothing either. An optimiser of SciPy that stops too early begins anew from there.

    Examples
    --------
    >>> import ctrnn
    >>> field = ctrnn.Equations({"r": "-k*r"}, parameters={"k": 1.0})
    >>> decay = ctrnn.Objective(target=np.exp([[-0.5], [-1.0]]), at=[1.0, 2.0])
    >>> problem = ctrnn.Problem(field, r0=[1.0], t_span=(0.0, 2.0), objective=decay)
    >>> found = ctrnn.fit(problem, transform="log")
    >>> print(f"k = {found.parameters['k']:.6f}")
    k = 0.500000
    """
    max_iterations = whole("max_iterations", max_iterations, 1, "a positive whole number")
    learning_rate = positive("learning_rate", learning_rate)
    if callback is not None and not callable(callback):
        raise UsageError("callback", given=callback, allowed="a function of the iteration and the loss, or None")
    before: Fit | None = problem if isinstance(problem, Fit) else None
    if before is not None:
        problem, statement = before.problem, before.statement
    else:
        if not isinstance(problem, Trials):
            checked_problem(problem).needs_objective("a fit")
        bounds = dict(as_mapping("bounds", {} if bounds is None else bounds))
        statement = Statement(
            quantities("parameters", parameters), flag("r0", r0), transform, bounds, quantities("fixed", fixed) or (),
            priors_of(prior), noise_named(noise), sigma, robust, robust_scale, method,
            {"solver": solver, "rtol": rtol, "atol": atol, "dt": dt},
        )  # fmt: skip
        statement = _regularised(statement, problem, regularisation)
    if shooting is not None and shooting is not False and not has_residuals(problem):
        raise UsageError("shooting", given=shooting, allowed="None, but for a squared error at observation times")
    if shooting is not None and shooting is not False and is_noisy(problem):
        raise UsageError("shooting", given=shooting, allowed="None, with noise: its path begins at t0")
    name = chosen_optimizer(optimizer, problem, statement)
    spread, _ = positive("spread", spread), generator(seed)
    past: list[float] = [] if before is None else list(before.history[:-1])

    # matrices of some hundred quantities are small: BLAS's threads would spin against each other
    one_thread: AbstractContextManager[Any] = one_blas_thread if name in LEAST_SQUARES else nullcontext()
    with one_thread, track(max_iterations, "fit") as update:

        def tell(k: int, l: float) -> None:
            update(k)
            if callback is not None:
                callback(k + len(past), l)

        sigma = None if before is None else before.sigma

        def descend(start: Any) -> Minimum:
            near, first = start, None
            if shooting is not None and shooting is not False:
                near, first = shoot(start, statement, shooting, sigma), Loss(statement.coordinates(start), statement)
            its = None if multistart is not None else tell
            found = minimise(near, statement, name, int(max_iterations), learning_rate, its, sigma)
            if first is not None:
                first.sigma = found.loss.sigma
                found.begun_at(first)
            return found

        valleys: tuple[Valley, ...] = ()
        failed = 0
        if multistart is None:
            found = descend(problem)
            initial = found.loss.initial
        else:
            found, valleys, failed, initial = from_many(problem, statement, multistart, spread, seed, descend, callback)
    loss, ending, message = found.loss, found.ending, found.ending.message
    least = _as_gradient_tells(loss)
    if loss.rejected:
        message += f"; trial points without a finite solution: {loss.rejected}"
    return Fit(
        problem=found.problem,
        start=problem if before is None else before.start,
        loss=least,
        initial_loss=initial if before is None else before.initial_loss,
        history=np.array([*past, *found.history]),
        converged=ending.converged,
        reason=ending.reason,
        message=message,
        evaluations=loss.evaluations + (0 if before is None else before.evaluations),
        rejected=loss.rejected + (0 if before is None else before.rejected),
        optimizer=name,
        statement=statement,
        sigma=np.asarray(loss.sigma) if statement.estimates_sigma else None,
        valleys=valleys,
        failed=failed,
    )


def _as_gradient_tells(loss: Loss) -> float:
    """The loss as ctrnn.gradient has it, where that is the same but for the solver's error.

    Sensitivities take other steps.
    """
    if not loss.by_residuals or not loss.statement.is_plain:
        return loss.least
    try:
        same = loss.like(by_residuals=False)
        same.begin()
    except CtrnnError:
        return loss.least
    return same.least if abs(same.least - loss.least) <= 1e-3 * abs(loss.least) else loss.least


def _regularised(statement: Statement, problem: Any, strength: float | Mapping[str, float] | None) -> Statement:
    """With a prior N(0, 1/lambda) for each name of the penalty."""
    if strength is None:
        return statement
    if not isinstance(strength, Mapping):
        names = statement.coordinates(problem).names
        strength = {name: strength for name in names if name not in statement.prior}
    priors = dict(statement.prior)
    for name, value in strength.items():
        value = positive("regularisation", value, "a positive number, or a table name -> positive number")
        if name in priors:
            allowed = f"a prior or a penalty of {name}, not both"
            raise UsageError("regularisation", given=dict(strength), allowed=allowed)
        priors[name] = Normal(0.0, value**-0.5)
    return replace(statement, prior=priors)
