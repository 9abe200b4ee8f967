"""What a field does: its equilibria and their stability."""

from ctrnn.analysis.equilibria import Equilibrium, find_equilibrium

__all__ = ["Equilibrium", "find_equilibrium"]
