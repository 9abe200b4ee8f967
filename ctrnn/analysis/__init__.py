"""What a field does: its equilibria and their stability, and its Lyapunov exponents."""

from ctrnn.analysis.equilibria import Equilibrium, find_equilibrium
from ctrnn.analysis.lyapunov import LyapunovSpectrum, largest_exponent, lyapunov_spectrum

__all__ = ["Equilibrium", "LyapunovSpectrum", "find_equilibrium", "largest_exponent", "lyapunov_spectrum"]
