"""Reads PyTorch weight files without executing code in them.

Reads `.safetensors` and the files of `torch.save`: archives, and sequences of pickles
before PyTorch 1.6. The latter two name Python functions to call. The few that rebuild
tensors are replaced by safe versions; a file that names any other is rejected.
"""

import io
import math
import pathlib
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

#: Keys of the state dict in checkpoints that hold other things too.
WRAPPERS = ("model", "state_dict", "net")

#: Prefix that DataParallel adds to every name.
_PARALLEL = "module."

#: NumPy type by PyTorch's storage class.
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}

#: The first two pickles of a file written by PyTorch before 1.6.
_OLD_MAGIC, _OLD_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Storage:
    """A flat array that tensors are views of; old files store it after the tensors."""

    def __init__(self, dtype: np.dtype, content: np.ndarray | None = None):
        self.dtype = dtype
        self.content = content


class _Tensor(NamedTuple):
    """A view of a storage whose content may not have been read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        """Returns a copy; raises a ValueError if the view exceeds the storage."""
        content, shape, strides = self.storage.content, self.shape, self.strides
        if content is None:
            raise ValueError("the numbers of a tensor are missing")
        last = self.offset + sum(
            (size - 1) * stride for size, stride in zip(shape, strides, strict=True)
        )
        empty = math.prod(shape) == 0
        inside = min((0, self.offset, *shape, *strides)) >= 0 and (
            empty or last < len(content)
        )
        if not inside:
            raise ValueError(
                f"a tensor of shape {shape} does not fit its {len(content)} numbers"
            )
        view = np.lib.stride_tricks.as_strided(
            content[self.offset :],
            shape,
            [stride * content.itemsize for stride in strides],
        )
        return np.array(view)


def _rebuild_tensor(storage, offset, shape, strides, *_) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise pickle.UnpicklingError("a tensor without numbers")
    return _Tensor(storage, int(offset), tuple(shape), tuple(strides))


def _rebuild_parameter(tensor, *_) -> Any:
    return tensor


class _Scalar:
    """A NumPy scalar next to the weights, such as an accuracy; its value is ignored."""

    def __init__(self, *_: Any):
        pass

    def __setstate__(self, state: Any) -> None:
        pass


#: Replacements for the globals that a checkpoint may name; none executes anything.
_ALLOWED = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "numpy.core.multiarray.scalar": _Scalar,
    "numpy._core.multiarray.scalar": _Scalar,
    "numpy.dtype": _Scalar,
    # Python 3 writes bytes so in protocol 2.
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
    **{f"torch.{name}": dtype for name, dtype in _STORAGES.items()},
}


class _TensorUnpickler(pickle.Unpickler):
    """Unpickles plain containers and tensors; executes nothing that a pickle names."""

    def __init__(self, file: Any, storage: Any):
        """Reads from a file; `storage(key, dtype)` returns the storage of a key."""
        super().__init__(file, encoding="utf-8")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of an allowed global; rejects all others."""
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it names {full_name!r}, and only tensors are allowed"
            )
        return _ALLOWED[full_name]

    def persistent_load(self, identity: Any) -> Any:
        """Returns the storage that a tensor refers to."""
        match identity:
            case ("storage", np.dtype() as dtype, key, *_):
                return self._storage(str(key), dtype)
        raise pickle.UnpicklingError(f"it refers to {str(identity)[:60]!r}")


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a file.

    Args:
      path: a `.safetensors` file, or one of `torch.save` with a state dict, bare or
        under one of the keys `WRAPPERS`. DataParallel's prefix is removed.

    Returns:
      Arrays by name; float16 and bfloat16 become float32.

    Raises:
      ValueError: if the file is damaged, names code, or holds no state dict, or if a
        number is not finite.
      OSError: if it cannot be opened.
    """
    path = pathlib.Path(path)
    try:
        if path.suffix == ".safetensors":
            arrays = safetensors.numpy.load_file(path)
        else:
            arrays = _state_dict(_read_pickled(path))
    except OSError:
        raise
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file: {error}"
        ) from error
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise ValueError(f"{path} cannot be read: {error}") from error
    if arrays and all(name.startswith(_PARALLEL) for name in arrays):
        arrays = {name.removeprefix(_PARALLEL): x for name, x in arrays.items()}
    arrays = {name: _as_numpy_float(array) for name, array in arrays.items()}
    wrong = [name for name, array in arrays.items() if not np.all(np.isfinite(array))]
    if wrong:
        raise ValueError(f"{path} has numbers that are not finite: {', '.join(wrong)}")
    return arrays


def _as_numpy_float(array: np.ndarray) -> np.ndarray:
    narrow = array.dtype in (np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16))
    return array.astype(np.float32) if narrow else array


def _read_pickled(path: pathlib.Path) -> Any:
    """Reads a file of `torch.save`."""
    with path.open("rb") as file:
        is_archive = file.read(2) == b"PK"
        file.seek(0)
        return _read_archive(file) if is_archive else _read_old(file)


def _read_archive(file: Any) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [n for n in archive.namelist() if n.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is an archive, but not one of torch.save")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            order = archive.read(f"{folder}byteorder")
            if order != b"little":
                raise ValueError(f"its byte order is {order!r}, not little")
        storages: dict[str, _Storage] = {}

        def storage(key: str, dtype: np.dtype) -> _Storage:
            if key not in storages:
                raw = archive.read(f"{folder}data/{key}")
                storages[key] = _Storage(dtype, np.frombuffer(raw, dtype))
            return storages[key]

        pickled = io.BytesIO(archive.read(pickles[0]))
        return _TensorUnpickler(pickled, storage).load()


def _read_old(file: Any) -> Any:
    """Reads a file of PyTorch before 1.6: pickles, then the storages one by one."""
    storages: dict[str, _Storage] = {}

    def storage(key: str, dtype: np.dtype) -> _Storage:
        return storages.setdefault(key, _Storage(dtype))

    def load() -> Any:
        return _TensorUnpickler(file, storage).load()

    if load() != _OLD_MAGIC or load() != _OLD_PROTOCOL:
        raise ValueError("it is not a file of torch.save")
    load()  # Byte order and sizes of C types on the machine that wrote it.
    saved = load()
    for key in load():
        (number,) = np.frombuffer(file.read(8), "<i8")
        wanted = storages[str(key)]
        raw = file.read(int(number) * wanted.dtype.itemsize)
        wanted.content = np.frombuffer(raw, wanted.dtype)
        if len(wanted.content) != number:
            raise ValueError("it ends within the numbers of a tensor")
    return saved


def _state_dict(saved: Any) -> dict[str, np.ndarray]:
    """Returns copies of the tensors of the state dict in a loaded file."""
    if not isinstance(saved, dict):
        raise ValueError(f"it holds a {type(saved).__name__} and no state dict")
    found = [name for name in WRAPPERS if isinstance(saved.get(name), dict)]
    if len(found) > 1:
        raise ValueError(f"it holds several state dicts: {', '.join(found)}")
    state_dict = saved[found[0]] if found else saved
    others = [name for name, x in state_dict.items() if not isinstance(x, _Tensor)]
    if others or not state_dict:
        raise ValueError(
            f"it holds no state dict, neither bare nor under {', '.join(WRAPPERS)}: "
            f"no tensors are {', '.join(map(repr, others[:5])) or 'in it'}"
        )
    return {str(name): tensor.array() for name, tensor in state_dict.items()}
