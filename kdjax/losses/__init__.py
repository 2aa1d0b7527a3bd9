"""Distillation losses as pure functions: one value an example, nothing reduced.

    loss = jnp.mean(losses.kd(student_logits, teacher_logits, temperature=4.0))

Every loss takes what it compares, student first, then keyword-only hyperparameters. The
teacher's gradient is not stopped: that is the caller's choice. A loss that relates the
examples of a batch takes `axis_name`, the mapped axis over which the batch is spread,
and then gives the same values on one device and on many.
"""

from kdjax.losses.activation_boundary import activation_boundary
from kdjax.losses.attention_transfer import attention_transfer
from kdjax.losses.correlation_congruence import (
    correlation_congruence,
    correlation_congruence_kernel,
)
from kdjax.losses.crd import crd, crd_log_normalizer
from kdjax.losses.dist import dist, dist_terms
from kdjax.losses.dkd import dkd, dkd_terms
from kdjax.losses.factor_transfer import factor_transfer
from kdjax.losses.fsp import fsp
from kdjax.losses.hint import hint
from kdjax.losses.jacobian import jacobian
from kdjax.losses.kd import kd, symmetric_kl
from kdjax.losses.kd_svd import kd_svd
from kdjax.losses.logit_standardization import standardize_logits
from kdjax.losses.mhgd import graph_divergence
from kdjax.losses.mlkd import mlkd, mlkd_terms
from kdjax.losses.nst import nst
from kdjax.losses.overhaul import margin_relu, margins, partial_l2
from kdjax.losses.pkt import pkt
from kdjax.losses.review import hierarchical_context
from kdjax.losses.rkd import rkd, rkd_terms
from kdjax.losses.similarity_preserving import similarity_preserving
from kdjax.losses.vid import vid

__all__ = [
    "activation_boundary",
    "attention_transfer",
    "correlation_congruence",
    "correlation_congruence_kernel",
    "crd",
    "crd_log_normalizer",
    "dist",
    "dist_terms",
    "dkd",
    "dkd_terms",
    "factor_transfer",
    "fsp",
    "graph_divergence",
    "hierarchical_context",
    "hint",
    "jacobian",
    "kd",
    "kd_svd",
    "margin_relu",
    "margins",
    "mlkd",
    "mlkd_terms",
    "nst",
    "partial_l2",
    "pkt",
    "rkd",
    "rkd_terms",
    "similarity_preserving",
    "standardize_logits",
    "symmetric_kl",
    "vid",
]
