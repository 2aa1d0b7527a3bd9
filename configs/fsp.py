"""FSP on CIFAR-100: "A Gift from Knowledge Distillation" (CVPR 2017).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/fsp.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/fsp

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  FSP
    wrn_40_2-wrn_16_2         75.61    73.26          72.91
    resnet56-resnet20         72.34    69.06          69.95
    resnet110-resnet20        74.31    69.06          70.11
    resnet110-resnet32        74.31    71.14          71.89
    resnet32x4-resnet8x4      79.42    72.50          72.62
    vgg13-vgg8                74.64    70.36          70.23

The distillation comes first, alone and with a weight of 1, for 30 epochs, and the task
afterwards.

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    config = recipes.distillation(argument, {"fsp": {"weight": 1.0}}, recipes.BENCHMARK)
    config.distill_first.epochs = 30
    return config
