"""Experiment files: what is wrong is reported at its line and key.

The lines expected here are found by looking for a text in the file, not by the locator under test.
"""

from __future__ import annotations

import tomllib
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ctrnn
from ctrnn.cli.new import TEMPLATE
from ctrnn.errors import ExperimentError, UsageError
from ctrnn.experiment.build import Experiment
from ctrnn.experiment.examples import example_names
from ctrnn.experiment.locate import dotted, lines_of
from ctrnn.experiment.schema import MethodName
from ctrnn.experiment.verify import verify
from ctrnn.gradients.methods import METHODS

BASE = """\
[field]
kind = "equations"
inputs = ["i"]
[field.equations]
prey = "a*prey - b*prey*pred + i"
pred = "-c*pred + d*prey*pred"
[field.parameters]
a = 1.0
b = 0.05
c = 1.0
d = 0.02
[[inputs]]
kind = "sum"
terms = [
  { kind = "pulse", onset = 1.0, width = 0.5 },
  { kind = "constant", values = 0.0 },
]
[data]
file = "data.csv"
time = "year"
columns = { prey = "hare", pred = "lynx" }
[problem]
r0 = "data"
t_span = [0.0, 4.0]
[objective]
target = "data"
at = "data"
[solver]
name = "tsit5"
rtol = 1e-8
[compare]
methods = [
  "rtrl",
  { name = "rtrl", block = 7 },
]
[fit]
transform = { a = "log" }
"""

CSV = "year,hare,lynx\n0,30,4\n1,47.2,6.1\n2,70.2,9.8\n5,1,1\n"


@pytest.fixture
def load(tmp_path):
    """Write a file and load it: load(text, *overrides, csv=...)."""

    def write(text=BASE, *overrides, csv=CSV):
        (tmp_path / "data.csv").write_text(csv, encoding="utf-8")
        path = tmp_path / "x.toml"
        path.write_text(text, encoding="utf-8")
        return Experiment(path, overrides)

    return write


# --- the locator


@st.composite
def documents(draw):
    """A TOML text and the line of each of its key paths, noted while it is written."""
    lines, where = [], {}
    name = st.text("abcXYZ019_-", min_size=1, max_size=4)
    leaf = st.sampled_from(
        [
            "1",
            "1979-05-27",
            '"a # ] } [x]\\""',
            "'it\\'",
            '"""\ntwo\n# [lines] """',
            "true",
            "[1,2]",
        ]
    )

    def comment():
        if draw(st.booleans()):
            lines.append(draw(st.sampled_from(["", "# [no] = table", "   # x = 'y"])))

    def pairs(prefix, keys):
        for key in keys:
            comment()
            shape = draw(st.integers(0, 4))
            quoted = f'"{key}"' if draw(st.booleans()) else key
            where[(*prefix, key)] = len(lines) + 1
            if shape == 0:  # an inline table
                where[(*prefix, key, "in")] = len(lines) + 1
                inner = draw(st.sampled_from(["1", "[{}]"]))
                lines.append(f"{quoted} = {{ in = {inner} }} # x = 1")
            elif shape == 1:  # an array over several lines, of tables
                lines.append(f"  {quoted}=[ # [a]")
                for k in range(2):
                    where[(*prefix, key, k)] = where[(*prefix, key, k, "e")] = len(lines) + 1
                    lines.append("  {e = ']'},")
                lines.append("]")
            elif shape == 2:  # a dotted key
                where[(*prefix, key, "sub")] = len(lines) + 1
                lines.append(f"{quoted} . sub = 0")
            else:
                lines.extend(f"{quoted} = {draw(leaf)}".split("\n"))

    names = st.lists(name, min_size=1, max_size=3, unique=True)
    pairs((), draw(names))
    for table in ("T", "U u"):
        if draw(st.booleans()):
            header = f'"{table}"'
            where[(table,)] = len(lines) + 1
            lines.append(f"[{header}]")
            pairs((table,), draw(names))
    for k in range(draw(st.integers(0, 2))):
        where[("A", k)] = len(lines) + 1
        lines.append("[[ A ]]")
        pairs(("A", k), draw(names))
        where[("A", k, "S")] = len(lines) + 1
        lines.append("[A.S] # of the latest A")
        pairs(("A", k, "S"), draw(names))
    return "\n".join(lines), where


@settings(max_examples=200, deadline=None)
@given(documents())
def test_every_key_is_found_at_its_line(document):
    text, where = document
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # the same name drawn as a table and as a value
    found = lines_of(text)
    assert {path: found.get(path) for path in where} == where


