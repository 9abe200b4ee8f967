"""One function a figure; each returns a matplotlib Figure and needs no display.

>>> import numpy as np
>>> from ctrnn import plotting
>>> from ctrnn.trajectory import Trajectory
>>> run = Trajectory(np.array([0.0, 1.0]), np.array([[1.0], [2.0]]), ("x",))
>>> figure = plotting.trajectory(run, time_label="t (s)")
>>> plotting.save(figure, "run.png")  # doctest: +SKIP
"""

from ctrnn.plotting.agreement import gradient_agreement
from ctrnn.plotting.bifurcation import bifurcation_diagram, cycle, two_parameter_diagram
from ctrnn.plotting.fitting import event_fit, fit, fit_history
from ctrnn.plotting.inverse import euler_step, hardware_error, inverse_convergence
from ctrnn.plotting.learners import learner_comparison
from ctrnn.plotting.learning import learning
from ctrnn.plotting.paths import paths
from ctrnn.plotting.plane import limit_cycle, phase_portrait, spectrum
from ctrnn.plotting.portrait import phase_line, portrait, projection
from ctrnn.plotting.rates import exponents_against, jacobian_products, lyapunov, transient_growth
from ctrnn.plotting.rest import learning_at_rest, one_phase, recalled
from ctrnn.plotting.style import save
from ctrnn.plotting.time import exact_versus_leak_only, sensitivities, trajectory
from ctrnn.plotting.training import training

__all__ = [
    "bifurcation_diagram",
    "cycle",
    "euler_step",
    "event_fit",
    "exact_versus_leak_only",
    "fit",
    "fit_history",
    "gradient_agreement",
    "exponents_against",
    "hardware_error",
    "inverse_convergence",
    "learner_comparison",
    "learning",
    "learning_at_rest",
    "jacobian_products",
    "limit_cycle",
    "lyapunov",
    "one_phase",
    "paths",
    "phase_line",
    "phase_portrait",
    "portrait",
    "projection",
    "recalled",
    "save",
    "sensitivities",
    "spectrum",
    "trajectory",
    "transient_growth",
    "training",
    "two_parameter_diagram",
]
