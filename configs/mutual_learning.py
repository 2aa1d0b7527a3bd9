"""Mutual learning on CIFAR-100: "Deep Mutual Learning" (CVPR 2018).

    python -m kdjax.main --config=configs/mutual_learning.py:resnet32x4-resnet8x4 \\
        --workdir=runs/mutual_learning

The argument is peer-student, both of which start untrained; a data set may follow, as
in wrn_16_2-wrn_10_1,digits. The published test accuracy of resnet32x4-resnet8x4
(last epoch, mean of 5 runs, the code of MHGD) is in experiments/published.csv.

The recipe is that of this code, `recipes.mhgd`.
"""

import ml_collections

from kdjax import method_recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "peer-student" or "peer-student,data"."""
    return method_recipes.of_methods("mutual_learning", argument)