def test_a_key_path_is_written_as_for_set():
    assert dotted(("inputs", 0, "on set")) == 'inputs.0."on set"'


# --- wrong files

WRONG = {  # what: (text to replace, its replacement with the fault, key path, words in the message)
    "unknown key": ("rtol = 1e-8", "rtoll = 1e-8", "solver.rtoll", "did you mean 'rtol'"),
    "unknown table": ("[solver]", "[solvr]", "solvr", "did you mean 'solver'"),
    "unknown kind": ('"pulse"', '"puls"', "inputs.0.terms.0.kind", "did you mean 'pulse'"),
    "no kind": ('kind = "equations"', "n = 3", "field.kind", "allowed: equations, rate_network, gru_network"),
    "missing key": ("t_span = [0.0, 4.0]", "", "problem.t_span", "got nothing"),
    "text for a number": ("rtol = 1e-8", 'rtol = "1e-8"', "solver.rtol", "allowed: a number"),
    "not positive": ("rtol = 1e-8", "rtol = -1", "solver.rtol", "allowed: a number > 0"),
    "not finite": ("a = 1.0", "a = nan", "field.parameters.a", "a finite number"),
    "not whole": ("block = 7", "block = 7.5", "compare.methods.1.block", "a whole number"),
    "zero block": ("block = 7", "block = 0", "compare.methods.1.block", ">= 1"),
    "wrong word": ('at = "data"', 'at = "dat"', "objective.at", "did you mean 'data'"),
    "wrong shape": ('at = "data"', "at = true", "objective.at", "a list or a table"),
    "too few": ("[0.0, 4.0]", "[0.0]", "problem.t_span", "at least 2"),
    "too many": ("[0.0, 4.0]", "[0.0, 4.0, 5.0]", "problem.t_span", "at most 2"),
    "unknown method": ('  "rtrl",', '  "rtlr",', "compare.methods.0", "did you mean 'rtrl'"),
    "method without blocks": (
        '"rtrl", block',
        '"adjoint", block',
        "compare.methods.1.name",
        "rtrl",
    ),
    "bad state name": (
        'prey = "a*',
        '"my prey" = "a*',
        'field.equations."my prey"',
        "a name of letters",
    ),
    "wrong transform": ('a = "log"', 'a = "lg"', "fit.transform.a", "log, none"),
    "value for a table": ('[solver]\nname = "tsit5"\nrtol = 1e-8', "[x]\n", "x", "the keys"),
}


def line_of(text, mark):
    """The line on which a text stands for the first time."""
    return text[: text.index(mark)].count("\n") + 1


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_file_is_an_error_at_its_line_and_key(load, what):
    old, new, key, words = WRONG[what]
    assert BASE.count(old) >= 1
    text = BASE.replace(old, new, 1)
    with pytest.raises(ExperimentError) as caught:
        load(text)
    error = caught.value
    # a key that is missing is reported at its table
    line = line_of(text, new) if new else line_of(text, "[problem]")
    line = line_of(text, "[field]") if what == "no kind" else line
    assert (error.line, error.key, error.exit_code) == (line, key, 2)
    assert f"x.toml:{line}: {key}: got " in str(error) and words in str(error)


def test_all_faults_are_told_at_once_in_the_order_of_the_file(load):
    text = BASE.replace("rtol = 1e-8", "rtol = 0").replace("a = 1.0", "a = true")
    with pytest.raises(ExperimentError) as caught:
        load(text)
    first, second = str(caught.value).split("\n")
    assert "field.parameters.a: got True" in first and "solver.rtol: got 0" in second


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("[field\n", 1, "column 7"),
        ("\n\na = = 3", 3, "column 5"),
        ("a = 1\na = 2\n", 2, "column 6"),
        ('a = "x\n', 1, "column 7"),
        ("a = [1,\n", 1, "end of file"),
    ],
)
def test_a_syntax_error_is_told_with_line_and_column(load, text, line, column):
    with pytest.raises(ExperimentError) as caught:
        load(text)
    assert caught.value.line == line and f"x.toml:{line}: {column}: not valid TOML: " in str(caught.value)


def test_a_file_that_is_not_text_is_an_error(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExperimentError, match="UTF-8"):
        Experiment(path)


def test_an_unknown_experiment_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'hare-lynx'"):
        Experiment("hare-linx")
    with pytest.raises(UsageError):
        Experiment("../examples/hare-lynx")


# --- overrides


