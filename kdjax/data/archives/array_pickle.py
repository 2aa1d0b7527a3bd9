"""Reads pickles of NumPy arrays without running code from them."""

import io
import math
import pickle
from typing import Any

import numpy as np


class _Record:
    """Records the arguments and the state of a pickled NumPy array or dtype.

    Replaces NumPy's own classes, which trust the type flags and object pointers in a
    pickle and are therefore not safe.
    """

    state: Any = None

    def __init__(self, *args: Any):
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


_ALLOWED = {
    "numpy.core.multiarray._reconstruct": _Record,
    "numpy._core.multiarray._reconstruct": _Record,  # Since NumPy 2.
    "numpy.ndarray": _Record,
    "numpy.dtype": _Record,
    # Bytes, as Python 3 pickles them in protocol 2.
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads built-in containers and NumPy arrays; everything else is rejected."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the replacement of an allowed global; rejects all others."""
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise pickle.UnpicklingError(
                f"it asks for {full_name!r}, and only NumPy arrays are allowed"
            )
        return _ALLOWED[full_name]


def read_dict(name: str, content: bytes) -> dict[Any, Any]:
    """Reads a pickled dict; strings of Python 2 become bytes.

    Args:
      name: of the pickle, for errors.
      content: the pickle.

    Returns:
      The dict; pass its arrays to `uint8_array`.

    Raises:
      ValueError: in one line, if it is damaged, is not a dict or refers to code.
    """
    try:
        result = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # Damaged pickles raise many types.
        raise ValueError(f"{name} is not a readable pickle: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"{name} is not a dict")
    return result


def uint8_array(name: str, array: Any, expected: tuple[int, ...]) -> np.ndarray:
    """Rebuilds a pickled array from its bytes.

    Args:
      name: of the array, for errors.
      array: from the dict that `read_dict` returned.
      expected: shape of the array.

    Raises:
      ValueError: in one line, if it is not a uint8 array of that shape.
    """
    match array:
        case _Record(
            state=(_, shape, _Record(args=("u1" | b"u1", *_)), order, bytes() as raw)
        ):
            if shape != expected or len(raw) != math.prod(expected):
                raise ValueError(f"{name} has shape {shape}, expected {expected}")
            pixels = np.frombuffer(raw, np.uint8)
            return pixels.reshape(expected, order="F" if order else "C")
    raise ValueError(f"{name} is not a uint8 array")
