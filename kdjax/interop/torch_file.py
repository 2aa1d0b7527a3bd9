"""Reads PyTorch weight files without executing code in them.

Reads `.safetensors` and the files of `torch.save`: archives, and sequences of pickles
before PyTorch 1.6.
"""

import io
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from kdjax.interop.torch_pickle import StandIn, Storage, Tensor, TensorUnpickler

#: The first two pickles of a file written by PyTorch before 1.6.
_OLD_MAGIC, _OLD_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

#: Parts of a module's state that hold its tensors and its submodules.
_OWN, _SUBMODULES = ("_parameters", "_buffers"), "_modules"


class StateDict(NamedTuple):
    """A mapping of a file that holds tensors.

    Attributes:
      tensors: by name, with the attribute `shape`; not read yet.
      others: types of what else it holds, by name.
    """

    tensors: dict[str, Any]
    others: dict[str, str]

    def arrays(self, names: dict[str, str]) -> dict[str, np.ndarray]:
        """Reads tensors.

        Args:
          names: of the tensors, by the names to return them under.

        Returns:
          Arrays; float16 and bfloat16 become float32.

        Raises:
          ValueError: if a tensor is damaged, or a number is not finite.
        """
        try:
            arrays = {name: _as_array(self.tensors[old]) for name, old in names.items()}
        except Exception as error:  # Of a damaged tensor, nearly anything.
            raise ValueError(f"it has a damaged tensor: {error}") from error
        wrong = [name for name, x in arrays.items() if not np.all(np.isfinite(x))]
        if wrong:
            raise ValueError(f"it has numbers that are not finite: {', '.join(wrong)}")
        return arrays


def read(path: pathlib.Path) -> dict[str, StateDict]:
    """Reads the state dicts of a file.

    Args:
      path: a `.safetensors` file, or one of `torch.save`.

    Returns:
      State dicts by the keys that lead to them, joined by dots; "" for a bare one. What
      else the file holds is passed over.

    Raises:
      ValueError: if the file is damaged, names code, or holds no state dict.
      OSError: if it cannot be opened.
    """
    path = pathlib.Path(path)
    try:
        if path.suffix == ".safetensors":
            return {"": StateDict(safetensors.numpy.load_file(path), {})}
        saved = _read_pickled(path)
        found = dict(_state_dicts(saved, ()))
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
    if not found:
        holds = f"a {_type(saved)}"
        if isinstance(saved, dict):
            holds = ", ".join(map(repr, list(saved)[:5])) or "nothing"
        raise ValueError(f"{path} holds no tensors by name, only {holds}")
    return found


def metadata(path: pathlib.Path) -> dict[str, str]:
    """Returns the metadata of a `.safetensors` file; {} of other and damaged files."""
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except safetensors.SafetensorError:
        return {}


def _as_array(tensor: Any) -> np.ndarray:
    array = tensor.array() if isinstance(tensor, Tensor) else np.asarray(tensor)
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
        storages: dict[str, Storage] = {}

        def storage(key: str, dtype: np.dtype) -> Storage:
            if key not in storages:
                raw = archive.read(f"{folder}data/{key}")
                storages[key] = Storage(dtype, np.frombuffer(raw, dtype))
            return storages[key]

        pickled = io.BytesIO(archive.read(pickles[0]))
        return TensorUnpickler(pickled, storage).load()


def _read_old(file: Any) -> Any:
    """Reads a file of PyTorch before 1.6: pickles, then the storages one by one."""
    storages: dict[str, Storage] = {}

    def storage(key: str, dtype: np.dtype) -> Storage:
        return storages.setdefault(key, Storage(dtype))

    def load() -> Any:
        return TensorUnpickler(file, storage).load()

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


def _state_dicts(saved: Any, keys: tuple[str, ...]) -> Iterator[tuple[str, StateDict]]:
    """Yields the mappings that hold tensors, and modules as such, with their keys."""
    if isinstance(saved, StandIn):
        saved = dict(_of_module(saved, ""))
    if not isinstance(saved, dict):
        return
    named = {name: value for name, value in saved.items() if isinstance(name, str)}
    tensors = {name: x for name, x in named.items() if isinstance(x, Tensor)}
    if tensors:
        others = {n: _type(x) for n, x in named.items() if n not in tensors}
        yield ".".join(keys), StateDict(tensors, others)
    for name, value in named.items():
        yield from _state_dicts(value, (*keys, name))


def _of_module(module: StandIn, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yields what `state_dict` returns of a module that was saved whole."""
    for part in _OWN:
        for name, value in (module.state.get(part) or {}).items():
            if value is not None:
                yield prefix + name, value
    for name, submodule in (module.state.get(_SUBMODULES) or {}).items():
        if isinstance(submodule, StandIn):
            yield from _of_module(submodule, f"{prefix}{name}.")


def _type(value: Any) -> str:
    return value.named if isinstance(value, StandIn) else type(value).__name__
