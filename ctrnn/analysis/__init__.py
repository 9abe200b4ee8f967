"""What a field does: its equilibria, their branches and bifurcations, and its Lyapunov exponents."""

from ctrnn.analysis.attraction import Basins, basins
from ctrnn.analysis.branch import Branch, SpecialPoint
from ctrnn.analysis.continuation import continue_equilibria, switch_branch
from ctrnn.analysis.cycle_branch import continue_cycles
from ctrnn.analysis.cycle_results import CycleBranch, SpecialCycle
from ctrnn.analysis.cycle_search import limit_cycle
from ctrnn.analysis.cycle_switch import double_period, switch_cycle
from ctrnn.analysis.cycles import Cycle
from ctrnn.analysis.equilibria import Equilibrium, find_equilibrium
from ctrnn.analysis.equilibrium_branches import equilibrium_branches
from ctrnn.analysis.fixed_point_table import FixedPoints
from ctrnn.analysis.fixed_points import fixed_points
from ctrnn.analysis.jacobian_products import JacobianProducts, jacobian_products

# a use of the variational equation, as the gradients are, and one of them asks for it: so it lives beside them
from ctrnn.analysis.lyapunov import LyapunovSpectrum, largest_exponent, lyapunov_spectrum
from ctrnn.analysis.lyapunov_many import LyapunovSpectra, lyapunov_spectra
from ctrnn.analysis.manifolds import saddle_manifolds
from ctrnn.analysis.maps import EulerMap, MapCycle, MapCycles
from ctrnn.analysis.nonnormal import (
    TransientGrowth,
    henrici_number,
    numerical_abscissa,
    pseudospectral_abscissa,
    transient_growth,
)
from ctrnn.analysis.plane import nullclines
from ctrnn.analysis.subspaces import (
    LinearSubspaces,
    Projection,
    linear_subspaces,
    participation_ratio,
    principal_components,
)
from ctrnn.analysis.two_parameters import CodimensionTwoPoint, SpecialCurve, continue_special

__all__ = [
    "Basins",
    "Branch",
    "CodimensionTwoPoint",
    "Cycle",
    "CycleBranch",
    "Equilibrium",
    "EulerMap",
    "FixedPoints",
    "JacobianProducts",
    "LinearSubspaces",
    "LyapunovSpectra",
    "LyapunovSpectrum",
    "MapCycle",
    "MapCycles",
    "Projection",
    "SpecialCurve",
    "SpecialCycle",
    "SpecialPoint",
    "TransientGrowth",
    "basins",
    "continue_cycles",
    "continue_equilibria",
    "continue_special",
    "double_period",
    "equilibrium_branches",
    "find_equilibrium",
    "fixed_points",
    "henrici_number",
    "jacobian_products",
    "largest_exponent",
    "limit_cycle",
    "linear_subspaces",
    "lyapunov_spectra",
    "lyapunov_spectrum",
    "nullclines",
    "numerical_abscissa",
    "participation_ratio",
    "principal_components",
    "pseudospectral_abscissa",
    "saddle_manifolds",
    "switch_branch",
    "switch_cycle",
    "transient_growth",
]
