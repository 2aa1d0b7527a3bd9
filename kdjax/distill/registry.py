"""The table of methods, and how a configuration chooses from it."""

import dataclasses
import difflib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from kdjax.config.field import Field, shown
from kdjax.distill import gradients
from kdjax.distill.method import Method

#: Every method by the name it has under `methods` in a configuration.
METHODS: dict[str, type[Method]] = {}

#: Other names of methods, as papers and other codes call them. They are accepted where
#: a method is named on a command line; a configuration holds the name in `METHODS`.
ALIASES: Mapping[str, str] = {
    "ab": "activation_boundary",
    "at": "attention_transfer",
    "cat": "cat_kd",
    "cc": "correlation_congruence",
    "dml": "mutual_learning",
    "fitnet": "fitnets",
    "ft": "factor_transfer",
    "hint": "fitnets",
    "kdsvd": "kd_svd",
    "ofd": "overhaul",
    "reviewkd": "review",
    "soft_targets": "kd",
    "sp": "similarity_preserving",
    "wkd_f": "wkd_features",
    "wkd_l": "wkd_logits",
}

_MethodType = TypeVar("_MethodType", bound=type[Method])


def register(method: _MethodType) -> _MethodType:
    """Adds a method to the table; decorates its class.

    A method in a file of your own, which a configuration imports, is chosen like any
    other:

        @distill.register
        @dataclasses.dataclass(frozen=True, kw_only=True)
        class Mine(distill.Method):
            name = "mine"
            ...

    Returns:
      The class itself.

    Raises:
      ValueError: if the class lacks a name, a taxonomy or a default of its `weight`,
        if another class has its name, or if `gradient_combination` is not a field.
    """
    where = f"{method.__module__}.{method.__qualname__}"
    for attribute in ("name", "taxonomy"):
        if not getattr(method, attribute, None):
            raise ValueError(f"{where} has no {attribute}")
    if not dataclasses.is_dataclass(method) or _default(method, "weight") is None:
        raise ValueError(f"{where} is not a dataclass with a default for `weight`")
    # Without an annotation it is no field, and every object has the base's default.
    if method.gradient_combination != _default(method, "gradient_combination"):
        raise ValueError(f"{where} sets `gradient_combination` without an annotation")
    known = METHODS.get(method.name)
    # A module that is loaded twice registers a new class of the same name.
    if known and (known.__module__, known.__qualname__) != (
        method.__module__,
        method.__qualname__,
    ):
        raise ValueError(f"{where}: {known} is called {method.name!r} already")
    if method.name in ALIASES:
        raise ValueError(f"{where}: {method.name!r} is another name of a method")
    METHODS[method.name] = method
    return method


def _default(method: type[Method], name: str) -> Any:
    """Returns the default of a field; None if there is none."""
    (field,) = (f for f in dataclasses.fields(method) if f.name == name)
    return None if field.default is dataclasses.MISSING else field.default


def canonical(name: str) -> str:
    """Returns the name in `METHODS` of a method given by name or alias.

    Raises:
      ValueError: if there is no such method.
    """
    found = ALIASES.get(name, name)
    if found not in METHODS:
        raise ValueError(
            f"method {name!r} is none of {sorted(METHODS)}{_nearest(name)}"
        )
    return found


def _nearest(name: str) -> str:
    """Suggests the method whose name is most like another one; "" if none is."""
    close = difflib.get_close_matches(str(name), METHODS, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def hyperparameters(name: str, **given: Any) -> dict[str, Any]:
    """Returns all hyperparameters of a term: published defaults but for the given.

    Args:
      name: of the term, and of its method unless `method` is given, so that a method
        can be there twice.
      **given: `method`, and hyperparameters of it.

    Raises:
      ValueError: if there is no such method or hyperparameter, or if one without a
        default is not given.
    """
    method = given.get("method", name)
    if method not in METHODS:
        field = f".method={method!r}" if "method" in given else ""
        raise ValueError(
            f"methods.{name}{field} is none of {sorted(METHODS)}{_nearest(method)}"
        )
    fields = [
        field
        for field in dataclasses.fields(METHODS[method])
        if not field.metadata.get("internal")
    ]
    known = {field.name for field in fields}
    if "method" in given:
        known.add("method")
    for field in given:
        if field not in known:
            raise ValueError(f"methods.{name}.{field} is none of {sorted(known)}")
    values = {field.name: _field_default(field) for field in fields} | given
    for field, value in values.items():
        if value is dataclasses.MISSING:
            raise ValueError(f"methods.{name}.{field} has no default: give a value")
    return values


def _field_default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _problems(
    method: type[Method], chosen: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yields hyperparameters that are of another type than their defaults, or too large
    or small for any method, and what is wrong with them.
    """
    for name, given in chosen.items():
        default = _field_default(method.__dataclass_fields__[name])
        if type(default) not in (bool, int, float, str, tuple):
            continue
        least = 0 if name in ("weight", "warm_up") else None
        choices = tuple(gradients.RULES) if name == "gradient_combination" else None
        field = Field(default=default, least=least, choices=choices, doc="")
        if problem := field.problem(given):
            yield name, problem


def build(
    settings: Mapping[str, Mapping[str, Any]],
    *,
    dtype: Any = "float32",
    batch_norm_axis: str | None = None,
    data_axis: str | None = None,
    num_classes: int | None = None,
    num_examples: int | None = None,
) -> dict[str, Method]:
    """Builds the methods named in a configuration, by the names of their terms.

    Args:
      settings: hyperparameters by the name of the method.
      dtype: type of the computation.
      batch_norm_axis: device axis of synchronized batch norms, or None.
      data_axis: device axis over which a batch is spread, or None.
      num_classes: of the data set; None if nothing is to be trained.
      num_examples: of the training split; None if nothing is to be trained.

    Raises:
      ValueError: if a method or one of its hyperparameters is unknown or impossible.
    """
    training = {
        "dtype": dtype,
        "batch_norm_axis": batch_norm_axis,
        "data_axis": data_axis,
        "num_classes": num_classes,
        "num_examples": num_examples,
    }
    methods = {}
    for name, given in settings.items():
        chosen = hyperparameters(name, **given)
        method = METHODS[chosen.pop("method", name)]
        for field, problem in _problems(method, chosen):
            raise ValueError(f"methods.{name}.{field}={shown(chosen[field])} {problem}")
        methods[name] = method(**chosen, **training)
    return methods
