"""Mutual learning on CIFAR-100: "Deep Mutual Learning" (CVPR 2018).

    python -m kdjax.main --config=configs/mutual_learning.py:resnet32x4-resnet8x4 \\
        --workdir=runs/mutual_learning

The argument is peer-student, both of which start untrained; a data set may follow, as
in wrn_16_2-wrn_10_1,digits. Published test accuracy in percent (last epoch, mean of 5
runs, the code of MHGD):

    argument              teacher  student alone  mutual learning
    resnet32x4-resnet8x4  78.96    71.76          73.27

The recipe is that of this code, `recipes.mhgd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "peer-student" or "peer-student,data"."""
    peer = recipes.parse(argument).teacher or ""
    methods = {"mutual_learning": {"peer": peer, "distance": "symmetric"}}
    return recipes.distillation(argument, methods, recipes.MHGD)
