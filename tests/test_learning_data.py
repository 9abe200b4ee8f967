"""Trials to learn from: arrays, NPZ, CSV; windows and splits; and torch's optimisers and schedulers by name."""

import numpy as np
import pytest
import torch

from ctrnn.errors import UnknownNameError, UsageError
from ctrnn.learning.data import Dataset, as_dataset
from ctrnn.learning.torch_optimizers import make_optimizer, make_scheduler

RNG = np.random.default_rng(0)


def ragged():
    """Three trials of 4, 7 and 5 steps."""
    lengths = (4, 7, 5)
    return [RNG.normal(size=(T, 2)) for T in lengths], [RNG.normal(size=(T, 1)) for T in lengths]


def test_unequal_trials_are_filled_up_and_weigh_nothing_behind_their_end():
    x, y = ragged()
    data = Dataset(x, y)
    assert data.x.shape == (3, 7, 2) and data.weight.sum(axis=1).tolist() == [4, 7, 5]
    assert np.array_equal(data.x[0, :4], x[0]) and not data.x[0, 4:].any()
    one = data[2]
    assert [tuple(v.shape) for v in one] == [(5, 2), (5, 1), (5,)] and np.array_equal(one[1].numpy(), y[2])
    assert repr(data) == "Dataset(3 trials of 4 to 7 steps, 2 inputs, 1 output)"


@pytest.mark.parametrize(
    ("x", "y", "weight", "words"),
    [
        (np.full((2, 3, 1), np.nan), np.ones((2, 3, 1)), None, "x of trial 0, step 0, channel 0"),
        (np.ones((2, 3, 1)), np.ones((3, 3, 1)), None, "3 trials"),
        (np.ones((2, 3, 1)), np.ones((2, 4, 1)), None, "y of trial 0: got '4 steps'"),
        ([np.ones((3, 1)), np.ones((4, 1))], [np.ones((3, 1)), np.ones((3, 1))], None, "y of trial 1"),
        ([np.ones((3, 1)), np.ones((4, 2))], [np.ones((3, 1)), np.ones((4, 1))], None, "1 channels, as trial 0"),
        (np.ones((2, 3, 1)), np.ones((2, 3, 1)), -np.ones((2, 3)), "weight"),
        (np.ones((2, 0, 1)), np.ones((2, 0, 1)), None, "no steps"),
        (np.ones(3), np.ones((3, 1)), None, "shape"),
        ("text", np.ones((3, 1)), None, "x"),
    ],
)
def test_what_is_no_data_is_refused_by_name(x, y, weight, words):
    with pytest.raises(UsageError, match=words.replace("(", r"\(")):
        Dataset(x, y, weight)


def test_npz(tmp_path):
    x, y = RNG.normal(size=(3, 6, 2)), RNG.normal(size=(3, 6, 1))
    np.savez(tmp_path / "a.npz", x=x, y=y, lengths=[6, 2, 4])
    data = Dataset.from_npz(tmp_path / "a.npz")
    assert data.lengths.tolist() == [6, 2, 4] and np.array_equal(data.y[2, :4], y[2, :4]) and not data.y[2, 4:].any()
    np.savez(tmp_path / "b.npz", x=x)
    with pytest.raises(UnknownNameError, match="'y'"):
        Dataset.from_npz(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(UsageError, match="readable NPZ"):
        Dataset.from_npz(tmp_path / "c.npz")
    with pytest.raises(UsageError, match="readable NPZ"):
        Dataset.from_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "d.npz", x=x, y=y, lengths=[7, 2, 4])
    with pytest.raises(UsageError, match="lengths"):
        Dataset.from_npz(tmp_path / "d.npz")