def test_overrides_are_toml_or_else_text(load):
    e = load(
        BASE,
        "solver.rtol=1e-5",
        "solver.name=rk4",
        "inputs.0.terms.0.onset = 2",
        "compare.methods.1.block=3",
        'fit={optimizer="adam"}',
        "figures.show=[]",
        "solver.rtol=1e-6",
    )
    spec = e.spec
    assert (spec.solver.rtol, spec.solver.name) == (1e-6, "rk4")
    assert spec.inputs[0].terms[0].onset == 2
    assert (spec.compare.methods[1].block, spec.fit.optimizer) == (3, "adam")
    assert spec.figures.show == [] and spec.fit.transform == "none"


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ("solver.rtol", "path.to.key=value"),
        ("=3", "path.to.key=value"),
        ("a b=3", "path.to.key=value"),
        ("solver.rtol=fast", "solver.rtol: got 'fast'; allowed: a number"),
        ("solver.rtoll=1", "did you mean 'rtol'"),
        ("inputs.7.onset=1", "inputs.7: got '7'; allowed: an index from 0 to 0"),
        ("solver.name.x=1", "solver.name: got 'tsit5'; allowed: a table"),
        ("problem.t_span=[nan, 1]", "problem.t_span.0: got nan; allowed: a finite number"),
        ("equilibrium.gues.prey=1", "equilibrium.gues: got 'gues'; allowed: the keys guess"),
    ],
)
def test_a_wrong_override_is_told_as_such(load, item, words):
    with pytest.raises(ExperimentError) as caught:
        load(BASE, item)
    assert str(caught.value).startswith("--set") and words in str(caught.value)
    assert caught.value.line is None


# --- what is only seen while building

LATE = {  # what: (text to replace, its replacement with the fault, key path, words in the message)
    "unknown symbol": ("b*prey*pred + i", "k*prey*pred + i", "field.equations.prey", "'k'"),
    "broken formula": ("b*prey*pred + i", "b*prey*(pred + i", "field.equations.prey", "column"),
    "no such column": ('"lynx" }', '"lynxes" }', "data.columns", "lynx"),
    "no such state": ('pred = "lynx"', 'pread = "lynx"', "data.columns.pread", "'pred'?"),
    "no such file": ('"data.csv"', '"date.csv"', "data.file", "date.csv"),
    "no data then": ("[0.0, 4.0]", "[7.0, 9.0]", "problem.t_span", "0 to 5"),
    "span backwards": ("[0.0, 4.0]", "[4.0, 0.0]", "problem.t_span", "t1 > t0"),
    "r0 of another length": ('r0 = "data"', "r0 = [1.0]", "problem.r0", "2 numbers"),
    "r0 without a state": ('r0 = "data"', "r0 = { prey = 1.0 }", "problem.r0.pred", "every state"),
    "r0 of no state": ('r0 = "data"', "r0 = { pry = 1.0 }", "problem.r0.pry", "'prey'?"),
    "times not in the data": ('at = "data"', "at = [0.5]", "objective.at", "in the data"),
    "times backwards": ('at = "data"', "at = [2.0, 1.0]", "objective.at", ""),
    "grid backwards": (
        'at = "data"',
        "at = {start = 2, stop = 1, step = 1}",
        "objective.at.stop",
        "",
    ),
    "times outside": (
        'target = "data"\nat = "data"',
        "target = 1.0\nat = [9.0]",
        "objective.at",
        "0 to 4",
    ),
    "unknown loss": (
        "[objective]",
        '[objective]\nloss = "sqared_error"',
        "objective.loss",
        "did you mean 'squared_error'",
    ),
    "target of another shape": (
        'target = "data"',
        "target = [[1.0], [2.0], [3.0]]",
        "objective.target",
        "",
    ),
    "ragged target": (
        'target = "data"',
        "target = [[1.0, 2.0], [2.0]]",
        "objective.target.1",
        "2 numbers",
    ),
}


LATE |= {
    "unused parameter": ("d = 0.02", "d = 0.02\ndd = 0.02", "field.parameters.dd", "did you mean 'd'?"),
    "no such time column": ('time = "year"', 'time = "yeer"', "data.time", "did you mean 'year'?"),
    "expression with a target": ("[objective]", '[objective]\nloss = "prey**2"', "objective.target", "remove target"),
    "interpolation as kind": (
        '{ kind = "constant", values = 0.0 }',
        '{ kind = "linear", times = [0.0, 1.0], values = [0.0, 1.0] }',
        "inputs.0.terms.1.kind",
        'interpolation = "linear"',
    ),
}


@pytest.mark.parametrize("what", LATE)
def test_a_fault_that_the_library_finds_is_told_at_its_line_and_key(load, what):
    old, new, key, words = LATE[what]
    assert BASE.count(old) == 1
    text = BASE.replace(old, new)
    with pytest.raises(ExperimentError) as caught:
        _ = load(text).problem
    error = caught.value
    mark = {"expression with a target": 'target = "data"'}.get(what, new.split("\n")[-1])
    assert (error.line, error.key) == (line_of(text, mark), key)
    assert words in str(error)


