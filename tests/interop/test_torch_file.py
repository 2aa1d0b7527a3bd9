import collections
import io
import pickle
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


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"model": tensors, "epoch": 240, "opt": {"lr": 0.1}},
        lambda tensors: {"state_dict": tensors, "best_acc": np.float64(79.4)},
        lambda tensors: {"net": {f"module.{name}": x for name, x in tensors.items()}},
    ],
)
def test_reads_what_torch_saved(save, wrap):
    tensors = collections.OrderedDict(
        (name, files.Tensor(array)) for name, array in WEIGHTS.items()
    )
    read = torch_file.read(save(wrap(tensors)))
    assert read.keys() == WEIGHTS.keys()
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], array)
    assert read["half"].dtype == np.float32


def test_reads_views_of_a_storage(save):
    """A transposed part, as `tensor[1:].T` is saved."""
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    tensor = files.Tensor(array, offset=4, shape=(4, 2), strides=(1, 4))
    np.testing.assert_array_equal(
        torch_file.read(save({"x": tensor}))["x"], array[1:].T
    )


def test_reads_safetensors(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    safetensors.numpy.save_file(WEIGHTS, path)
    read = torch_file.read(path)
    for name, array in WEIGHTS.items():
        np.testing.assert_array_equal(read[name], array)


class RunsCode:
    def __reduce__(self):
        return exec, ("raise SystemExit('the pickle has run code')",)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"x": RunsCode()}, "names '(builtins|__builtin__).exec', and only tensors"),
        ([1, 2], "holds a list and no state dict"),
        (
            {"epoch": 3},
            "no state dict, neither bare nor under .*: no tensors are 'epoch'",
        ),
        ({}, "no tensors are in it"),
        (
            {
                name: {"x": files.Tensor(np.ones(2, np.float32))}
                for name in ("net", "model")
            },
            "holds several state dicts: model, net",
        ),
        (
            {"x": files.Tensor(np.ones(4, np.float32), shape=(3, 2), strides=(2, 1))},
            r"a tensor of shape \(3, 2\) does not fit its 4 numbers",
        ),
        (
            {"x": files.Tensor(np.ones(4, np.float32), shape=(2,), strides=(-1,))},
            "does not fit its 4 numbers",
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
def test_what_is_no_state_dict_is_refused_in_one_line(save, saved, message):
    path = save(saved)
    with pytest.raises(ValueError, match=message) as error:
        torch_file.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


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
