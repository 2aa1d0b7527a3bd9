"""MHGD as an initialization: the graphs first, the task afterwards.

    python -m kdjax.main --config=configs/mhgd_distill_first.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/mhgd_distill_first

To be compared with configs/mhgd.py, where the student learns both at once. After the 40
epochs of the attention networks come 40 of the graphs alone, at a constant rate, which
leave the classifier alone, and 100 of the task alone. The first two thirds of that are
how the authors' code trains FitNet, FSP and AB. No figure was published for MHGD; the
poster of KD-SVD (ECCV 2018) has, for its VGG on CIFAR-100, in percent:

    method   first, then the task  both at once
    FSP      64.54                 64.89
    KD-SVD   65.05                 65.54

The loss is not clipped while there is no task to clip it to. Summed over a batch of
128, as together with the task, its first gradients have a norm of 300 and break the
network for good: on the digits it then learns less than half of its own training
images. The weight is smaller here by so much that the network survives; it was chosen
on the training images of the digits.

Differs from the original in: the momentum starts anew with the task, which the original
intends and does not do.
"""

import ml_collections

from kdjax import method_recipes

_WEIGHT = 0.03


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    config = method_recipes.of_methods("mhgd", argument, mhgd={"weight": _WEIGHT})
    config.distill_first.epochs = 40
    return config
