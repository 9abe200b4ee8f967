"""A trajectory gives its values back, by name and from files, to the last bit."""

import csv
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctrnn.errors import MissingDependencyError, UnknownNameError, UsageError
from ctrnn.trajectory import Stats, Trajectory

T, R = np.array([0.0, 0.1, 1 / 3]), np.array([[1.0, 1e-300], [np.pi, -2.0], [1e17, 0.1]])
RUN = Trajectory(T, R, ("prey", "pred"), Stats("tsit5", 2, 1, 13))


def test_columns_by_name_and_number():
    np.testing.assert_array_equal(RUN["pred"], R[:, 1])
    np.testing.assert_array_equal(RUN[0], R[:, 0])
    np.testing.assert_array_equal(RUN[-1], RUN["pred"])
    assert len(RUN) == 3


@pytest.mark.parametrize("wrong", ["predd", 2, -3, 0.0, True, None])
def test_other_names_are_refused(wrong):
    with pytest.raises(UnknownNameError, match="prey, pred"):
        RUN[wrong]


def test_close_name_is_proposed():
    with pytest.raises(UnknownNameError, match="did you mean 'pred'"):
        RUN["predd"]


@pytest.mark.parametrize(
    ("t", "r", "names"),
    [
        (T, R[:2], ("a", "b")),
        (T, R[:, 0], ("a",)),
        (T, R, ("a",)),
        (R, R, ("a", "b")),
    ],
)
def test_shapes_that_do_not_fit_are_refused(t, r, names):
    with pytest.raises(UsageError):
        Trajectory(t, r, names)


def test_csv_gives_the_same_bits_back(tmp_path):
    RUN.to_csv(tmp_path / "run.csv")
    with (tmp_path / "run.csv").open(newline="") as f:
        head, *rows = csv.reader(f)
    assert head == ["t", "prey", "pred"]
    np.testing.assert_array_equal(np.array(rows, float), np.column_stack([T, R]))


def test_npz_gives_the_same_bits_back(tmp_path):
    RUN.to_npz(tmp_path / "run.npz")
    with np.load(tmp_path / "run.npz") as data:
        np.testing.assert_array_equal(data["t"], T)
        np.testing.assert_array_equal(data["r"], R)
        assert data["names"].tolist() == ["prey", "pred"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    path.write_text("old")

    def fail(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        RUN.to_npz(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [RUN.to_csv, RUN.to_npz])
def test_a_folder_that_is_not_there_is_named(tmp_path, write):
    with pytest.raises(UsageError, match="missing"):
        write(tmp_path / "missing" / "run")


def test_xarray_has_the_same_numbers():
    pytest.importorskip("xarray")
    data = RUN.to_xarray()
    np.testing.assert_array_equal(data["pred"].sel(t=0.1), -2.0)
    np.testing.assert_array_equal(data["prey"], R[:, 0])


def test_missing_xarray_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(MissingDependencyError, match=r"ctrnn-toolkit\[xarray\]"):
        RUN.to_xarray()


def test_table_shows_both_ends():
    t = np.arange(100.0)
    text = repr(Trajectory(t, t[:, None] ** 2, ("square",)))
    assert "9801" in text and "..." in text and "2500" not in text
    assert len(text.splitlines()) == 10


def test_wide_table_is_cut_and_says_so():
    text = repr(Trajectory(np.zeros(2), np.zeros((2, 64))))
    assert "and 58 more" in text and max(map(len, text.splitlines())) < 100


@given(st.integers(0, 99), st.integers(0, 99), st.booleans(), st.booleans())
def test_stats_add_up(a, b, p, q):
    total = Stats("f", a, b, a, b, a / 8, p) + Stats("g", b, a, b, a, b / 8, q)
    assert total == Stats("f + g", a + b, a + b, a + b, a + b, (a + b) / 8, p or q)
    assert Stats() + total == total


def test_stats_say_the_same_solver_once():
    assert (Stats("rk4") + Stats("rk4")).solver == "rk4"
    assert "stiffness suspected" in str(Stats("rk4", stiff=True))
    assert "stiff" not in str(Stats("rk4"))
