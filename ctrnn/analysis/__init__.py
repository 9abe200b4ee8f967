"""What a field does: its equilibria, their branches and bifurcations, and its Lyapunov exponents."""

from ctrnn.analysis.branch import Branch, SpecialPoint
from ctrnn.analysis.continuation import continue_equilibria, switch_branch
from ctrnn.analysis.cycle_branch import continue_cycles
from ctrnn.analysis.cycle_results import CycleBranch, SpecialCycle
from ctrnn.analysis.cycle_switch import double_period
from ctrnn.analysis.cycles import Cycle, limit_cycle
from ctrnn.analysis.equilibria import Equilibrium, find_equilibrium
from ctrnn.analysis.fixed_points import FixedPoints, fixed_points

# a use of the variational equation, as the gradients are, and one of them asks for it: so it lives beside them
from ctrnn.analysis.lyapunov import LyapunovSpectrum, largest_exponent, lyapunov_spectrum
from ctrnn.analysis.two_parameters import CodimensionTwoPoint, SpecialCurve, continue_special

__all__ = [
    "Branch",
    "CodimensionTwoPoint",
    "Cycle",
    "CycleBranch",
    "Equilibrium",
    "FixedPoints",
    "LyapunovSpectrum",
    "SpecialCurve",
    "SpecialCycle",
    "SpecialPoint",
    "continue_cycles",
    "continue_equilibria",
    "continue_special",
    "double_period",
    "find_equilibrium",
    "fixed_points",
    "largest_exponent",
    "limit_cycle",
    "lyapunov_spectrum",
    "switch_branch",
]
