"""Input signals x(t): samples, steps, pulses, sines, noise, functions, and their combinations.

>>> from ctrnn.inputs import Pulse, Sine
>>> x = 0.5 + Sine(frequency=0.1) * Pulse(onset=1.0, width=2.0)
>>> x.size, x.breaks
(1, array([1., 3.]))

Targets and weights of an objective are signals of the same kind.
"""

from ctrnn.inputs.base import Constant, Function, Input, as_input, stack
from ctrnn.inputs.piecewise import Noise, Polynomials, Pulse, Sampled, Step
from ctrnn.inputs.program import Program, evaluate_program
from ctrnn.inputs.sine import Sine
from ctrnn.inputs.table import from_csv
from ctrnn.inputs.times import merge_times

__all__ = [
    "Constant",
    "Function",
    "Input",
    "Noise",
    "Polynomials",
    "Program",
    "Pulse",
    "Sampled",
    "Sine",
    "Step",
    "as_input",
    "evaluate_program",
    "from_csv",
    "merge_times",
    "stack",
]
