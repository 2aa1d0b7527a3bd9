"""Distillation methods: the table of them, and how a configuration chooses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kdjax.distill.kd_svd import KdSvd
from kdjax.distill.method import Method, Outputs, Taxonomy, Teacher
from kdjax.distill.mhgd import Mhgd
from kdjax.distill.overhaul import Overhaul

__all__ = ["METHODS", "Method", "Outputs", "Taxonomy", "Teacher", "build"]

#: Every method by the name it has under `methods` in a configuration.
METHODS: dict[str, type[Method]] = {
    "kd_svd": KdSvd,
    "mhgd": Mhgd,
    "overhaul": Overhaul,
}


def hyperparameters(name: str, **given: Any) -> dict[str, Any]:
    """Returns all hyperparameters of a method: published defaults but for the given.

    Raises:
      ValueError: if there is no such method or hyperparameter.
    """
    if name not in METHODS:
        raise ValueError(f"methods.{name} is none of {sorted(METHODS)}")
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(METHODS[name])
        if not field.metadata.get("internal")
    }
    for field in given:
        if field not in defaults:
            raise ValueError(f"methods.{name}.{field} is none of {sorted(defaults)}")
    return defaults | given


def build(
    settings: Mapping[str, Mapping[str, Any]],
    *,
    dtype: Any = "float32",
    axis_name: str | None = None,
    batch_axis_name: str | None = None,
) -> dict[str, Method]:
    """Builds the methods named in a configuration.

    Args:
      settings: hyperparameters by the name of the method.
      dtype: type of the computation.
      axis_name: device axis of synchronised batch norms, or None.
      batch_axis_name: device axis over which a batch is spread, or None.

    Raises:
      ValueError: if a method or one of its hyperparameters is unknown or impossible.
    """
    training = {
        "dtype": dtype,
        "axis_name": axis_name,
        "batch_axis_name": batch_axis_name,
    }
    methods = {}
    for name, given in settings.items():
        chosen = hyperparameters(name, **given)
        methods[name] = METHODS[name](**chosen, **training)
    return methods
