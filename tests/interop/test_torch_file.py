import argparse
import collections
import datetime
import importlib
import io
import os
import pathlib
import pickle
import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from kdjax.interop import torch_file
from tests.interop.torch_reference import files

WEIGHTS = {
    "conv.weight": np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3),
    "bn.running_var": np.asarray([0.5, 2.0], np.float64),
    "bn.num_batches_tracked": np.asarray(7, np.int64),
    "half": np.asarray([1.5, -2.0], np.float16),
}


@pytest.fixture(params=["archive", "old"])
def save(request, tmp_path):
    """Returns a function that writes a checkpoint as a version of PyTorch did."""

    def save(saved):
        path = tmp_path / "checkpoint.pth"
        path.write_bytes(getattr(files, request.param)(saved))
        return path

    return save


def tensors(arrays=WEIGHTS):
    return collections.OrderedDict(
        (name, files.Tensor(array)) for name, array in arrays.items()
    )


def arrays(state_dict):
    return state_dict.arrays({name: name for name in state_dict.tensors})


def check_weights(state_dict):
    read = arrays(state_dict)
    assert read.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], array)
    assert read["half"].dtype == np.float32


def touch(path):
    """A function that a pickle asks to be called."""
    pathlib.Path(path).touch()


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Options(dict):
    """Pickles as an object with entries and a state, of a class of the user."""

    def __init__(self, **options):
        super().__init__(**options)
        self.read_only = True


class Module:
    """Pickles as a module of PyTorch that is saved whole."""

    def __init__(self, parameters=None, buffers=None, **modules):
        self._parameters = parameters or {}
        self._buffers = buffers or {}
        self._modules = modules


@pytest.mark.parametrize(
    ("key", "wrap"),
    [
        ("", lambda t: t),
        ("", lambda t: {**t, "epoch": 3}),
        ("", lambda t: {**t, "optimizer": {"state": {0: files.Tensor(np.ones(3))}}}),
        ("model", lambda t: {"model": t, "epoch": 240, "opt": {"lr": 0.1}}),
        ("model", lambda t: {"model": t, "opt": argparse.Namespace(lr=0.05)}),
        (
            "model",
            lambda t: {"model": t, "scheduler": {"steps": collections.Counter([150])}},
        ),
        ("state_dict", lambda t: {"state_dict": t, "best_acc": np.float64(79.4)}),
        (
            "model_state_dict",
            lambda t: {
                "epoch": 3,
                "model_state_dict": t,
                "optimizer_state_dict": {"param_groups": [{"lr": 0.1}]},
                "loss": 0.3,
            },
        ),
        (
            "net",
            lambda t: {
                "net": t,
                "history": np.ones(3),
                "classes": {"ant", "bee"},
                "day": datetime.date(2020, 1, 1),
                "path": pathlib.PurePosixPath("runs"),
                "defaults": collections.defaultdict(list, lr=[0.1]),
            },
        ),
        ("student", lambda t: {"student": t, "cfg": Options(lr=0.1)}),
        ("checkpoint.ema", lambda t: {"checkpoint": {"ema": t}}),
    ],
)
def test_reads_what_torch_saved(save, key, wrap):
    """Whatever lies beside the weights."""
    check_weights(torch_file.read(save(wrap(tensors())))[key])


def test_reads_a_module_that_was_saved_whole(save):
    inner = {name: x for name, x in tensors().items() if "." in name}
    network = Module(
        {"half": files.Tensor(WEIGHTS["half"]), "none": None},
        conv=Module({"weight": inner["conv.weight"]}),
        bn=Module(
            None,
            {
                "running_var": inner["bn.running_var"],
                "num_batches_tracked": inner["bn.num_batches_tracked"],
            },
        ),
    )
    check_weights(torch_file.read(save({"net": network}))["net"])


