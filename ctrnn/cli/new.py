"""``ctrnn new``: a commented experiment file to begin from."""

from __future__ import annotations

import shlex
from pathlib import Path
from textwrap import wrap

import click

from ctrnn.errors import UsageError
from ctrnn.files import atomic_path, writing
from ctrnn.gradients.methods import METHODS, names_where
from ctrnn.solvers import tableaus

_TEXT = """\
# An experiment: dr/dt = F(t, r, w, x). Every table but [field] and [problem] may be left out.
#   ctrnn run THIS_FILE          ctrnn fit THIS_FILE --set solver.rtol=1e-6

title = "FitzHugh–Nagumo under a current pulse"

[field]
kind = "equations"               # or a network, see the end of this file
inputs = ["i"]                   # names of the channels of x(t)

[field.equations]                # one right-hand side for each state; t is the time
v = "v - v**3/3 - u + i"
u = "(v + a - b*u)/s"

[field.parameters]
a = 0.7
b = 0.8
s = 12.5

[[inputs]]                       # one table a channel, of a kind below; the keys are the arguments of ctrnn.inputs
kind = "pulse"
onset = 10.0
width = 30.0
amplitude = 0.5

# The kinds, with their keys; those with = have that value if left out:
#   constant   values
#   sampled    times, values, interpolation = "hold" (or "linear", "cubic")
#   csv        file, time, columns, interpolation = "hold": columns of a CSV file, named in its first line
#   pulse      onset, width, amplitude = 1.0
#   step       onset, amplitude = 1.0
#   sine       frequency, amplitude = 1.0, phase = 0.0, offset = 0.0
#   noise      dt, sd, seed, size = 1, interpolation = "hold": one fixed path of normal values
#   sum        terms = [ { kind = "sine", frequency = 0.2 }, { kind = "step", onset = 2.0 } ]
#   product    terms, likewise
# An input from a file beside this one, in place of the pulse:
#   [[inputs]]
#   kind = "csv"
#   file = "stimulus.csv"
#   time = "ms"
#   columns = ["current"]
#   interpolation = "linear"

# [data]                         # a CSV file with a header, beside this file
# file = "measured.csv"
# time = "seconds"
# columns = { v = "potential" }  # state = column; or a list of columns when there is a read-out

[problem]
r0 = { v = -1.2, u = -0.62 }     # or a number, a list, "data" (its first row),
                                 # { seed = 1, sd = 0.5 } for normal values
t_span = [0.0, 60.0]

# [noise]                        # dr = F dt + g dW, by steps solver.dt of "euler" (Itô) or "heun" (Stratonovich)
# scale = 0.1                    # g: a number, one a state, a formula, or by state { v = "0.1*v" }
# seed = 0                       # the same seed, the same path;  dt = 0.01 is the grid that it is drawn on
# paths = 100                    # `ctrnn simulate` follows so many, for their mean and spread

# [[events]]                     # where a condition on the state crosses zero
# condition = "v - threshold"    # in states, inputs, parameters and t
# direction = 1                  # upwards; -1 downwards, 0 both
# reset = { v = "v_reset", u = "u + b" }
# terminal = false               # true ends the run; or end it at the third, terminal = 3
# name = "spike"                 # an [objective] with event = "spike" is taken at the events, loss = "t" of their times

[objective]                      # Σ_k a_k ℓ(o(t_k), y_k); without `at` it is ∫ a(t) ℓ(o, y) dt
loss = "squared_error"           # ½‖o − y‖²; "huber", "poisson", ... (ctrnn.named_losses); or an expression, "v**2"
target = { kind = "constant", values = 1.0 }     # or "data", numbers, a list of signals
at = { start = 20.0, stop = 40.0, step = 2.0 }   # or "data", or a list of times
weight = 1.0                     # a number, one for each time, or a signal
# missing = "skip"               # empty cells of [data] are left out
readout = ["v"]                  # the observed states; or { size = 2, seed = 1 } for o = V r + c

[solver]
name = "tsit5"                   # <solvers>
rtol = 1e-8
atol = 1e-10
# dt = 0.01                      # fixed steps
# max_steps = 1000000            # of `ctrnn simulate`
# points = 501                   # rows of the saved solution

[gradient]
method = "rtrl"                  # <methods>
                                 # { name = "adjoint-checkpoint", memory = 2000000 }: in so many bytes

[compare]                        # reference = "autograd" in place of the complex step
methods = [
  "complex-step",
  "rtrl",
  "adjoint",
  { name = "rtrl", block = 7 },
  "rtrl-continuous",
  "adjoint-interpolate",         # adjoint-backsolve: only where r can be run backwards, as here it cannot
]

[fit]
optimizer = "auto"               # least squares where they can be had; or "L-BFGS-B", "BFGS", "adam", …
parameters = ["a", "b"]          # all, if left out
r0 = false                       # fit r0 too
transform = "log"                # stay positive; "none", or a table by parameter { a = "log" }
max_iterations = 50
# learning_rate = 0.01           # of adam
# bounds = { a = [0.0, 2.0] }    # inf for none;  fixed = ["b"] stays as it is
# prior = { a = { kind = "normal", mean = 1.0, sd = 0.5 } }   # or "lognormal";  regularisation = 0.01 is a ridge
# noise = "normal"               # or "lognormal", "poisson";  sigma = 0.1, one for each observable, or "estimate"
# robust = "soft_l1"             # outliers beyond robust_scale = 1.0 count less
# multistart = 30                # starts within spread = 0.3 of the first, from seed = 0
# shooting = true                # multiple shooting: a number of pieces, or the times between them

[equilibrium]                    # F(t, r, w, x) = 0
guess = { v = -1.2, u = -0.6 }   # where the search starts: by state, a list, or a number; r0 if left out
# x = [0.5]                      # the input that is held; x(t) if left out
# t = 0.0                        # the time; t0 if left out

# [fixed_points]                 # all points of rest that many starts lead to
# starts = 1000                  # states of the run, scattered by scatter = 0.3 of its spread, from seed = 0;
#                                # or box = [[-2.0, 2.0], [-1.0, 1.0]], drawn from it
# slow = true                    # slow points, too;  x = [[0.0], [0.5]]: the inputs, held
# [portrait]                     # the plane of two states; of more than two the principal components of runs
# box = [[-2.5, 2.5], [-1.0, 2.0]]
# basins = true                  # whose points = 101 a side are followed until t_end
# states = ["v", "u"]            # the plane of a larger field;  runs = 6, from scattered starts

[continue]                       # equilibria against a parameter, from the one at the guess, both ways
parameter = "a"                  # or "W[0,1]" of a network, or an input's name
span = [0.0, 1.0]                # holds the parameter's own value
state = "v"                      # on the figure; the first, if left out
branches = false                 # the other branches too: through branch points, and those that are not connected
cycles = true                    # follow the limit cycles that are born at Hopf points
# second = "b"                   # a second parameter: the curves of folds and Hopf points in the plane of both
# second_span = [-1.0, 1.0]      # holds its own value

# [cycle]                        # the limit cycle that the run comes near; the input must be constant
# period = 40.0                  # a first guess; the time of the run's last return, if left out
# [lyapunov]                     # Lyapunov exponents along the run
# k = 2                          # the largest; all, if left out
# transient = 10.0               # time that does not count
# parameter = "a"                # and values = [0.1, 0.5], or { start = 0.1, stop = 0.9, step = 0.1 }: against it

# [train]                        # offline training on trials, by `ctrnn train`; it needs no [problem]
# data = { task = "flip-flop", bits = 3 }        # or { file = "trials.npz" } with arrays x and y, or
#                                # { file = "trials.csv", inputs = ["u"], outputs = ["z"], trial = "n", weight = "a" }
# fresh = true                   # a task draws new trials in each epoch
# windows = { length = 100, stride = 50, warmup = 10 }         # of long trials
# validation = 0.2               # a part by split = "trial" or "time", or a table as data;  test = { … }
# readout = { size = 3, seed = 1 }               # or states; all, if left out
# loss = "squared_error"         # or "cross_entropy", …, or a formula in o and y
# solver = "euler"               # by steps of dt (the task's, or 1), steps_per_input = 1, interpolation = "hold"
# r0 = 0.0                       # train_r0 = true trains it;  parameters = ["W"] only those
# optimizer = "adam"             # { name = "sgd", momentum = 0.9 };  lr = 1e-3, weight_decay = 0.0, clip = 1.0
# scheduler = "CosineAnnealingLR"                # { name = "StepLR", step_size = 30 }
# epochs = 100                   # batch_size = 32, patience = 20, seed = 0
# curriculum = { start = 10, increment = 5 }     # steps of a trial, more in each epoch
# dropout = { x = 0.1, W = 0.2 } # of inputs, and of units by the columns of a matrix; the same at all times
# feedback = true                # outputs are the next inputs; or the names of the inputs, one an output
# teacher_forcing = { start = 1.0, decay = 0.98, end = 0.0 }   # probability of the data; warmup = 1 steps always

# [learn]                        # learning while the data come, by `ctrnn learn`; it needs no [problem]
# data = { task = "mackey-glass" }               # or a file, as of [train]; trials follow one another
# method = "rtrl"                # the rule, by name, or { name = "sketch", rank = 8 }
# readout = { size = 1, seed = 1 }               # which learns too; loss = "squared_error"
# solver = "euler"               # by steps of dt (the task's, or 1)
# lanes = 4                      # trials side by side;  repeats = 2: all data come twice
# update_every = 1               # steps, or a list of times
# optimizer = "adam"             # lr = 1e-3, weight_decay = 0.0, clip = 1.0
# scheduler = { name = "ExponentialLR", gamma = 0.999 }
# feedback = "random"            # in the place of the read-out's weights
# r0 = 0.0                       # at the start of each trial, or with reset_every = 200
# record_every = 250             # steps from row to row of learning.csv;  checkpoint_every = 1000, seed = 0

[figures]                        # axis labels; by state, input or output
time = "t (ms)"
time_unit = "ms"                 # for rates, in 1/ms
labels = { v = "potential v", i = "current i" }
# loss = "loss (mV²)"
# format = "png"                 # or pdf, svg
# show = ["trajectory"]          # all that apply, if left out; or some of: trajectory, paths, phase-portrait,
                                 # gradient-agreement, leak-only, read-out, fit, fit-history, spectrum,
                                 # fixed-points, portrait, bifurcation, two-parameters, cycle, lyapunov, training,
                                 # learning

# A network in place of equations:
#   [field]
#   kind = "rate_network"        # or gru_network, lstm_network, liquid_network, linear_network, mlp: as the classes
#   n = 64                       # ctrnn.GRUNetwork, ... take it
#   inputs = 1
#   activation = "tanh"
#   gain = 1.2
#   seed = 0
#   form = "state"               # (−r + W φ(r) + U x + b)/tau; "rate": φ outside
#   tau = 1.0                    # or a list, one a unit
#   mask, dale, train_tau, rank  # see ctrnn.RateNetwork; mask = { random = "bernoulli", scale = 0.1, seed = 1, ... }
#   [field.parameters]           # W, U, b where they are not to be random: lists of lists, or { file = "W.npz" }
# A trained read-out of it, against the columns y1 and y2 of a file:
#   [data]
#   file = "measured.csv"
#   time = "seconds"
#   columns = ["y1", "y2"]
#   [objective]
#   target = "data"
#   at = "data"
#   readout = { size = 2, seed = 1 }
"""


