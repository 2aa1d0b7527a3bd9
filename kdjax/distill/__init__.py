"""Distillation methods: the table of them, and how a configuration chooses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from kdjax.distill.activation_boundary import ActivationBoundary
from kdjax.distill.attention_transfer import AttentionTransfer
from kdjax.distill.composed import Composed
from kdjax.distill.correlation_congruence import CorrelationCongruence
from kdjax.distill.crd import Crd
from kdjax.distill.dist import Dist
from kdjax.distill.dkd import Dkd
from kdjax.distill.factor_transfer import FactorTransfer
from kdjax.distill.fitnets import Fitnets
from kdjax.distill.fsp import Fsp
from kdjax.distill.jacobian import Jacobian
from kdjax.distill.kd_svd import KdSvd
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Teacher
from kdjax.distill.mhgd import Mhgd
from kdjax.distill.mlkd import Mlkd
from kdjax.distill.mutual_learning import MutualLearning
from kdjax.distill.nst import Nst
from kdjax.distill.overhaul import Overhaul
from kdjax.distill.pkt import Pkt
from kdjax.distill.review import Review
from kdjax.distill.rkd import Rkd
from kdjax.distill.similarity_preserving import SimilarityPreserving
from kdjax.distill.soft_targets import SoftTargets
from kdjax.distill.vid import Vid

__all__ = [
    "METHODS",
    "Inputs",
    "Method",
    "Outputs",
    "Taxonomy",
    "Teacher",
    "build",
    "hyperparameters",
]

#: Every method by the name it has under `methods` in a configuration.
METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        ActivationBoundary,
        AttentionTransfer,
        Composed,
        CorrelationCongruence,
        Crd,
        Dist,
        Dkd,
        FactorTransfer,
        Fitnets,
        Fsp,
        Jacobian,
        KdSvd,
        Mhgd,
        Mlkd,
        MutualLearning,
        Nst,
        Overhaul,
        Pkt,
        Review,
        Rkd,
        SimilarityPreserving,
        SoftTargets,
        Vid,
    )
}


def hyperparameters(name: str, **given: Any) -> dict[str, Any]:
    """Returns all hyperparameters of a term: published defaults but for the given.

    Args:
      name: of the term, and of its method unless `method` is given, so that a method
        can be there twice.
      **given: `method`, and hyperparameters of it.

    Raises:
      ValueError: if there is no such method or hyperparameter.
    """
    method = given.get("method", name)
    if method not in METHODS:
        field = f".method={method!r}" if "method" in given else ""
        raise ValueError(f"methods.{name}{field} is none of {sorted(METHODS)}")
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(METHODS[method])
        if not field.metadata.get("internal")
    }
    if "method" in given:
        defaults["method"] = method
    for field in given:
        if field not in defaults:
            raise ValueError(f"methods.{name}.{field} is none of {sorted(defaults)}")
    return defaults | given


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
      num_examples: of the training split; None likewise.

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
        if chosen["warm_up"] < 0:
            raise ValueError(f"methods.{name}.warm_up={chosen['warm_up']} is below 0")
        methods[name] = method(**chosen, **training)
    return methods
