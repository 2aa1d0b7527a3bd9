"""Distillation losses as pure functions: one value an example, nothing reduced.

    loss = jnp.mean(losses.kd(student_logits, teacher_logits, temperature=4.0))

Every loss takes what it compares, student first, then keyword-only hyperparameters. The
teacher's gradient is not stopped: that is the caller's choice. A loss that relates the
examples of a batch takes `axis_name`, the mapped axis over which the batch is spread,
and then gives the same values on one device and on many.
"""

from kdjax.losses.activation_boundary import activation_boundary
from kdjax.losses.attention_transfer import attention_transfer
from kdjax.losses.factor_transfer import factor_transfer
from kdjax.losses.fsp import fsp
from kdjax.losses.hint import hint
from kdjax.losses.nst import nst
from kdjax.losses.overhaul import margin_relu, margins, partial_l2
from kdjax.losses.review import hierarchical_context
from kdjax.losses.vid import vid

__all__ = [
    "activation_boundary",
    "attention_transfer",
    "factor_transfer",
    "fsp",
    "hierarchical_context",
    "hint",
    "margin_relu",
    "margins",
    "nst",
    "partial_l2",
    "vid",
]
