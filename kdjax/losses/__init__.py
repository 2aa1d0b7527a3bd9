"""Distillation losses as pure functions: one value an example, nothing reduced.

    loss = jnp.mean(losses.kd(student_logits, teacher_logits, temperature=4.0))

Every loss takes what it compares, student first, then keyword-only hyperparameters. The
teacher's gradient is not stopped: that is the caller's choice. A loss that relates the
examples of a batch takes `axis_name`, the mapped axis over which the batch is spread,
and then gives the same values on one device and on many.
"""

from kdjax.losses.activation_boundary import activation_boundary
from kdjax.losses.attention_transfer import attention_transfer
from kdjax.losses.class_attention import class_attention
from kdjax.losses.correlation_congruence import (
    correlation_congruence,
    correlation_congruence_kernel,
)
from kdjax.losses.cosine_distance import cosine_distance
from kdjax.losses.crd import crd, crd_log_normalizer
from kdjax.losses.crld import crld_terms
from kdjax.losses.ctkd import ctkd, curriculum
from kdjax.losses.deepkd import deepkd_terms
from kdjax.losses.dist import dist, dist_terms
from kdjax.losses.dkd import dkd, dkd_terms
from kdjax.losses.entropy_weight import entropy_weight
from kdjax.losses.factor_transfer import factor_transfer
from kdjax.losses.fsp import fsp
from kdjax.losses.hard_distillation import hard_distillation
from kdjax.losses.hint import hint
from kdjax.losses.ickd import ickd
from kdjax.losses.itrd import itrd_correlation, itrd_mutual
from kdjax.losses.jacobian import jacobian
from kdjax.losses.kd import kd, symmetric_kl
from kdjax.losses.kd_svd import kd_svd
from kdjax.losses.logit_standardization import standardize_logits
from kdjax.losses.mhgd import graph_divergence
from kdjax.losses.mlkd import mlkd, mlkd_terms, mlkd_two_view_terms
from kdjax.losses.nkd import nkd, nkd_terms
from kdjax.losses.nst import nst
from kdjax.losses.overhaul import margin_relu, margins, partial_l2
from kdjax.losses.pkt import pkt
from kdjax.losses.regions import complementary_weight, region_logits
from kdjax.losses.review import hierarchical_context
from kdjax.losses.rkd import rkd, rkd_terms
from kdjax.losses.rld import rld, rld_terms
from kdjax.losses.similarity_preserving import similarity_preserving
from kdjax.losses.srd import srd
from kdjax.losses.srrl import srrl, srrl_terms
from kdjax.losses.sskd import rotation_contrast, rotation_kd, similarity_kd
from kdjax.losses.ttm import ttm, wttm
from kdjax.losses.vid import vid
from kdjax.losses.wkd_features import wkd_features
from kdjax.losses.wkd_logits import class_costs, wkd_logits, wkd_logits_terms
from kdjax.losses.wsld import wsld

__all__ = [
    "activation_boundary",
    "attention_transfer",
    "class_attention",
    "class_costs",
    "complementary_weight",
    "correlation_congruence",
    "correlation_congruence_kernel",
    "cosine_distance",
    "crd",
    "crd_log_normalizer",
    "crld_terms",
    "ctkd",
    "curriculum",
    "deepkd_terms",
    "dist",
    "dist_terms",
    "dkd",
    "dkd_terms",
    "entropy_weight",
    "factor_transfer",
    "fsp",
    "graph_divergence",
    "hard_distillation",
    "hierarchical_context",
    "hint",
    "ickd",
    "itrd_correlation",
    "itrd_mutual",
    "jacobian",
    "kd",
    "kd_svd",
    "margin_relu",
    "margins",
    "mlkd",
    "mlkd_terms",
    "mlkd_two_view_terms",
    "nkd",
    "nkd_terms",
    "nst",
    "partial_l2",
    "pkt",
    "region_logits",
    "rkd",
    "rkd_terms",
    "rld",
    "rld_terms",
    "rotation_contrast",
    "rotation_kd",
    "similarity_kd",
    "similarity_preserving",
    "srd",
    "srrl",
    "srrl_terms",
    "standardize_logits",
    "symmetric_kl",
    "ttm",
    "vid",
    "wkd_features",
    "wkd_logits",
    "wkd_logits_terms",
    "wsld",
    "wttm",
]