def test_csv(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("trial,u,v,z,a\n1,1,2,3,1\n1,4,5,6,0\n7,7,8,9,1\n")
    data = Dataset.from_csv(path, ["u", "v"], "z", trial="trial", weight="a")
    assert data.lengths.tolist() == [2, 1] and data.input_names == ("u", "v") and data.output_names == ("z",)
    assert data.x[0].tolist() == [[1, 2], [4, 5]] and data.weight.tolist() == [[1, 0], [1, 0]]
    with pytest.raises(UnknownNameError, match="did you mean|allowed"):
        Dataset.from_csv(path, ["u", "w"], "z")
    path.write_text("trial,u,z\n1,1,2\n2,1,2\n1,1,2\n")
    with pytest.raises(UsageError, match="line 4, column 'trial'"):
        Dataset.from_csv(path, "u", "z", trial="trial")
    path.write_text("u,z\n1,2\n1,nan\n")
    with pytest.raises(UsageError, match="line 3, column 'z'"):
        Dataset.from_csv(path, "u", "z")


def test_splits():
    x, y = np.arange(40.0).reshape(4, 10, 1), np.zeros((4, 10, 1))
    data = Dataset(x, y)
    train, valid = data.split(0.25, seed=3)
    together = sorted([*train.x[:, 0, 0], *valid.x[:, 0, 0]])
    assert len(valid) == 1 and together == [0, 10, 20, 30]
    assert np.array_equal(valid.x, data.split(0.25, seed=3)[1].x)
    before, after = data.split(0.3, by="time")
    assert before.x.shape == (4, 7, 1) and after.x.shape == (4, 10, 1)
    assert after.weight.sum() == 12 and not after.weight[:, :7].any()  # nothing that was learned is validated
    for wrong in (0.0, 1.0, 0.99, True):
        with pytest.raises(UsageError, match="fraction"):
            data.split(wrong, by="time")
    with pytest.raises(UsageError, match="2 trials"):
        data.take([0]).split(0.5)
    with pytest.raises(UnknownNameError, match="by"):
        data.split(0.5, by="times")


def test_windows_cover_each_trial_and_end_with_it():
    data = Dataset(np.arange(11.0)[:, None], np.arange(11.0)[:, None])
    parts = data.windows(5, stride=3, warmup=2)
    assert parts.x[:, 0, 0].tolist() == [0, 3, 6] and parts.lengths.tolist() == [5, 5, 5]
    assert parts.weight.sum() == 9
    assert data.windows(50).lengths.tolist() == [11]
    assert data.windows(4, stride=4).x[:, 0, 0].tolist() == [0, 4, 7]
    with pytest.raises(UsageError, match="warmup"):
        data.windows(5, warmup=5)


def test_dataloader_and_what_is_taken_as_a_dataset():
    data = Dataset(RNG.normal(size=(6, 4, 2)), RNG.normal(size=(6, 4, 1)))
    x, y, a = next(iter(torch.utils.data.DataLoader(data, batch_size=3)))
    assert x.shape == (3, 4, 2) and y.dtype == torch.float64 and a.shape == (3, 4)
    for same in ((data.x, data.y), {"x": data.x, "y": data.y}, data, torch.utils.data.Subset):
        if same is torch.utils.data.Subset:
            with pytest.raises(UsageError, match="trials"):
                as_dataset("trials", same)
        else:
            assert np.array_equal(as_dataset("trials", same).y, data.y)
    with pytest.raises(UnknownNameError, match="target"):
        as_dataset("trials", {"x": data.x, "target": data.y})


def test_targets_without_their_axis_are_told_of_it():
    with pytest.raises(UsageError, match=r"y\[\.\.\., None\], of one output; np\.eye\(classes\)\[y\]"):
        Dataset(np.zeros((4, 6, 2)), np.zeros((4, 6)))


def test_optimisers_by_name_table_and_object():
    w, b = (torch.zeros(size, requires_grad=True) for size in ((2, 2), (2,)))
    made = make_optimizer("AdamW", [w, b], lr=0.1, weight_decay=0.5)
    assert [group["weight_decay"] for group in made.param_groups] == [0.5, 0.0]
    assert make_optimizer({"name": "sgd", "momentum": 0.9}, [w]).param_groups[0]["momentum"] == 0.9
    assert isinstance(make_optimizer(torch.optim.RMSprop, [w], lr=0.2), torch.optim.RMSprop)
    assert make_optimizer(lambda p: torch.optim.SGD(p, lr=0.3), [w]).param_groups[0]["lr"] == 0.3
    with pytest.raises(UnknownNameError, match="did you mean 'adam'"):
        make_optimizer("adamm", [w])
    with pytest.raises(UnknownNameError, match="momentun"):
        make_optimizer({"name": "sgd", "momentun": 0.9}, [w])
    for wrong in ({"lr": -1.0}, {"weight_decay": float("nan")}, {"optimizer": 3}, {"optimizer": {"momentum": 1}}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            make_optimizer(**{"optimizer": "adam", "parameters": [w]} | wrong)
    with pytest.raises(UsageError, match="weight_decay"):
        make_optimizer("rprop", [w], weight_decay=0.1)


@pytest.mark.parametrize(
    ("optimizer", "given", "decay"),
    [
        ("adamw", None, 0.01),  # torch's own
        ("adamw", 0.0, 0.0),
        (torch.optim.AdamW, None, 0.01),
        (torch.optim.AdamW, 0.0, 0.0),
        ({"name": "adamw", "weight_decay": 0.3}, None, 0.3),
        ({"name": "sgd", "weight_decay": 0.3}, None, 0.3),
        ("adam", None, 0.0),
        ("adam", 0.2, 0.2),
        ("rprop", 0.0, 0.0),
    ],
)
def test_matrices_alone_decay_and_by_what_was_asked_for(optimizer, given, decay):
    """Whether it is the argument, an option of the optimiser or torch's own default that asks for it."""
    made = make_optimizer(
        optimizer, [torch.zeros(2, 2, requires_grad=True), torch.zeros(2, requires_grad=True)], 0.1, given
    )
    found = {p.ndim: group.get("weight_decay", 0.0) for group in made.param_groups for p in group["params"]}
    assert found == {2: decay, 1: 0.0}


def test_a_decay_that_is_given_twice_is_refused():
    with pytest.raises(UsageError, match="0.1, and 0.3 among the options of sgd"):
        make_optimizer({"name": "sgd", "weight_decay": 0.3}, [torch.zeros(2, 2, requires_grad=True)], weight_decay=0.1)


def test_schedulers_by_name_table_and_object():
    w = torch.zeros(1, requires_grad=True)
    optimizer = make_optimizer("sgd", [w], lr=1.0)
    schedule = make_scheduler("cosineannealinglr", optimizer, steps=10)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert abs(optimizer.param_groups[0]["lr"]) < 1e-12
    assert make_scheduler(None, optimizer) is None
    assert isinstance(make_scheduler("ReduceLROnPlateau", optimizer), torch.optim.lr_scheduler.ReduceLROnPlateau)
    made = make_scheduler(lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda k: 0.5**k), optimizer)
    assert isinstance(made, torch.optim.lr_scheduler.LambdaLR)
    with pytest.raises(UnknownNameError, match="StepLRR"):
        make_scheduler("StepLRR", optimizer)
    with pytest.raises(UsageError, match="step_size"):
        make_scheduler("StepLR", optimizer)
    with pytest.raises(UnknownNameError, match="gama"):
        make_scheduler({"name": "ExponentialLR", "gama": 0.5}, optimizer)
