"""Distillation methods, and the table of them."""

from kdjax.distill.activation_boundary import ActivationBoundary
from kdjax.distill.attention_transfer import AttentionTransfer
from kdjax.distill.cat_kd import CatKd
from kdjax.distill.composed import Composed
from kdjax.distill.correlation_congruence import CorrelationCongruence
from kdjax.distill.crd import Crd
from kdjax.distill.crld import Crld
from kdjax.distill.ctkd import Ctkd
from kdjax.distill.deepkd import Deepkd
from kdjax.distill.deit import Deit
from kdjax.distill.dist import Dist
from kdjax.distill.dkd import Dkd
from kdjax.distill.factor_transfer import FactorTransfer
from kdjax.distill.fitnets import Fitnets
from kdjax.distill.fsp import Fsp
from kdjax.distill.ickd import Ickd
from kdjax.distill.itrd import Itrd
from kdjax.distill.jacobian import Jacobian
from kdjax.distill.kd import Kd
from kdjax.distill.kd_svd import KdSvd
from kdjax.distill.method import Inputs, Method, Outputs, Taxonomy, Teacher
from kdjax.distill.mhgd import Mhgd
from kdjax.distill.mlkd import Mlkd
from kdjax.distill.mutual_learning import MutualLearning
from kdjax.distill.nkd import Nkd
from kdjax.distill.nst import Nst
from kdjax.distill.overhaul import Overhaul
from kdjax.distill.pefd import Pefd
from kdjax.distill.pkt import Pkt
from kdjax.distill.registry import (
    ALIASES,
    METHODS,
    build,
    canonical,
    hyperparameters,
    register,
)
from kdjax.distill.review import Review
from kdjax.distill.rkd import Rkd
from kdjax.distill.rld import Rld
from kdjax.distill.sdd import Sdd
from kdjax.distill.similarity_preserving import SimilarityPreserving
from kdjax.distill.simkd import Simkd
from kdjax.distill.srd import Srd
from kdjax.distill.srrl import Srrl
from kdjax.distill.sskd import Sskd
from kdjax.distill.ttm import Ttm
from kdjax.distill.vid import Vid
from kdjax.distill.wkd_features import WkdFeatures
from kdjax.distill.wkd_logits import WkdLogits
from kdjax.distill.wsld import Wsld
from kdjax.distill.wttm import Wttm

__all__ = [
    "ALIASES",
    "METHODS",
    "Inputs",
    "Method",
    "Outputs",
    "Taxonomy",
    "Teacher",
    "build",
    "canonical",
    "hyperparameters",
    "register",
]

for _method in (
    ActivationBoundary,
    AttentionTransfer,
    CatKd,
    Composed,
    CorrelationCongruence,
    Crd,
    Crld,
    Ctkd,
    Deepkd,
    Deit,
    Dist,
    Dkd,
    FactorTransfer,
    Fitnets,
    Fsp,
    Ickd,
    Itrd,
    Jacobian,
    Kd,
    KdSvd,
    Mhgd,
    Mlkd,
    MutualLearning,
    Nkd,
    Nst,
    Overhaul,
    Pefd,
    Pkt,
    Review,
    Rkd,
    Rld,
    Sdd,
    SimilarityPreserving,
    Simkd,
    Srd,
    Srrl,
    Sskd,
    Ttm,
    Vid,
    WkdFeatures,
    WkdLogits,
    Wsld,
    Wttm,
):
    register(_method)