@pytest.mark.parametrize(
    ("csv", "words"),
    [
        ("year,hare,lynx\n0,30,4\n1,47,2,6,1\n", "line 3: got \"5 cells in '1,47,2,6,1'\""),
        ("year,hare,lynx\n0,30,4\n1,47,2,6,1\n", "decimal comma?"),
        ("year,hare,lynx,fox\n0,30,4\n", 'line 2: got "3 cells'),
        ("year,hare,lynx,hare\n0,30,4,5\n", "line 1: got \"column 'hare' 2 times\""),
        ("year;hare;lynx\n0;30,5;4\n", "line 1: got 'year;hare;lynx'"),
        ("year;hare;lynx\n0;30,5;4\n", "separated by ';'?"),
        ("year\thare\tlynx\n0\t30\t4\n", "separated by tabs?"),
        ("year,hare,lynx\n0;30;4\n", "separated by ';'?"),
        ('year,hare,lynx\n0,"30,5",4\n', "decimal comma?"),
    ],
)
def test_a_table_that_would_be_misread_is_refused_at_its_line(load, csv, words):
    with pytest.raises(ExperimentError) as caught:
        _ = load(BASE, csv=csv).problem
    assert words in str(caught.value) and "data.csv" in str(caught.value)


GAPS = "year,hare,lynx\n0,30,4\n1,,6.1\n2,70.2,\n3, ,\n4,20,1\n"


def test_empty_cells_are_left_out_where_the_file_says_so(load):
    skip = BASE.replace('at = "data"', 'at = "data"\nmissing = "skip"')
    loaded = load(skip, csv=GAPS)
    t, y = loaded.data.t, loaded.data.y
    assert t.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    np.testing.assert_array_equal(y, [[30, 4], [np.nan, 6.1], [70.2, np.nan], [np.nan, np.nan], [20, 1]])
    weight = np.isfinite(y).astype(float)
    weighed = ctrnn.Objective(target=np.where(weight, y, 0.0), at=t, weight=weight)
    one, other = loaded.problem, loaded.problem.replace(objective=weighed)
    assert ctrnn.gradient(one).loss == pytest.approx(ctrnn.gradient(other).loss, rel=1e-14)


@pytest.mark.parametrize(
    "change, csv, words",
    [
        (("", ""), GAPS, "line 3, column 'hare': got ''.*Try: missing = \"skip\""),
        (('at = "data"', 'at = "data"\nmissing = "skip"'), GAPS.replace("0,30,4", "0,,4"), "r0.*first row.*prey"),
        (('at = "data"', 'at = "data"\nmissing = "skip"'), GAPS.replace("3, ,", ", ,5"), "line 5, column 'year'"),
        (('at = "data"', 'missing = "skip"'), GAPS, "objective.missing.*for an integral"),
        (('target = "data"\nat = "data"', 'event = "e"\nloss = "t"\nmissing = "skip"'), CSV, "missing"),
    ],
)
def test_empty_cells_that_cannot_be_left_out(load, change, csv, words):
    with pytest.raises(ExperimentError, match=words):
        _ = load(BASE.replace(*change), csv=csv).problem


def test_lines_that_end_on_a_comma_are_read(load):
    csv = "".join(f"{line},\n" for line in CSV.splitlines())
    np.testing.assert_array_equal(load(BASE, csv=csv).data.y, load().data.y)


# --- what is tried before anything is computed

BEFORE = {  # what: (steps, text to replace, its replacement, key path, words)
    "parameter to fit": ("fit", "[fit]", '[fit]\nparameters = ["zz"]', "fit.parameters", "'zz'; allowed: a, b, c, d"),
    "optimiser": ("fit", "[fit]", '[fit]\noptimizer = "foo"', "fit.optimizer", "L-BFGS-B"),
    "transform": ("fit", 'a = "log"', 'zz = "log"', "fit.transform", "'zz'"),
    "method of a fit": ("fit", "[fit]", '[fit]\nmethods = ["rflo"]', "fit.methods", "a network"),
    "solver": ("simulate", '"tsit5"', '"tsit6"', "solver.name", "did you mean 'tsit5'"),
    "library": ("simulate", '"tsit5"', '"scipy:foo"', "solver.name", "scipy:LSODA"),
    "no step": ("simulate", '"tsit5"', '"rk4"', "solver.dt", "dt = 0.01"),
    "solver for a gradient": ("gradient", '"tsit5"', '"scipy:LSODA"', "solver.name", '"rtrl-continuous"'),
    "guess": ("equilibrium", "[fit]", "[equilibrium]\nguess = [1.0]\n[fit]", "equilibrium.guess", "(2)"),
    "held input": ("equilibrium", "[fit]", "[equilibrium]\nx = [1.0, 2.0]\n[fit]", "equilibrium.x", "each input: i"),
    "picture": ("simulate", "[fit]", '[figures]\nshow = ["spectrum"]\n[fit]', "figures.show.0", "the step equilibrium"),
    "label": ("simulate", "[fit]", '[figures]\nlabels = { pry = "q" }\n[fit]', "figures.labels.pry", "'prey'?"),
    "no objective": ("compare", '[objective]\ntarget = "data"\nat = "data"\n', "", "objective", "a table [objective]"),
}


