"""``ctrnn new``: a commented experiment file to begin from."""

from __future__ import annotations

from pathlib import Path

import click

from ctrnn.errors import UsageError
from ctrnn.files import atomic_path

TEMPLATE = """\
# An experiment: dr/dt = F(t, r, w, x). Every table but [field] and [problem] may be left out.
#   ctrnn run THIS_FILE          ctrnn fit THIS_FILE --set solver.rtol=1e-6

title = "FitzHugh–Nagumo under a current pulse"

[field]
kind = "equations"               # or "rate_network", see the end of this file
inputs = ["i"]                   # names of the channels of x(t)

[field.equations]                # one right-hand side for each state; t is the time
v = "v - v**3/3 - u + i"
u = "(v + a - b*u)/s"

[field.parameters]
a = 0.7
b = 0.8
s = 12.5

[[inputs]]                       # one table a channel. Kinds: constant, sampled, pulse, step, sine,
                                 # noise, csv, and sum and product of `terms`
kind = "pulse"
onset = 10.0
width = 30.0
amplitude = 0.5

# [data]                         # a CSV file with a header, beside this file
# file = "measured.csv"
# time = "seconds"
# columns = { v = "potential" }  # state = column; or a list of columns when there is a read-out

[problem]
r0 = { v = -1.2, u = -0.62 }     # or a number, a list, "data" (its first row),
                                 # { seed = 1, sd = 0.5 }
t_span = [0.0, 60.0]

[objective]                      # Σ_k a_k ℓ(o(t_k), y_k); without `at` it is ∫ a(t) ℓ(o, y) dt
loss = "squared_error"           # ½‖o − y‖²; "cross_entropy"; or an expression, "v**2"
target = { kind = "constant", values = 1.0 }     # or "data", numbers, a list of signals
at = { start = 20.0, stop = 40.0, step = 2.0 }   # or "data", or a list of times
weight = 1.0                     # a number, one for each time, or a signal
readout = ["v"]                  # the observed states; or { size = 2, seed = 1 } for o = V r + c

[solver]
name = "tsit5"                   # euler, midpoint, heun, rk4, bs3, dopri5, dop853,
                                 # "scipy:LSODA", "torchdiffeq:dopri5", …
rtol = 1e-8
atol = 1e-10
# dt = 0.01                      # fixed steps
# max_steps = 1000000            # of `ctrnn simulate`
# points = 501                   # rows of the saved solution

[gradient]
method = "rtrl"                  # auto, rtrl, rtrl-continuous, adjoint, adjoint-backsolve,
                                 # adjoint-interpolate, rflo, autograd, complex-step,
                                 # central-difference

[compare]                        # reference = "autograd" in place of the complex step
methods = [
  "complex-step",
  "rtrl",
  "adjoint",
  { name = "rtrl", block = 7 },
  "rtrl-continuous",
  "adjoint-backsolve",
]

[fit]
optimizer = "L-BFGS-B"           # or "BFGS", "adam"
parameters = ["a", "b"]          # all, if left out
r0 = false                       # fit r0 too
transform = "log"                # stay positive; "none", or a table by parameter { a = "log" }
max_iterations = 50
# learning_rate = 0.01           # of adam

[equilibrium]                    # at rest under the input at t0
guess = [-1.2, -0.6]

# [figures]                      # all that apply, if left out; or some of: trajectory,
# show = ["trajectory"]          # phase-portrait, gradient-agreement, leak-only, read-out, fit,
                                 # fit-history, spectrum

# A network in place of equations:
#   [field]
#   kind = "rate_network"
#   n = 64
#   inputs = 1
#   activation = "tanh"
#   gain = 1.2
#   seed = 0
#   form = "state"               # (−r + W φ(r) + U x + b)/tau; "rate": φ outside
#   [field.parameters]           # W, U, b as lists of lists, where they are not to be random
"""


@click.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def command(file: Path, force: bool) -> None:
    """Write a commented template of an experiment to FILE."""
    if file.exists() and not force:
        raise UsageError("FILE", given=str(file), allowed="a new file", hint="--force to write over it")
    with atomic_path(file) as temporary:
        temporary.write_text(TEMPLATE, encoding="utf-8")
    click.echo(f"{file} (next: ctrnn run {file})")
