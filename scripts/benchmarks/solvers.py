"""The systems of systems.py in every library: factories ``make(system)(rtol)`` -> a program that gives

    solutions        y at the output times (T, n)
    sensitivities    dy/dp at the output times (T, n, m), beside y
    gradients        dl/dp (m,) of l = Σ y_i(t1)/s_i

JAX's are compiled once, with the tolerance as an argument; SciPy gets compiled F and J, and as "solve_ivp" F in Python,
as its users write it; CasADi derives its Jacobians itself. The absolute tolerance is a part of the relative one, the
same for all. A library that is not installed has no entries.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from systems import System, scipy_augmented, scipy_solution

import ctrnn

Array = np.ndarray
Make = Callable[[System], Callable[[float], Callable[[], Array]]]
LONG = {"max_steps": 200_000}


def our_problem(system: System, with_loss: bool = False) -> ctrnn.Problem:
    loss = " + ".join(f"y{i}/{s:.6g}" for i, s in enumerate(system.scale)) if with_loss else None
    objective = ctrnn.Objective(loss, at=system.times[-1:]) if loss else None
    return ctrnn.Problem(system.field, system.y0, (0.0, system.times[-1]), objective=objective)


def our_solution(solver: str) -> Make:
    def make(system: System) -> Any:
        problem, how = our_problem(system), LONG | {"solver": solver, "save_at": system.times}
        return lambda rtol: lambda: ctrnn.simulate(problem, rtol=rtol, atol=rtol * system.atol, **how).r

    return make


def our_sensitivities(solver: str) -> Make:
    def make(system: System) -> Any:
        problem, how = our_problem(system), LONG | {"solver": solver, "save_at": system.times}
        return lambda rtol: lambda: ctrnn.sensitivities(problem, rtol=rtol, atol=rtol * system.atol, **how).p

    return make


def our_gradient(method: str, solver: str) -> Make:
    def make(system: System) -> Any:
        problem, how = our_problem(system, with_loss=True), LONG | {"method": method, "solver": solver}
        return lambda rtol: lambda: ctrnn.gradient(problem, rtol=rtol, atol=rtol * system.atol, **how).vector

    return make


def through_scipy(solver: str, augmented: bool) -> Make:
    solve = (lambda *a: scipy_augmented(*a)[1]) if augmented else scipy_solution
    return lambda system: lambda rtol: lambda: solve(system, solver, rtol)


def through_solve_ivp(solver: str) -> Make:
    return lambda system: lambda rtol: lambda: scipy_solution(system, solver, rtol, is_compiled=False)


def diffrax_solve(system: System, solver: str, adjoint: Any, last: bool = False) -> Any:
    """(p, rtol) -> y at the output times, or at the last, onto which the steps are clipped: the dense output of
    Kvaerno5 is of order 3."""
    import diffrax
    import jax.numpy as jnp

    times = jnp.asarray(system.times[-1:] if last else system.times, dtype=float)
    y0 = jnp.asarray(system.y0, dtype=float)
    term = diffrax.ODETerm(lambda t, y, p: jnp.stack(system.rate(y, p)))

    def solve(p: Any, rtol: Any) -> Any:
        control = diffrax.PIDController(rtol=rtol, atol=rtol * system.atol)
        if times.size > 1:
            control = diffrax.ClipStepSizeController(control, step_ts=times)
        method, saved = getattr(diffrax, solver)(), diffrax.SaveAt(ts=times)
        return diffrax.diffeqsolve(
            term,
            method,
            0.0,
            times[-1],
            None,
            y0,
            p,
            saveat=saved,
            stepsize_controller=control,
            max_steps=2**14,
            adjoint=adjoint,
            throw=False,
        ).ys

    return solve


def through_diffrax(solver: str, quantity: str) -> Make:
    def make(system: System) -> Any:
        import diffrax
        import jax
        import jax.numpy as jnp

        p = jnp.asarray(system.p)
        if quantity == "solutions":
            call = jax.jit(diffrax_solve(system, solver, diffrax.RecursiveCheckpointAdjoint()))
        elif quantity == "sensitivities":
            call = jax.jit(jax.jacfwd(diffrax_solve(system, solver, diffrax.ForwardMode())))
        else:
            solve = diffrax_solve(system, solver, diffrax.RecursiveCheckpointAdjoint(), last=True)
            scale = jnp.asarray(system.scale)
            call = jax.jit(jax.grad(lambda p, rtol: jnp.sum(solve(p, rtol)[-1] / scale)))
        return lambda rtol: lambda: np.asarray(call(p, rtol))

    return make


def through_torchdiffeq(solver: str, quantity: str) -> Make:
    def make(system: System) -> Any:
        import torch
        import torchdiffeq

        torch.set_num_threads(1)
        p = torch.nn.Parameter(torch.tensor(system.p, dtype=torch.float64))
        y0, scale = (torch.tensor(v, dtype=torch.float64) for v in (system.y0, system.scale))
        t = torch.tensor((0.0, *system.times), dtype=torch.float64)

        class F(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.p = p

            def forward(self, t: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return torch.stack(system.rate(y.unbind(), self.p.unbind()))

        field = F()

        def solution(rtol: float) -> Array:
            with torch.no_grad():
                return torchdiffeq.odeint(field, y0, t, rtol=rtol, atol=rtol * system.atol, method=solver)[1:].numpy()

        def gradient(rtol: float) -> Array:
            field.zero_grad()
            solve = torchdiffeq.odeint_adjoint if quantity == "adjoint" else torchdiffeq.odeint
            ends = solve(field, y0, t[[0, -1]], rtol=rtol, atol=rtol * system.atol, method=solver)[-1]
            (ends / scale).sum().backward()
            return field.p.grad.numpy().copy()

        run = solution if quantity == "solutions" else gradient
        return lambda rtol: lambda: run(rtol)

    return make


def through_cvodes(quantity: str, adams: bool = False) -> Make:
    def make(system: System) -> Any:
        import casadi

        y, p = casadi.SX.sym("y", system.n), casadi.SX.sym("p", system.m)
        rate = casadi.vertcat(*system.rate(casadi.vertsplit(y), casadi.vertsplit(p)))
        times = system.times[-1:] if quantity == "gradients" else system.times
        start = casadi.DM(system.y0), casadi.DM(system.p)
        n, m, T = system.n, system.m, len(times)

        def program(rtol: float) -> Callable[[], Array]:
            options: dict[str, Any] = {
                "reltol": rtol,
                "abstol": rtol * system.atol,
                "max_num_steps": 10**6,
                "fsens_err_con": True,
            }
            if adams:
                options |= {"linear_multistep_method": "adams", "nonlinear_solver_iteration": "functional"}
            solve = casadi.integrator("solve", "cvodes", {"x": y, "p": p, "ode": rate}, 0.0, list(times), options)
            if quantity == "solutions":
                return lambda: solve(x0=start[0], p=start[1])["xf"].full().T
            found = solve(x0=start[0], p=start[1])
            known = {"x0": start[0], "p": start[1], "out_xf": found["xf"], "out_qf": found["qf"], "out_zf": found["zf"]}
            if quantity == "sensitivities":
                forward, seeds = solve.forward(m), casadi.DM.eye(m)
                return lambda: forward(**known, fwd_p=seeds)["fwd_xf"].full().reshape(n, m, T).transpose(2, 0, 1)
            free = casadi.MX.sym("p", m)
            loss = casadi.sum1(solve(x0=start[0], p=free)["xf"] / casadi.DM(system.scale))
            gradient = casadi.Function("gradient", [free], [casadi.gradient(loss, free)])
            return lambda: gradient(start[1]).full().ravel()

        return program

    return make


def programs(quantity: str, system: System) -> dict[str, Make]:
    """name -> factory of what solves this system for this quantity; ours first."""
    explicit, implicit = ("tsit5", "dopri5", "dop853"), ("kvaerno5", "kencarp4")
    mine = implicit if system.stiff else explicit
    found: dict[str, Make] = {}
    if quantity == "solutions":
        found |= {f"ctrnn {s}": our_solution(s) for s in mine}
    elif quantity == "sensitivities":
        found |= {f"ctrnn {s}": our_sensitivities(s) for s in mine}
    else:
        found |= {f"ctrnn {s}, {way}": our_gradient(way, s) for s in (mine[0], mine[-1]) for way in ("adjoint", "rtrl")}
    if quantity != "gradients":
        scipy = ("Radau", "BDF", "LSODA") if system.stiff else ("RK45", "DOP853", "LSODA")
        found |= {f"SciPy {s}": through_scipy(s, quantity == "sensitivities") for s in scipy}
        if quantity == "solutions" and not system.stiff:
            found |= {f"solve_ivp {s}, F in Python": through_solve_ivp(s) for s in scipy}
    if find_spec("diffrax"):
        names = ("Kvaerno5",) if system.stiff else ("Tsit5",)
        found |= {f"diffrax {s}": through_diffrax(s, quantity) for s in names}
    if find_spec("torchdiffeq") and not system.stiff:
        if quantity == "solutions":
            found |= {f"torchdiffeq {s}": through_torchdiffeq(s, quantity) for s in ("dopri5", "dopri8")}
        elif quantity == "gradients":
            found["torchdiffeq dopri5"] = through_torchdiffeq("dopri5", quantity)
            found["torchdiffeq dopri5, adjoint"] = through_torchdiffeq("dopri5", "adjoint")
    if find_spec("casadi"):
        found["CVODES BDF"] = through_cvodes(quantity)
        if not system.stiff:
            found["CVODES Adams"] = through_cvodes(quantity, adams=True)
    return found