def _comment(text: str) -> str:
    """A text as lines of comments at the right of the keys."""
    return f"\n{'':33}# ".join(wrap(text, 66, break_on_hyphens=False))


def _methods() -> str:
    """The methods by name, those with options and those that approximate apart."""
    exact, approximations = (", ".join(names_where("approximates", value)) for value in (False, True))
    tables = (f"{name} ({', '.join(m.facts.options)})" for name, m in METHODS.items() if m.facts.options)
    return _comment(f"auto, {exact}; the approximations {approximations}; in tables with options: {', '.join(tables)}")


def _solvers() -> str:
    """The solvers by name, those for stiff systems apart."""
    stiff = [name for name in tableaus.names() if tableaus.get(name).implicit]
    others = ", ".join(name for name in tableaus.names() if name not in stiff)
    return _comment(f'{others}; stiff: {", ".join(stiff)}; auto; "scipy:LSODA", "torchdiffeq:dopri5", …')


TEMPLATE = _TEXT.replace("<methods>", _methods()).replace("<solvers>", _solvers())


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def command(file: Path, force: bool) -> None:
    """Write a commented template of an experiment to FILE."""
    with writing("FILE", file):  # a name may be too long even to be looked at
        if file.exists() and not force:
            raise UsageError("FILE", given=str(file), allowed="a new file", hint="--force to write over it")
        with atomic_path(file) as temporary:
            temporary.write_text(TEMPLATE, encoding="utf-8")
    click.echo(f"{file} (next: ctrnn run {shlex.quote(str(file))})")
