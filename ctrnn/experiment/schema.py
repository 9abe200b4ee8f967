"""What an experiment file may hold: one pydantic model per table, strict, unknown keys refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, create_model, model_validator
from pydantic_core import PydanticCustomError

from ctrnn.experiment.schema_field import FieldSpec
from ctrnn.experiment.schema_learn import LearnSpec
from ctrnn.experiment.schema_train import Readouts, TrainSpec
from ctrnn.experiment.signals import Signal
from ctrnn.experiment.values import (
    ByShape,
    Count,
    Matrix,
    Name,
    NotNegative,
    Number,
    Numbers,
    Positive,
    Section,
    Seed,
    shape,
)
from ctrnn.gradients.methods import METHODS
from ctrnn.numbers import MOST

# --- [data], [problem], [objective]

Values = Annotated[
    Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")] | Annotated[Matrix, Tag("<matrix>")],
    ByShape,
]


class Data(Section):
    """A CSV file with a header: the time column, and the column of each state or read-out."""

    file: str
    time: str
    columns: Annotated[
        Annotated[dict[Name, str], Field(min_length=1), Tag("<table>")]
        | Annotated[list[str], Field(min_length=1), Tag("<list>")],
        ByShape,
    ]


class RandomState(Section):
    """Independent normal values N(0, sd²), from a seed."""

    seed: Seed
    sd: Positive = 1.0


class ProblemSpec(Section):
    """dr/dt = F(t, r, w, x(t)) from r(t0) = r0 over t_span = [t0, t1]."""

    t_span: Annotated[list[Number], Field(min_length=2, max_length=2)]
    r0: Annotated[
        Annotated[Literal["data"], Tag("<text>")]
        | Annotated[Number, Tag("<number>")]
        | Annotated[Numbers, Tag("<list>")]
        | Annotated[dict[str, Values], Field(min_length=1), Tag("<table>")]
        | Annotated[RandomState, Tag("<seed>")],
        Discriminator(lambda v: "<seed>" if isinstance(v, dict) and set(v) <= {"seed", "sd"} else shape(v)),
    ] = 0.0


Scale = Annotated[
    Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")] | Annotated[str, Tag("<text>")],
    ByShape,
]


class NoiseSpec(Section):
    """dr = F dt + g dW: g a number, one a state, a formula, or a table by state; as ctrnn.WhiteNoise has it.

    ``paths``: how many paths `ctrnn simulate` follows beside the first.
    """

    scale: Annotated[
        Annotated[Number, Tag("<number>")]
        | Annotated[Numbers, Tag("<list>")]
        | Annotated[str, Tag("<text>")]
        | Annotated[dict[str, Scale], Field(min_length=1), Tag("<table>")],
        ByShape,
    ]
    seed: Annotated[int, Field(ge=0)] = 0
    dt: Positive | None = None
    calculus: Literal["ito", "stratonovich"] | None = None
    paths: Annotated[int, Field(ge=2)] | None = None


class EventSpec(Section):
    """What happens where a condition on the state crosses zero: a reset, the end of the run, or a note of it."""

    condition: str
    direction: Literal[-1, 0, 1] = 0
    terminal: bool | Count = False
    reset: dict[str, str] | None = None
    name: str | None = None


class Grid(Section):
    """The times start, start + step, … up to stop."""

    start: Number
    stop: Number
    step: Positive


Times = Annotated[
    Annotated[Literal["data"], Tag("<text>")] | Annotated[Numbers, Tag("<list>")] | Annotated[Grid, Tag("<table>")],
    ByShape,
]


class ObjectiveSpec(Section):
    """The sum Σ_k a_k ℓ(o(t_k), y_k) when ``at`` is given, the integral ∫ a(t) ℓ(o, y) dt when not.

    With ``missing = "skip"`` empty cells of the data are left out.

    With ``event`` it is taken at the occurrences of that event: the sum of the expression ``loss``, or of its squared
    distance ½(o − y)² to the target.
    """

    loss: str = "squared_error"
    target: (
        Annotated[
            Annotated[Literal["data"], Tag("<text>")]
            | Annotated[Number, Tag("<number>")]
            | Annotated[Numbers, Tag("<list>")]
            | Annotated[Matrix, Tag("<matrix>")]
            | Annotated[Signal, Tag("<table>")]
            | Annotated[list[Signal], Field(min_length=1), Tag("<signals>")],
            Discriminator(lambda v: "<signals>" if isinstance(v, list) and v and isinstance(v[0], dict) else shape(v)),
        ]
        | None
    ) = None
    at: Times | None = None
    event: str | None = None
    occurrences: list[int] | None = None
    weight: Annotated[
        Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")] | Annotated[Signal, Tag("<table>")],
        ByShape,
    ] = 1.0
    readout: Readouts | None = None
    missing: Literal["refuse", "skip"] = "refuse"


# --- [solver], [gradient], [compare], [fit], [equilibrium], [fixed_points], [portrait], [continue], …


class SolverSpec(Section):
    """The solver of every solution, its tolerances or its fixed step."""

    name: str = "tsit5"
    rtol: Positive = 1e-8
    atol: Positive = 1e-10
    dt: Positive | None = None
    max_steps: Count = 1_000_000
    points: Annotated[int, Field(ge=2, le=100_000_000)] = 501


class _MethodTable(Section):
    """A method with its options: {name = "rtrl", block = 7}, {name = "adjoint-checkpoint", memory = 2_000_000}."""

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("name") in _WITH_OPTIONS:
            known = ["name", *_WITH_OPTIONS[data["name"]]]
            for key in data:
                if key not in known:
                    raise PydanticCustomError("unknown_key", "{key}", {"key": key, "known": known})
        return data


#: of the methods that have options, which
_WITH_OPTIONS = {name: method.facts.options for name, method in METHODS.items() if method.facts.options}
_OPTIONS: dict[str, Any] = {key: (Count | None, None) for keys in _WITH_OPTIONS.values() for key in keys}
if TYPE_CHECKING:  # the alternatives are those of the library's list
    MethodName = str
    MethodTable = _MethodTable
else:
    MethodName = Literal["auto", *METHODS]
    MethodTable = create_model(
        "MethodTable", __base__=_MethodTable, name=(Literal[tuple(_WITH_OPTIONS)], ...), **_OPTIONS
    )

Method = Annotated[Annotated[MethodName, Tag("<text>")] | Annotated[MethodTable, Tag("<table>")], ByShape]
Methods = Annotated[list[Method], Field(min_length=1)]


class GradientSpec(Section):
    """The gradient method of ``ctrnn gradient`` and, unless it names its own, of the fit."""

    method: Method = "auto"


class CompareSpec(Section):
    """The methods, and what they are compared with: the complex step, if nothing else is said."""

    methods: Methods
    reference: Method | None = None


Transform = Literal["log", "none"]


class PriorSpec(Section):
    """What is known of a quantity, or of its logarithm, before the data: a mean and a standard deviation."""

    kind: Literal["normal", "lognormal"] = "normal"
    mean: Number
    sd: Positive


class FitSpec(Section):
    """Least loss over the named parameters (all by default), and over r0 if asked; as ctrnn.fit has it.

    A bound that is none is inf or -inf.
    """

    optimizer: str = "auto"
    parameters: list[str] | None = None
    r0: bool = False
    transform: Annotated[
        Annotated[Transform, Tag("<text>")] | Annotated[dict[str, Transform], Tag("<table>")],
        ByShape,
    ] = "none"
    bounds: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] = {}
    fixed: list[str] = []
    prior: dict[str, PriorSpec] = {}
    regularisation: (
        Annotated[Annotated[Positive, Tag("<number>")] | Annotated[dict[str, Positive], Tag("<table>")], ByShape] | None
    ) = None
    noise: Literal["normal", "lognormal", "poisson"] = "normal"
    sigma: (
        Annotated[
            Annotated[Literal["estimate"], Tag("<text>")]
            | Annotated[Positive, Tag("<number>")]
            | Annotated[list[Positive], Tag("<list>")],
            ByShape,
        ]
        | None
    ) = None
    robust: Literal["linear", "soft_l1", "huber", "cauchy", "arctan"] = "linear"
    robust_scale: Positive = 1.0
    multistart: Count | None = None
    spread: Positive = 0.3
    seed: Seed = 0
    shooting: Annotated[
        Annotated[bool, Tag("<true or false>")]
        | Annotated[int, Field(ge=2, le=MOST), Tag("<number>")]
        | Annotated[Numbers, Tag("<list>")],
        ByShape,
    ] = False
    methods: Methods | None = None
    max_iterations: Count = 200
    learning_rate: Positive = 1e-2


class EquilibriumSpec(Section):
    """A solution of F(t, r, w, x) = 0 with t and x held: by default t0, and the input x(t) then.

    The search starts at the guess, or at r0.
    """

    guess: (
        Annotated[
            Annotated[Number, Tag("<number>")]
            | Annotated[Numbers, Tag("<list>")]
            | Annotated[dict[str, Number], Field(min_length=1), Tag("<table>")],
            ByShape,
        ]
        | None
    ) = None
    x: Annotated[Annotated[Number, Tag("<number>")] | Annotated[Numbers, Tag("<list>")], ByShape] | None = None
    t: Number | None = None


Box = Annotated[
    list[Annotated[list[Number], Field(min_length=2, max_length=2)]],
    Field(min_length=1),
]


class FixedPointsSpec(Section):
    """The points of rest, from many starts: states of the run with a scatter, or drawn from a box.

    ``box`` is one [low, high] for all states, or one for each. ``x`` are inputs, held, one list each.
    """

    starts: Count = 1000
    scatter: NotNegative = 0.3
    box: Box | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    slow: bool = False
    x: Matrix | None = None


class PortraitSpec(Section):
    """The plane of two states: stream lines, nullclines, points of rest, manifolds, runs, and basins on request.

    Fields of more than two states are drawn on the principal components of runs, unless ``states`` names a plane.
    """

    states: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    box: Annotated[Box, Field(min_length=2, max_length=2)] | None = None
    runs: Annotated[int, Field(ge=0)] = 6
    scatter: Positive = 1.0
    seed: Annotated[int, Field(ge=0)] = 0
    basins: bool = False
    points: Annotated[int, Field(ge=2)] = 101
    t_end: Positive | None = None


class ContinueSpec(Section):
    """The branch of equilibria in one parameter through the one at [equilibrium]'s guess, and the cycles born on it.

    On request the other branches, and in a second parameter the curves of the folds and Hopf points.
    """

    parameter: str
    span: Annotated[list[Number], Field(min_length=2, max_length=2)]
    state: str | None = None
    branches: bool = False
    cycles: bool = False
    second: str | None = None
    second_span: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None
    max_points: Count = 2000


class CycleSpec(Section):
    """The limit cycle that the run comes near by the end of its time span."""

    period: Positive | None = None


class LyapunovSpec(Section):
    """The Lyapunov exponents along the run: the k largest, or all; on request against values of a parameter."""

    k: Count | None = None
    transient: NotNegative = 0.0
    parameter: str | None = None
    values: Annotated[Annotated[Numbers, Tag("<list>")] | Annotated[Grid, Tag("<table>")], ByShape] | None = None


FigureName = Literal[
    "trajectory",
    "paths",
    "phase-portrait",
    "gradient-agreement",
    "leak-only",
    "read-out",
    "fit",
    "fit-history",
    "spectrum",
    "fixed-points",
    "portrait",
    "bifurcation",
    "two-parameters",
    "cycle",
    "lyapunov",
    "training",
    "learning",
]


class FiguresSpec(Section):
    """Which pictures to draw (all that the results allow, unless listed), and the labels of their axes.

    ``time`` and ``loss`` are labels of axes, ``labels`` those of states, inputs and outputs by their names;
    ``time_unit`` is for rates. ``format`` is the kind of the files.
    """

    format: Literal["png", "pdf", "svg"] = "png"
    show: list[FigureName] | None = None
    time: str | None = None
    time_unit: str | None = None
    loss: str = "loss"
    labels: dict[str, str] = {}


class _ExperimentSpec(Section):
    """The whole file, but for the table whose name is a word of Python's."""

    title: str = ""
    shows: str = ""
    field: FieldSpec
    problem: ProblemSpec | None = None
    inputs: (
        Annotated[
            Annotated[Signal, Tag("<table>")] | Annotated[list[Signal], Field(min_length=1), Tag("<list>")],
            ByShape,
        ]
        | None
    ) = None
    noise: NoiseSpec | None = None
    events: list[EventSpec] = []
    data: Data | None = None
    objective: ObjectiveSpec | None = None
    solver: SolverSpec = SolverSpec()
    gradient: GradientSpec | None = None
    compare: CompareSpec | None = None
    fit: FitSpec | None = None
    equilibrium: EquilibriumSpec | None = None
    fixed_points: FixedPointsSpec | None = None
    portrait: PortraitSpec | None = None
    cycle: CycleSpec | None = None
    lyapunov: LyapunovSpec | None = None
    train: TrainSpec | None = None
    learn: LearnSpec | None = None
    figures: FiguresSpec = FiguresSpec()


if TYPE_CHECKING:
    ExperimentSpec = _ExperimentSpec
else:
    ExperimentSpec = create_model(
        "ExperimentSpec", __base__=_ExperimentSpec, **{"continue": (ContinueSpec | None, None)}
    )


def known_keys(section: str | int) -> frozenset[str]:
    """The keys that a table may have, where it is of one kind only."""
    models: dict[str | int, type[Section]]
    models = {
        "problem": ProblemSpec,
        "data": Data,
        "objective": ObjectiveSpec,
        "solver": SolverSpec,
        "fit": FitSpec,
        "train": TrainSpec,
        "learn": LearnSpec,
    }
    return frozenset(models[section].model_fields) if section in models else frozenset()