@pytest.mark.parametrize("what", BEFORE)
def test_what_the_steps_would_refuse_is_told_before_they_begin(load, what):
    step, old, new, key, words = BEFORE[what]
    assert BASE.count(old) == 1
    text = BASE.replace(old, new)
    if what == "solver for a gradient":
        text += '[gradient]\nmethod = "rtrl"\n'
    with pytest.raises(ExperimentError) as caught:
        verify(load(text), [step])
    error = caught.value
    assert error.key == key and words in str(error)
    assert str(error).count(key.split(".")[-1] + ": ") <= 1  # the place is said once


def test_right_files_are_verified(load):
    verify(load(), ["simulate", "compare", "fit"])
    verify(load(BASE, "equilibrium.guess=30", "equilibrium.x=0.5", "equilibrium.t=1"), ["equilibrium"])


@pytest.mark.parametrize(
    ("items", "blamed"),
    [
        (["problem.t_span=[7.0, 9.0]"], "problem.t_span"),  # the fault shows in [problem]
        (["solver.name=rk4"], "solver.name"),  # in solver.dt, which nobody gave
        (["field.equations.prey=a*prey - b*prey*pred"], None),  # right
        (["solver.rtol=1e-5", "field.kind=rate_network"], "field.kind"),  # in field.equations, a line of the file
        (["field.parameters.aa=1"], "field.parameters.aa"),
    ],
)
def test_the_override_without_which_the_file_is_right_is_blamed(load, items, blamed):
    def whole():
        verify(load(BASE, *items), ["simulate"])

    if blamed is None:
        whole()
        return
    with pytest.raises(ExperimentError) as caught:
        whole()
    assert str(caught.value).startswith(f"--set {blamed}=") and caught.value.line is None


def test_a_fault_of_the_file_itself_is_not_blamed_on_an_override(load):
    text = BASE.replace("rtol = 1e-8", "rtol = 0")
    with pytest.raises(ExperimentError) as caught:
        load(text, "solver.atol=1e-9")
    assert caught.value.line == line_of(text, "rtol = 0")


def test_advice_is_given_in_the_words_of_files(load):
    two = BASE.replace("[[inputs]]", '[[inputs]]\nkind = "constant"\nvalues = 1.0\n[[inputs]]')
    with pytest.raises(ExperimentError) as caught:
        _ = load(two).problem
    assert "[[inputs]], one a channel" in str(caught.value) and "ctrnn." not in str(caught.value)


@pytest.mark.parametrize("name", example_names())
def test_shipped_experiments_are_right(name):
    spec = Experiment(name).spec
    assert spec.title and spec.shows


def test_the_methods_of_the_file_are_those_of_the_library():
    assert {*get_args(MethodName)} == {*METHODS, "auto"}


def test_the_template_is_right(load):
    assert load(TEMPLATE).spec.field.kind == "equations"


@pytest.mark.parametrize("transform", ['"log"', "{}"])
def test_the_trial_fit_of_a_file_makes_nothing_fast(load, monkeypatch, transform):
    # towards 0 at a thousandth of the time k became so large that each gradient took seconds
    found, fit = [], ctrnn.learning.fit
    monkeypatch.setattr(ctrnn.learning, "fit", lambda *given, **options: found.append(fit(*given, **options)))
    decay = f"""
[field]
kind = "equations"
equations = {{ r = "-k*r" }}
parameters = {{ k = 2.0 }}
[problem]
r0 = {{ r = 3.0 }}
t_span = [0.0, 1.0]
[objective]
target = [1.5]
at = [1.0]
[fit]
transform = {transform}
"""
    verify(load(decay), ["fit"])
    (only,) = found
    assert 0.0 < float(only.parameters["k"]) < 3.0
