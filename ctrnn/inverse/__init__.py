"""The division-free inverse: V* = a A⁻¹ as the rest point of a flow.

    dV/dt = V A − a        rests at V* = a A⁻¹, stable where A is Hurwitz (all Re λ(A) < 0)

integrated by Euler steps of size h, which use products and sums only:

    V ← V + h (V A − a),        V A − a ← (V A − a)(I + h A)

The residual is multiplied by I + hA at every step, so it vanishes for every a exactly when
max |1 + hλ| < 1, that is for 0 < h < min 2 |Re λ| / |λ|² over the spectrum of A. The contraction
factor max |1 + hλ| is convex in h; the step is taken at its minimum. With A = J at a stable rest
point the flow is the adjoint equation at rest.

Source: note 001 of this project, corrected. There the dot over V is lost. The literal map
V ← V A − a is another iteration: it rests where V = V A − a, at a (A − I)⁻¹, and converges when
the spectral radius of A is below one. It is the step h = 1 of the flow for A − I, which is
``right_divide(a, A - I, step=1.0)``. Likewise dv/dt = v a − 1 rests at 1/a, stable for a < 0.

`iterations` holds this and its relatives, for any kind of number: they divide nothing and factorise nothing. What is
*not* division-free is the certificate, in `methods`: before an iteration starts, the spectrum of A gives the step and
its bound (or, with step="norm", the sizes of its entries give a power of two), and the singular values the error bound.
`hardware` runs the same iterations in fixed-point numbers and under noise; `tracking` on an A that moves.
"""

from ctrnn.inverse.divide import METHODS, right_divide
from ctrnn.inverse.fixed_point import QFormat
from ctrnn.inverse.hardware import HardwareTable, device_noise, word_length
from ctrnn.inverse.iterations import euler_flow
from ctrnn.inverse.matrix import Product
from ctrnn.inverse.methods import Chebyshev, Flow, GradientFlow, Hyperpower, Neumann, NewtonSchulz, Richardson
from ctrnn.inverse.references import GMRES, LU
from ctrnn.inverse.result import Condition, Inverse
from ctrnn.inverse.scalar import reciprocal
from ctrnn.inverse.spectrum import best_step
from ctrnn.inverse.tracking import Tracked, zhang

__all__ = [
    "GMRES",
    "LU",
    "METHODS",
    "Chebyshev",
    "Condition",
    "Flow",
    "GradientFlow",
    "HardwareTable",
    "Hyperpower",
    "Inverse",
    "Neumann",
    "NewtonSchulz",
    "Product",
    "QFormat",
    "Richardson",
    "Tracked",
    "best_step",
    "device_noise",
    "euler_flow",
    "reciprocal",
    "right_divide",
    "word_length",
    "zhang",
]
