"""Pickles of numpy arrays, read without running anything they name."""

import io
import math
import pickle
from typing import Any

import numpy as np


class _Kept:
    """Keeps what a pickle says of a numpy array or of its type.

    Stands in for numpy's own classes, which believe the type flags and the object
    pointers they find in a pickle, and so are no safer than running it.
    """

    state: Any = None

    def __init__(self, *args: Any):
        self.args = args

    def __setstate__(self, state: Any) -> None:
        self.state = state


_ADMITTED = {
    "numpy.core.multiarray._reconstruct": _Kept,
    "numpy._core.multiarray._reconstruct": _Kept,  # Its name since numpy 2.
    "numpy.ndarray": _Kept,
    "numpy.dtype": _Kept,
    # How Python 3 writes bytes in protocol 2.
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
}


class _ArrayUnpickler(pickle.Unpickler):
    """Reads plain containers and numpy arrays, and runs nothing a pickle names."""

    def find_class(self, module: str, name: str) -> Any:
        """Returns the stand-in of an admitted global, and refuses all others."""
        full_name = f"{module}.{name}"
        if full_name not in _ADMITTED:
            raise pickle.UnpicklingError(
                f"it asks for {full_name!r}, and only numpy arrays are admitted"
            )
        return _ADMITTED[full_name]


def read_dict(name: str, content: bytes) -> dict[Any, Any]:
    """Reads a pickled dict whose strings are bytes, as Python 2 wrote them.

    Args:
      name: what to call the pickle in an error.
      content: the pickle.

    Returns:
      The dict; arrays in it are for `uint8_array`.

    Raises:
      ValueError: in one line, where it is damaged, is no dict or asks for code.
    """
    try:
        result = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # A damaged pickle raises nearly anything.
        raise ValueError(f"{name} is not a readable pickle: {error}") from error
    if not isinstance(result, dict):
        raise ValueError(f"{name} holds no dict")
    return result


def uint8_array(name: str, array: Any, expected: tuple[int, ...]) -> np.ndarray:
    """Rebuilds a pickled array from its bytes.

    Args:
      name: what to call the array in an error.
      array: what `read_dict` returned in its place.
      expected: shape that it must have.

    Raises:
      ValueError: in one line, where it is no uint8 array of that shape.
    """
    match array:
        case _Kept(
            state=(_, shape, _Kept(args=("u1" | b"u1", *_)), order, bytes() as raw)
        ):
            if shape != expected or len(raw) != math.prod(expected):
                raise ValueError(f"{name} has shape {shape}, expected {expected}")
            pixels = np.frombuffer(raw, np.uint8)
            return pixels.reshape(expected, order="F" if order else "C")
    raise ValueError(f"{name} is no uint8 array")
