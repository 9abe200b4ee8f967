"""Runge–Kutta methods as data: the numbers of a step, and nothing that runs it.

One step of size h from r at t has the stages

    r_i = r + h Σ_j a_ij k_j        k_i = F(t + c_i h, r_i)        i, j = 1 … s

and gives

    r⁺ = r + h Σ_i b_i k_i                      the new state
    d  = h Σ_i e_i k_i,   e = b − b̂             its distance from an embedded solution
    r(t + θh) ≈ r + h Σ_i b_i(θ) k_i            dense output between the two ends, 0 ≤ θ ≤ 1

A method is of order p when the error of one step is O(h^(p+1)), which is when Σ_i b_i Φ_i(τ) =
1/γ(τ) for every rooted tree τ of at most p nodes (J. C. Butcher, *J. Austral. Math. Soc.* 3,
1963); its dense output when Σ_i b_i(θ) Φ_i(τ) = θ^|τ|/γ(τ). The tests check this tree by tree.

A pair is FSAL ("first same as last") when its last stage is F at the new point: row s of a is b,
and k_s is the next step's k_1. It serves the error and the dense output at no cost.

HNW below is E. Hairer, S. P. Nørsett, G. Wanner, *Solving Ordinary Differential Equations I*,
2nd ed., Springer 1993. Each method cites its own source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ctrnn.errors import UnknownNameError
from ctrnn.solvers import dop853


@dataclass(frozen=True, eq=False, repr=False)
class Tableau:
    """The coefficients of one Runge–Kutta method, float64 and C-contiguous.

    ``a`` (s, s), ``b`` (s,), ``c`` (s,): the step. ``a`` is strictly lower triangular for the explicit methods; for the
    singly diagonally implicit ones a_ii = γ but in the first stage, which is explicit.

    ``e`` (n_est, s): error weights b − b̂, one row for each embedded solution b̂, none where there
    is no such; ``embedded_orders`` their orders. One row gives the estimate d = h Σ_i e_i k_i.
    ``dop853`` has two, e[0] = e3 and e[1] = e5. With |d3|, |d5| the norms of their two d, each
    scaled by the tolerances, its estimate is |d5|² / √(|d5|² + 0.01 |d3|²)  (HNW, II.10).

    ``dense`` (s_total, degree): b_i(θ) = Σ_d dense[i, d] θ^(d+1). Stages i ≥ s (counted from 0) are
    extra ones, evaluated for dense output only: stage s + q has the row ``a_dense[q]`` (s_total,)
    and the time ``c_dense[q]``. ``dense_order``: the order of b(θ). Inside one step it is off by
    O(h^(dense_order + 1)). On top of the steps' own errors, which add up to O(h^order), dense
    values are of order min(order, dense_order + 1).

    ``source``: where the numbers are published. ``exponential``: whether the steps are taken of φ₁(hD) F and not of F
    itself (ctrnn.solvers.exponential).
    """

    name: str
    order: int
    dense_order: int
    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    dense: np.ndarray
    a_dense: np.ndarray
    c_dense: np.ndarray
    e: np.ndarray
    embedded_orders: tuple[int, ...]
    fsal: bool
    source: str
    exponential: bool = False

    @property
    def s(self) -> int:
        """Stages of a step, the FSAL stage among them, the extra ones of dense output not."""
        return len(self.b)

    @property
    def s_total(self) -> int:
        """Stages of a step with dense output: ``s`` and the extra ones."""
        return len(self.dense)

    @property
    def stages(self) -> int:
        """Stages that enter r⁺, which a gradient pulls back through: ``s`` less the FSAL stage."""
        return self.s - 1 if self.fsal and self.b[-1] == 0.0 else self.s

    @property
    def gamma(self) -> float:
        """γ of a singly diagonally implicit method, 0 of an explicit one."""
        return float(self.a[-1, -1])

    @property
    def implicit(self) -> bool:
        """Whether stages are solved for, as stiff problems want it."""
        return self.gamma != 0.0

    @property
    def adaptive(self) -> bool:
        """Whether it estimates its error and chooses its steps; else it needs a dt."""
        return bool(self.embedded_orders)

    @property
    def guess(self) -> np.ndarray:
        """Weights (s, s) of a first guess Σ_j guess_ij k_j at k_i from the stages before it.

        The guess is the parabola through the three that are nearest in time.
        """
        weights = np.zeros((self.s, self.s))
        for i in range(1, self.s):
            nearest = sorted(range(i), key=lambda j: (abs(self.c[j] - self.c[i]), -j))
            nodes: list[int] = []
            for j in nearest:
                if len(nodes) < 3 and all(self.c[j] != self.c[l] for l in nodes):
                    nodes.append(j)
            for j in nodes:
                weights[i, j] = np.prod([(self.c[i] - self.c[l]) / (self.c[j] - self.c[l]) for l in nodes if l != j])
        return weights

    @property
    def error_order(self) -> int | None:
        """The power of h that the error estimate falls with, whose root step control takes.

        d = O(h^(p̂ + 1)) for one b̂ of order p̂. ``dop853``: O(h^(2·6) / h^4) = O(h^8).
        """
        if not self.embedded_orders:
            return None
        powers = [p + 1 for p in self.embedded_orders]
        return powers[0] if len(powers) == 1 else 2 * max(powers) - min(powers)

    def __repr__(self) -> str:
        embedded = ",".join(str(p) for p in sorted(self.embedded_orders, reverse=True))
        order = f"{self.order}({embedded})" if embedded else f"{self.order}"
        plural = "s" if self.stages > 1 else ""
        fsal = " + FSAL" if self.fsal else ""
        extra = f" ({self.s_total - self.s} more stages)" if self.s_total > self.s else ""
        return (
            f"<Tableau {self.name}: order {order}, {self.stages} stage{plural}{fsal}, "
            f"dense output of order {self.dense_order}{extra}>"
        )


def get(name: str) -> Tableau:
    """The tableau of a method, by its name or an alias of it, in upper or lower case.

    Raises :class:`~ctrnn.errors.UnknownNameError`, which lists the names, for any other.

    >>> get("tsit5")
    <Tableau tsit5: order 5(4), 6 stages + FSAL, dense output of order 4>
    >>> get("RK45").name
    'dopri5'
    >>> get("rk4").b * 6
    array([1., 2., 2., 1.])
    >>> get("tsit4")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ctrnn.errors.UnknownNameError: solver: got 'tsit4'; allowed: euler, ... did you mean 'tsit5'?
    """
    key = name.lower() if isinstance(name, str) else ""
    key = _ALIASES.get(key, key)
    if key not in _TABLEAUS:
        scipy = {"lsoda": "LSODA", "bdf": "BDF", "radau": "Radau"}
        if key in scipy:
            raise UnknownNameError("solver", name, names(), hint=f"solver='scipy:{scipy[key]}'")
        raise UnknownNameError("solver", name, names())
    return _TABLEAUS[key]


def names() -> tuple[str, ...]:
    """The methods that :func:`get` knows, by rising order.

    >>> names()[:5]
    ('euler', 'exponential-euler', 'midpoint', 'heun', 'rk4')
    >>> names()[5:]
    ('bs3', 'dopri5', 'tsit5', 'dop853', 'kencarp4', 'kvaerno5')
    """
    return tuple(_TABLEAUS)


Row = Sequence[float]


def _lower(rows: Sequence[Row], shape: tuple[int, int], first: int) -> np.ndarray:
    """A matrix with ``rows`` from row ``first`` on, each given as far as it is not zero."""
    matrix = np.zeros(shape)
    for i, row in enumerate(rows, start=first):
        matrix[i, : len(row)] = row
    return matrix


def _hermite(b: Row, corrections: Sequence[Row] = (), s: int | None = None) -> np.ndarray:
    """b(θ) of the cubic Hermite interpolant, with corrections that vanish twice at both ends.

    With u picking k_1, v picking the FSAL stage k_s and D_0, D_1, … the rows of ``corrections``,

        b(θ) = θ²(3 − 2θ) b + θ(1 − θ)² u − θ²(1 − θ) v
               + θ²(1 − θ)² [D_0 + θ D_1 + θ(1 − θ) D_2 + θ²(1 − θ) D_3]

    (HNW, II.6; the nested form of their codes dopri5.f and dop853.f, written out).
    ``b`` has s - 1 entries (s are given for an implicit last stage), a row of ``corrections`` s_total. Returns
    ``dense`` (s_total, degree).
    """
    s, n = s or len(b) + 1, len(corrections)
    s_total = len(corrections[0]) if n else s
    weights = np.zeros((3 + n, s_total))
    weights[0, : len(b)], weights[1, 0], weights[2, s - 1] = b, 1.0, 1.0
    if n:
        weights[3:] = corrections
    basis = np.array(  # the seven polynomials above: coefficients of θ, θ², …, θ⁷
        [
            [0, 3, -2, 0, 0, 0, 0],
            [1, -2, 1, 0, 0, 0, 0],
            [0, -1, 1, 0, 0, 0, 0],
            [0, 1, -2, 1, 0, 0, 0],
            [0, 0, 1, -2, 1, 0, 0],
            [0, 0, 1, -3, 3, -1, 0],
            [0, 0, 0, 1, -3, 3, -1],
        ]
    )[: 3 + n]
    degree = 1 + int(np.flatnonzero(basis.any(axis=0))[-1])
    return np.ascontiguousarray(weights.T @ basis[:, :degree])


def _tableau(
    name: str,
    source: str,
    *,
    order: int,
    dense_order: int,
    a: Sequence[Row],
    b: Row | None = None,
    c: Row,
    dense: Sequence[Row] | np.ndarray,
    e: Sequence[Row] = (),
    embedded_orders: tuple[int, ...] = (),
    a_dense: Sequence[Row] = (),
    c_dense: Row = (),
    exponential: bool = False,
) -> Tableau:
    """The tableau of rows 2 … s of a and the rest; an FSAL pair has no b, its last row of a is."""
    s, s_total = len(c), len(dense)
    a_full = _lower(a, (s, s), first=1)
    return Tableau(
        name=name,
        order=order,
        dense_order=dense_order,
        a=a_full,
        b=a_full[-1].copy() if b is None else np.array(b, dtype=float),
        c=np.array(c, dtype=float),
        dense=np.array(dense, dtype=float),
        a_dense=_lower(a_dense, (s_total - s, s_total), first=0),
        c_dense=np.array(c_dense, dtype=float),
        e=_lower(e, (len(e), s), first=0),
        embedded_orders=embedded_orders,
        fsal=b is None,
        source=source,
        exponential=exponential,
    )


# fmt: off
_EULER = _tableau(
    "euler", "L. Euler, Institutiones calculi integralis I, 1768",
    order=1, dense_order=1,
    a=[], b=[1], c=[0], dense=[[1]],
)

# The numbers of Euler's method, which is what it is of another field (ctrnn.fields.exponential).
_EXPONENTIAL = _tableau(
    "exponential-euler",
    "D. A. Pope, An exponential method of numerical integration of ordinary differential equations, Comm. ACM 6, 1963",
    order=1, dense_order=1, exponential=True,
    a=[], b=[1], c=[0], dense=[[1]],
)

_MIDPOINT = _tableau(
    "midpoint",
    "C. Runge, Ueber die numerische Auflösung von Differentialgleichungen, Math. Ann. 46, 1895",
    order=2, dense_order=2,
    a=[[1/2]], b=[0, 1], c=[0, 1/2], dense=[[1, -1], [0, 1]],
)

_HEUN = _tableau(
    "heun",
    "K. Heun, Neue Methoden zur approximativen Integration der Differentialgleichungen einer "
    "unabhängigen Veränderlichen, Z. Math. Phys. 45, 1900",
    order=2, dense_order=2,
    a=[[1]], b=[1/2, 1/2], c=[0, 1], dense=[[1, -1/2], [0, 1/2]],
)

_RK4 = _tableau(
    "rk4",
    "W. Kutta, Beitrag zur näherungsweisen Integration totaler Differentialgleichungen, "
    "Z. Math. Phys. 46, 1901; dense output: HNW, II.6",
    order=4, dense_order=3,
    a=[[1/2], [0, 1/2], [0, 0, 1]],
    b=[1/6, 1/3, 1/3, 1/6],
    c=[0, 1/2, 1/2, 1],
    dense=[[1, -3/2, 2/3], [0, 1, -2/3], [0, 1, -2/3], [0, -1/2, 2/3]],
)

_BS3_B = [2/9, 1/3, 4/9]
_BS3 = _tableau(
    "bs3",
    "P. Bogacki, L. F. Shampine, A 3(2) pair of Runge-Kutta formulas, Appl. Math. Lett. 2, 1989; "
    "dense output: the cubic Hermite interpolant",
    order=3, dense_order=3,
    a=[[1/2], [0, 3/4], _BS3_B],
    c=[0, 1/2, 3/4, 1],
    dense=_hermite(_BS3_B),
    e=[[-5/72, 1/12, 1/9, -1/8]], embedded_orders=(2,),
)

_DOPRI5_B = [35/384, 0, 500/1113, 125/192, -2187/6784, 11/84]
_DOPRI5 = _tableau(
    "dopri5",
    "J. R. Dormand, P. J. Prince, A family of embedded Runge-Kutta formulae, J. Comp. Appl. Math. "
    "6, 1980; dense output: L. F. Shampine, Some practical Runge-Kutta formulas, Math. Comp. 46, "
    "1986, as in HNW's code dopri5.f",
    order=5, dense_order=4,
    a=[
        [1/5],
        [3/40, 9/40],
        [44/45, -56/15, 32/9],
        [19372/6561, -25360/2187, 64448/6561, -212/729],
        [9017/3168, -355/33, 46732/5247, 49/176, -5103/18656],
        _DOPRI5_B,
    ],
    c=[0, 1/5, 3/10, 4/5, 8/9, 1, 1],
    dense=_hermite(_DOPRI5_B, [[
        -12715105075/11282082432, 0, 87487479700/32700410799, -10690763975/1880347072,
        701980252875/199316789632, -1453857185/822651844, 69997945/29380423,
    ]]),
    e=[[71/57600, 0, -71/16695, 71/1920, -17253/339200, 22/525, -1/40]], embedded_orders=(4,),
)

_TSIT5 = _tableau(
    "tsit5",
    "Ch. Tsitouras, Runge-Kutta pairs of order 5(4) satisfying only the first column simplifying "
    "assumption, Comput. Math. Appl. 62, 2011",
    order=5, dense_order=4,
    a=[
        [0.161],
        [-0.0084806554923569885444, 0.33548065549235698854],
        [2.8971530571054934321, -6.3594484899750748431, 4.3622954328695814110],
        [5.3258648284392566044, -11.748883564062827878, 7.4955393428898362083,
         -0.092495066361755249257],
        [5.8614554429464200287, -12.920969317847109292, 8.1593678985761586432,
         -0.071584973281400997225, -0.028269050394068382909],
        [0.096460766818065229518, 0.01, 0.47988965041449957478, 1.3790085741037418932,
         -3.2900695154360806799, 2.3247105240997739824],
    ],
    c=[0, 0.161, 0.327, 0.9, 0.98002554090450968573, 1, 1],
    dense=[
        [1, -2.7637061972748259113, 2.9132554618219127437, -1.0530884977290216],
        [0, 0.1317, -0.2234, 0.1017],
        [0, 3.9302962368947515285, -5.9410338721315047347, 2.490627285651252793],
        [0, -12.411077166933676984, 30.338188630282321598, -16.54810288924490272],
        [0, 37.509313416511039195, -88.178904894766401101, 47.37952196281928122],
        [0, -27.896526289197287806, 65.091894674793671526, -34.87065786149660974],
        [0, 1.5, -4, 2.5],
    ],
    # The paper has 15 decimals. The conditions of order 4 fix e up to a factor, and the paper's
    # e_7 = -1/66 fixes that: solved for here, to 20 digits.
    e=[[0.0017800110522257714434, 0.00081643445965674690322, -0.0078808780102619960103,
        0.14471100717326290754, -0.58235716545255522502, 0.45808210592918694666, -1/66]],
    embedded_orders=(4,),
)

_DOP853 = _tableau(
    "dop853",
    "HNW, II.5, II.6 and II.10, and their code dop853.f, after P. J. Prince, J. R. Dormand, High "
    "order embedded Runge-Kutta formulae, J. Comp. Appl. Math. 7, 1981",
    order=8, dense_order=7,
    a=dop853.A, c=dop853.C,
    dense=_hermite(dop853.A[-1], dop853.D), a_dense=dop853.A_DENSE, c_dense=dop853.C_DENSE,
    e=[dop853.E3, dop853.E5], embedded_orders=(3, 5),
)

_KENCARP4_B = [82889/524892, 0, 15625/83664, 69875/102672, -2260/8211, 1/4]
_KENCARP4 = _tableau(
    "kencarp4",
    "C. A. Kennedy, M. H. Carpenter, Additive Runge-Kutta schemes for convection-diffusion-reaction equations, Appl. "
    "Numer. Math. 44, 2003: the implicit part of ARK4(3)6L[2]SA, an L-stable ESDIRK pair; "
    "dense output: the cubic Hermite interpolant",
    order=4, dense_order=3,
    a=[
        [1/4, 1/4],
        [8611/62500, -1743/31250, 1/4],
        [5012029/34652500, -654441/2922500, 174375/388108, 1/4],
        [15267082809/155376265600, -71443401/120774400, 730878875/902184768, 2285395/8070912, 1/4],
        _KENCARP4_B,
    ],
    c=[0, 1/2, 83/250, 31/50, 17/20, 1],
    dense=_hermite(_KENCARP4_B, s=6),
    e=[[31666707/9881966720, 0, -256875/105007616, -2768025/128864768, 169839/3864644, -5247/225920]],
    embedded_orders=(3,),
)

_KVAERNO5_6 = [0.13855640231268224, 0, -0.04245337201752043, 0.02446657898003141, 0.61943039072480676, 0.26]
_KVAERNO5_B = [
    0.13659751177640291, 0, -0.05496908796538376, -0.04118626728321046, 0.62993304899016403, 0.06962479448202728, 0.26,
]
_KVAERNO5 = _tableau(
    "kvaerno5",
    "A. Kvaerno, Singly diagonally implicit Runge-Kutta methods with an explicit first stage, BIT 44, 2004: method "
    "5/4b, both of whose solutions are stiffly accurate; dense output: the cubic Hermite interpolant",
    order=5, dense_order=3,
    a=[
        [0.26, 0.26],
        [0.13, 0.84033320996790809, 0.26],
        [0.22371961478320505, 0.47675532319799699, -0.06470895363112615, 0.26],
        [0.16648564323248321, 0.1045001884159172, 0.03631482272098715, -0.13090704451073998, 0.26],
        _KVAERNO5_6,
        _KVAERNO5_B,
    ],
    c=[0, 0.52, 1.23033320996790809, 0.89576598435007591, 0.43639360985864756, 1, 1],
    dense=_hermite(_KVAERNO5_B, s=7),
    e=[[b - a for a, b in zip([*_KVAERNO5_6, 0], _KVAERNO5_B, strict=True)]], embedded_orders=(4,),
)
# fmt: on

_TABLEAUS = {
    tableau.name: tableau
    for tableau in (_EULER, _EXPONENTIAL, _MIDPOINT, _HEUN, _RK4, _BS3, _DOPRI5, _TSIT5, _DOP853, _KENCARP4, _KVAERNO5)
}
_ALIASES = {
    "exp_euler": "exponential-euler",
    "euler-maruyama": "euler",
    "stochastic-heun": "heun",
    "bosh3": "bs3",
    "bs32": "bs3",
    "rk23": "bs3",
    "dp5": "dopri5",
    "rk45": "dopri5",
    "dopri8": "dop853",
}
