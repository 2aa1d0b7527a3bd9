"""Finds a network's weights in a PyTorch file, wherever in the file they are.

Training code keeps weights under a key of its own and its wrappers put prefixes before
their names: DataParallel `module.`, torch.compile `_orig_mod.`, a distiller
`module.student.`. Key and prefix together are the place of the weights in a file, such
as `state_dict.module.student`.
"""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from kdjax import models
from kdjax.interop import torch_layout
from kdjax.interop.torch_file import StateDict
from kdjax.interop.torch_layout import Mismatch


class Place(NamedTuple):
    """Where in a file weights may be.

    Attributes:
      key: of the state dict.
      prefix: of the names, up to and with a dot; may be empty.
    """

    key: str
    prefix: str

    def __str__(self) -> str:
        return ".".join(part for part in (self.key, self.prefix[:-1]) if part)


class _Attempt(NamedTuple):
    """A comparison of one place of a file with one layout of a network.

    Attributes:
      place: in the file.
      layout: of the network.
      num_classes: of the classifier in that place; 1 if there is none.
      wanted: shapes by their names in the layout.
      mismatch: how the place differs.
    """

    place: Place
    layout: str
    num_classes: int
    wanted: Mapping[str, tuple[int, ...]]
    mismatch: Mismatch


class Match(NamedTuple):
    """Weights that were found.

    Attributes:
      place: where they are in the file.
      layout: naming of the modules.
      num_classes: of the classifier.
      state_dict: arrays by their names in the layout.
    """

    place: Place
    layout: str
    num_classes: int
    state_dict: dict[str, np.ndarray]


def find(model: str, file: Mapping[str, StateDict], key: str | None = None) -> Match:
    """Finds the weights of a network with any number of classes.

    Args:
      model: name of the network.
      file: from `torch_file.read`.
      key: place to take the weights from; None for the only one where they fit.

    Raises:
      ValueError: in one line, if there is no such network, or it fits nowhere, or
        under several keys of which none was chosen; or if the weights are damaged.
    """
    attempts = list(_attempts(model, file))
    if key is not None:
        known = [attempt.place for attempt in attempts]
        attempts = [attempt for attempt in attempts if str(attempt.place) == key]
        if not attempts:
            raise ValueError(f"key={key!r} is none of {_listed(known)}")
    # Of several layouts that fit a place, the first counts.
    fitting = {a.place: a for a in reversed(attempts) if not a.mismatch.count}
    if not fitting:
        raise ValueError(_no_fit(model, file, attempts))
    if len(fitting) > 1:
        raise ValueError(
            f"it holds several {model}: choose one by key, of "
            f"{_listed(reversed(fitting))}"
        )
    ((place, found),) = fitting.items()
    arrays = file[place.key].arrays({n: place.prefix + n for n in found.wanted})
    return Match(place, found.layout, found.num_classes, arrays)


def _listed(found: Iterable[Place]) -> str:
    return ", ".join(dict.fromkeys(repr(str(place)) for place in found))


def _attempts(model: str, file: Mapping[str, StateDict]) -> Iterator[_Attempt]:
    """Compares every place of a file where a network may be with every layout."""
    shapes = functools.cache(
        lambda classes: torch_layout.shapes(models.build(model, classes))
    )
    network = models.build(model, 1)
    for layout in torch_layout.layouts(network):
        classifier = torch_layout.classifier(network, layout)
        for key, (tensors, _) in file.items():
            for prefix in _prefixes(tensors, f"{classifier}.weight"):
                found = {
                    name.removeprefix(prefix): tuple(tensor.shape)
                    for name, tensor in tensors.items()
                    if name.startswith(prefix)
                }
                classes, *_ = found.get(f"{classifier}.weight") or (1,)
                wanted = shapes(classes)[layout]
                mismatch = torch_layout.compare(wanted, found)
                yield _Attempt(Place(key, prefix), layout, classes, wanted, mismatch)


def _prefixes(names: Mapping[str, object], classifier: str) -> list[str]:
    """Returns what may precede a network's names, given that of its classifier."""
    prefixes = [
        name.removesuffix(classifier)
        for name in names
        if name == classifier or name.endswith(f".{classifier}")
    ]
    return prefixes or [_common_prefix(list(names))]


def _common_prefix(names: list[str]) -> str:
    """Returns the parts that all names begin with, up to and with a dot."""
    common = []
    for parts in zip(*(name.split(".")[:-2] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return "".join(f"{part}." for part in common)


def _no_fit(model: str, file: Mapping[str, StateDict], attempts: list[_Attempt]) -> str:
    """Says how the closest place differs, and which known network fits instead."""
    closest = min(attempts, key=lambda attempt: attempt.mismatch.count)
    place, mismatch = closest.place, closest.mismatch
    others = file[place.key].others
    missing = [
        f"{name}, a {others[place.prefix + name]}"
        if place.prefix + name in others
        else name
        for name in mismatch.missing
    ]
    where = f" at key {str(place)!r}" * bool(str(place))
    known = next(filter(None, (_fitting(name, file) for name in models.STANDARD)), None)
    but = f"but {known}" if known else "and no other known network"
    mismatch = mismatch._replace(missing=missing)
    return f"it is not a {model}{where} {but}: {mismatch}"


def _fitting(model: str, file: Mapping[str, StateDict]) -> str | None:
    """Returns a network's name and number of classes if the file holds one."""
    network = models.build(model, 1)
    if not hasattr(network, "torch_modules"):
        return None
    shapes = [x.shape for part in file.values() for x in part.tensors.values()]
    if not torch_layout.may_hold(network, [tuple(shape) for shape in shapes]):
        return None
    for attempt in _attempts(model, file):
        if not attempt.mismatch.count:
            return f"{model} of {attempt.num_classes} classes"
    return None