def test_what_is_unknown_is_never_called_and_is_no_weight(save, tmp_path):
    """It is listed beside the weights by the name that the file gives it."""
    path = tmp_path / "called"
    saved = {"a": files.Tensor(np.ones(2, np.float32)), "b": Calls(touch, str(path))}
    found = torch_file.read(save(saved))[""]
    assert not path.exists()
    assert found.tensors.keys() == {"a"}
    assert found.others == {"b": f"{__name__}.touch"}


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (exec, "exec"),
        (eval, "eval"),
        (getattr, "getattr"),
        (__import__, "__import__"),
        (open, "open"),
        (os.system, "system"),
        (os.remove, "remove"),
        (subprocess.Popen, "commands.Popen"),  # As Python 2 calls it.
        (shutil.rmtree, "shutil.rmtree"),
        (importlib.import_module, "importlib.import_module"),
        (runpy.run_path, "runpy.run_path"),
        (sys.exit, "sys.exit"),
        (pickle.loads, "loads"),
    ],
)
def test_a_file_that_names_code_is_refused(save, function, name):
    path = save({"model": tensors(), "epoch": Calls(function, "pass")})
    message = rf"it names '[\w.]*{re.escape(name)}', which no file of weights needs$"
    with pytest.raises(ValueError, match=message) as error:
        torch_file.read(path)
    assert str(error.value).startswith(str(path))


def test_reads_views_of_a_storage(save):
    """A transposed part, as `tensor[1:].T` is saved."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = files.Tensor(array, offset=4, shape=(4, 2), strides=(1, 4))
    read = arrays(torch_file.read(save({"x": tensor}))[""])
    np.testing.assert_array_equal(read["x"], array[1:].T)


def test_reads_safetensors(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    safetensors.numpy.save_file(WEIGHTS, path)
    check_weights(torch_file.read(path)[""])


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ([1, 2], "holds no tensors by name, only a list"),
        (Options(lr=0.1), r"only a [\w.]*Options"),
        ({"epoch": 3}, "only 'epoch'"),
        ({}, "only nothing"),
    ],
)
def test_what_is_no_state_dict_is_refused_in_one_line(save, saved, message):
    path = save(saved)
    with pytest.raises(ValueError, match=f"{message}$") as error:
        torch_file.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        (
            {"x": files.Tensor(np.ones(4, np.float32), shape=(3, 2), strides=(2, 1))},
            r"a tensor of shape \(3, 2\) does not fit its 4 numbers",
        ),
        (
            {"x": files.Tensor(np.ones(4, np.float32), shape=(2,), strides=(-1,))},
            "does not fit its 4 numbers",
        ),
        (
            {"x": files.Tensor(np.ones(4, np.float32), shape=("4",), strides=(1,))},
            "it has a damaged tensor: ",
        ),
        (
            {
                "good": files.Tensor(np.ones(2, np.float32)),
                "bad": files.Tensor(np.asarray([1, np.nan], np.float32)),
                "worse": files.Tensor(np.asarray([np.inf], np.float32)),
            },
            "has numbers that are not finite: bad, worse$",
        ),
    ],
)
def test_damaged_tensors_are_refused_when_they_are_wanted(save, saved, message):
    found = torch_file.read(save(saved))[""]
    with pytest.raises(ValueError, match=message):
        arrays(found)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(save, part):
    path = save({name: files.Tensor(array) for name, array in WEIGHTS.items()})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(ValueError, match=r"cannot be read|is damaged or truncated"):
        torch_file.read(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\x89PNG", "picture.pth"),
        (pickle.dumps([1]), "list.pth"),
        (b"\x10\0\0\0\0\0\0\0{}", "short.safetensors"),
    ],
)
def test_other_files_are_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=name):
        torch_file.read(path)


def test_another_archive_is_refused(tmp_path):
    path = tmp_path / "other.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(ValueError, match=r"an archive, but not one of torch\.save"):
        torch_file.read(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(OSError, match=r"nothing\.pth"):
        torch_file.read(tmp_path / "nothing.pth")


def test_files_are_written_as_by_pytorch():
    """The writer of these tests itself, against PyTorch where it is installed."""
    torch = pytest.importorskip("torch")
    saved = {"model": collections.OrderedDict(x=files.Tensor(WEIGHTS["conv.weight"]))}
    for write in (files.archive, files.old):
        read = torch.load(io.BytesIO(write(saved)), weights_only=True)
        np.testing.assert_array_equal(read["model"]["x"], WEIGHTS["conv.weight"])
