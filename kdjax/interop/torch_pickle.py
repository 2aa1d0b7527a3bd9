"""Unpickles what `torch.save` pickled without executing anything that it names.

A pickle names functions to call and classes to create. The few that rebuild tensors are
replaced by safe versions here. Any other is never imported: a stand-in takes its place,
which accepts whatever the pickle does with it and does nothing. So options, optimizers
and whole modules beside the weights do no harm. A pickle that names a function which
runs commands or code is rejected all the same, since nothing harmless does.
"""

import math
import pickle
import re
from collections import OrderedDict
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np

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
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
}

#: Globals that run commands, code or other pickles, or open files and connections, with
#: Python 2's names for them; of the builtins, all but types of plain data.
_DANGEROUS = re.compile(
    r"""
    ( _io | _pickle | _posixsubprocess | _socket | _winapi | asyncio | bdb | cProfile |
    code | codeop | commands | ctypes | dill | ftplib | http | httplib | imp | importlib
    | io | joblib | marshal | multiprocessing | nt | os | pdb | pickle | pip | pkgutil |
    popen2 | posix | profile | pty | runpy | shutil | smtplib | socket | subprocess |
    sys | telnetlib | timeit | trace | urllib | urllib2 | webbrowser ) \. .*
    | ( builtins | __builtin__ ) \. (?! ( bool | bytearray | bytes | complex | dict
    | Ellipsis | float | frozenset | int | list | long | NoneType | NotImplemented
    | object | range | set | slice | str | tuple | unicode | xrange ) $ ) .*
    """,
    re.VERBOSE | re.DOTALL,
)


class Storage:
    """A flat array that tensors are views of; old files store it after the tensors."""

    def __init__(self, dtype: np.dtype, content: np.ndarray | None = None):
        self.dtype = dtype
        self.content = content


class Tensor(NamedTuple):
    """A view of a storage whose content may not have been read yet."""

    storage: Storage
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


class StandIn:
    """Takes the place of an object of a class, or of a function's result.

    Accepts everything that unpickling does with an object and keeps only its state.

    Attributes:
      named: class or function that the pickle names.
      state: of the object, as a dictionary; empty if it has none.
    """

    named: ClassVar[str] = ""
    state: dict[str, Any]

    def __new__(cls, *_: Any, **__: Any) -> "StandIn":
        self = super().__new__(cls)
        self.state = {}
        return self

    def __init__(self, *_: Any, **__: Any):
        """Ignores the arguments."""

    def __setstate__(self, state: Any) -> None:
        self.state = state if isinstance(state, dict) else {}

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignores an entry of a dictionary."""

    def append(self, item: Any) -> None:
        """Ignores an entry of a list."""

    def add(self, item: Any) -> None:
        """Ignores an entry of a set."""


def _stand_in(named: str) -> type[StandIn]:
    return type("StandIn", (StandIn,), {"named": named})


_WithoutNumbers = _stand_in("tensor of a type that is not supported")


def _rebuild_tensor(storage: Any, offset: int, shape: Any, strides: Any, *_) -> Any:
    if isinstance(storage, StandIn):
        return _WithoutNumbers()
    if not isinstance(storage, Storage):
        raise pickle.UnpicklingError("a tensor without numbers")
    return Tensor(storage, int(offset), tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_) -> Any:
    return tensor


#: Replacements for the globals that weights need; none executes anything.
_REPLACED = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    # Python 3 writes bytes so in protocol 2.
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
    **{f"torch.{name}": dtype for name, dtype in _STORAGES.items()},
}


class TensorUnpickler(pickle.Unpickler):
    """Unpickles plain containers and tensors; executes nothing that a pickle names."""

    def __init__(self, file: Any, storage: Any):
        """Reads from a file; `storage(key, dtype)` returns the storage of a key."""
        # Python 2 wrote bytes as text; this encoding reads all of them.
        super().__init__(file, encoding="latin1")
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of a global, or a stand-in; imports nothing.

        Raises:
          UnpicklingError: if the global runs commands or code.
        """
        full_name = f"{module}.{name}"
        if full_name in _REPLACED:
            return _REPLACED[full_name]
        if _DANGEROUS.fullmatch(full_name):
            raise pickle.UnpicklingError(
                f"it names {full_name!r}, which no file of weights needs"
            )
        return _stand_in(full_name)

    def persistent_load(self, identity: Any) -> Any:
        """Returns the storage that a tensor refers to."""
        match identity:
            case ("storage", np.dtype() as dtype, key, *_):
                return self._storage(str(key), dtype)
            case ("storage", type(), *_):
                return _WithoutNumbers()
        raise pickle.UnpicklingError(f"it refers to {str(identity)[:60]!r}")
