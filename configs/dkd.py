"""DKD on CIFAR-100: "Decoupled Knowledge Distillation" (CVPR 2022).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/dkd.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/dkd

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (best epoch, mdistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  DKD
    wrn_40_2-wrn_16_2         75.61    73.26          76.23
    wrn_40_2-wrn_40_1         75.61    71.98          74.81
    resnet56-resnet20         72.34    69.06          71.97
    resnet110-resnet32        74.31    71.14          74.11
    resnet32x4-resnet8x4      79.42    72.50          76.32
    vgg13-vgg8                74.64    70.36          74.68
    vgg13-mobilenet_v2        74.64    64.60          69.71
    resnet50-mobilenet_v2     79.34    64.60          70.35
    resnet32x4-shufflenet_v1  79.42    70.50          76.45
    resnet32x4-shufflenet_v2  79.42    71.82          77.07
    wrn_40_2-shufflenet_v1    75.61    70.50          76.70

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"dkd": {}}, recipes.BENCHMARK)
