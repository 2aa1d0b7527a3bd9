"""Soft targets on CIFAR-100: "Distilling the Knowledge in a Neural Network" (2015).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/soft_targets.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/soft_targets

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  KD
    wrn_40_2-wrn_16_2         75.61    73.26          74.92
    wrn_40_2-wrn_40_1         75.61    71.98          73.54
    resnet56-resnet20         72.34    69.06          70.66
    resnet110-resnet20        74.31    69.06          70.67
    resnet110-resnet32        74.31    71.14          73.08
    resnet32x4-resnet8x4      79.42    72.50          73.33
    vgg13-vgg8                74.64    70.36          72.98
    vgg13-mobilenet_v2        74.64    64.60          67.37
    resnet50-mobilenet_v2     79.34    64.60          67.35
    resnet50-vgg8             79.34    70.36          73.81
    resnet32x4-shufflenet_v1  79.42    70.50          74.07
    resnet32x4-shufflenet_v2  79.42    71.82          74.45
    wrn_40_2-shufflenet_v1    75.61    70.50          74.83

The loss is 0.1 times the cross-entropy and 0.9 times the divergence.

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    methods = {"soft_targets": {"weight": 0.9}}
    config = recipes.distillation(argument, methods, recipes.BENCHMARK)
    config.task_weight = 0.1
    return config
