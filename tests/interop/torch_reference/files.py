"""Files as `torch.save` writes them, without PyTorch: what the reader is tested on."""

import io
import pickle
import sys
import types
import zipfile
from typing import Any, ClassVar

import numpy as np

_STORAGES = {
    np.dtype(np.float32): "FloatStorage",
    np.dtype(np.float64): "DoubleStorage",
    np.dtype(np.float16): "HalfStorage",
    np.dtype(np.int64): "LongStorage",
}


class Tensor:
    """Stands for a tensor in what is saved: a view of an array's numbers."""

    def __init__(self, array, *, offset=0, shape=None, strides=None):
        self.array = np.ascontiguousarray(array).reshape(np.shape(array))
        self.offset = offset
        self.shape = self.array.shape if shape is None else shape
        contiguous = [step // self.array.itemsize for step in self.array.strides]
        self.strides = tuple(contiguous) if strides is None else strides


class _Storage:
    def __init__(self, array):
        self.array = array


def _named(module: str, name: str) -> Any:
    """Returns an object that pickles as a global of that name."""
    named = types.FunctionType((lambda *_: None).__code__, {}, name)
    named.__module__, named.__qualname__ = module, name
    return named


class _Pickler(pickle._Pickler):
    """Pickles tensors as PyTorch does: a call that rebuilds them from a storage."""

    def __init__(self, file: Any, old: bool):
        super().__init__(file, protocol=2)
        self.storages: list[np.ndarray] = []
        self._old = old

    def save_global(self, obj, name=None):
        if getattr(obj, "__module__", "").startswith("torch"):
            self.write(f"c{obj.__module__}\n{obj.__qualname__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Tensor):
            self.save_reduce(
                _named("torch._utils", "_rebuild_tensor_v2"),
                (
                    _Storage(obj.array.ravel()),
                    obj.offset,
                    obj.shape,
                    obj.strides,
                    False,
                    {},
                ),
                obj=obj,
            )
        else:
            super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        if not isinstance(obj, _Storage):
            return None
        key = str(len(self.storages))
        self.storages.append(obj.array)
        kind = _named("torch", _STORAGES[obj.array.dtype])
        identity = ("storage", kind, key, "cpu", obj.array.size)
        return (*identity, None) if self._old else identity

    dispatch: ClassVar = {
        **pickle._Pickler.dispatch,
        types.FunctionType: save_global,
    }


def archive(saved: Any) -> bytes:
    """Writes an archive, as PyTorch 1.6 and newer."""
    pickled = io.BytesIO()
    pickler = _Pickler(pickled, old=False)
    pickler.dump(saved)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        zipped.writestr("archive/data.pkl", pickled.getvalue())
        zipped.writestr("archive/byteorder", sys.byteorder)
        for key, array in enumerate(pickler.storages):
            zipped.writestr(f"archive/data/{key}", array.tobytes())
        zipped.writestr("archive/version", "3\n")
    return file.getvalue()


def old(saved: Any) -> bytes:
    """Writes pickles in a row and then the numbers, as PyTorch before 1.6."""
    file = io.BytesIO()
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    for header in (0x1950A86A20F9469CFC6C, 1001, system):
        pickle.dump(header, file, protocol=2)
    pickler = _Pickler(file, old=True)
    pickler.dump(saved)
    pickle.dump([str(key) for key in range(len(pickler.storages))], file, protocol=2)
    for array in pickler.storages:
        file.write(np.asarray(array.size, "<i8").tobytes() + array.tobytes())
    return file.getvalue()
