"""ctrnn: solve, differentiate and analyse dr/dt = F(r, w, x).

Names are imported when they are first used, so that ``import ctrnn`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Equations": "ctrnn.fields.equations",
    "RateNetwork": "ctrnn.fields.networks.rate",
    "GRUNetwork": "ctrnn.fields.networks.gated",
    "LSTMNetwork": "ctrnn.fields.networks.gated",
    "LiquidNetwork": "ctrnn.fields.networks.liquid",
    "LinearNetwork": "ctrnn.fields.networks.linear",
    "MLPField": "ctrnn.fields.networks.perceptron",
    "TorchField": "ctrnn.fields.torch_field",
    "Field": "ctrnn.fields.base",
    "Problem": "ctrnn.problem",
    "WhiteNoise": "ctrnn.noise",
    "Objective": "ctrnn.objective",
    "Event": "ctrnn.events",
    "EventObjective": "ctrnn.events",
    "Readout": "ctrnn.losses",
    "Trajectory": "ctrnn.trajectory",
    "Stats": "ctrnn.trajectory",
    "Trials": "ctrnn.problem",
    "simulate": "ctrnn.solvers.simulate",
    "ensemble": "ctrnn.solvers.ensemble",
    "Ensemble": "ctrnn.solvers.ensemble",
    "gradient": "ctrnn.gradients.api",
    "value_and_gradient": "ctrnn.gradients.api",
    "Gradient": "ctrnn.gradients.result",
    "RTRL": "ctrnn.gradients.schedules.rtrl",
    "Adjoint": "ctrnn.gradients.schedules.adjoint",
    "TruncatedBPTT": "ctrnn.gradients.schedules.truncated",
    "RTRLStream": "ctrnn.gradients.online.stream",
    "RFLO": "ctrnn.gradients.online.rflo",
    "SnAp": "ctrnn.gradients.online.snap",
    "EProp": "ctrnn.gradients.online.eprop",
    "UORO": "ctrnn.gradients.online.uoro",
    "KFRTRL": "ctrnn.gradients.online.kronecker",
    "Sketch": "ctrnn.gradients.online.sketch",
    "Autograd": "ctrnn.gradients.independent.autograd",
    "ComplexStep": "ctrnn.gradients.independent.differences",
    "CentralDifference": "ctrnn.gradients.independent.differences",
    "sensitivities": "ctrnn.gradients.sensitivity.sensitivities",
    "input_gradient": "ctrnn.gradients.sensitivity.input_times",
    "compare_gradients": "ctrnn.gradients.check.compare",
    "plan": "ctrnn.gradients.advise.plan",
    "hessian": "ctrnn.gradients.second.hessian",
    "hessian_vector_product": "ctrnn.gradients.second.hessian",
    "gauss_newton": "ctrnn.gradients.second.hessian",
    "equilibrium_hessian": "ctrnn.gradients.rest.second_order",
    "find_equilibrium": "ctrnn.analysis.equilibria",
    "equilibrium_gradient": "ctrnn.gradients.rest.equilibrium",
    "one_phase": "ctrnn.gradients.rest.one_phase",
    "equilibrium_propagation": "ctrnn.gradients.rest.nudging",
    "contrastive_gradient": "ctrnn.gradients.rest.nudging",
    "equilibrium": "ctrnn.learning.rest",
    "RestLayer": "ctrnn.learning.rest",
    "fit": "ctrnn.learning.fit",
    "laplace": "ctrnn.learning.laplace",
    "as_module": "ctrnn.learning.torch_module",
    "odeint": "ctrnn.learning.odeint",
    "odeint_adjoint": "ctrnn.learning.odeint",
    "odeint_event": "ctrnn.learning.torchdiffeq_call",
}
_MODULES = ("analysis", "errors", "fields", "gradients", "inputs", "inverse", "learning", "nn", "plotting", "solvers")

__all__ = sorted([*_WHERE, *_MODULES, "__version__"])

if TYPE_CHECKING:
    from ctrnn import analysis, errors, fields, gradients, inputs, inverse, learning, nn, plotting, solvers


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"ctrnn.{name}")
    else:
        raise AttributeError(f"module 'ctrnn' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
