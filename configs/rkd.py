"""RKD on CIFAR-100: "Relational Knowledge Distillation" (CVPR 2019).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/rkd.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/rkd

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  RKD
    wrn_40_2-wrn_16_2         75.61    73.26          73.35
    wrn_40_2-wrn_40_1         75.61    71.98          72.22
    resnet56-resnet20         72.34    69.06          69.61
    resnet110-resnet20        74.31    69.06          69.25
    resnet110-resnet32        74.31    71.14          71.82
    resnet32x4-resnet8x4      79.42    72.50          71.90
    vgg13-vgg8                74.64    70.36          71.48
    vgg13-mobilenet_v2        74.64    64.60          64.52
    resnet50-mobilenet_v2     79.34    64.60          64.43
    resnet50-vgg8             79.34    70.36          71.50
    resnet32x4-shufflenet_v1  79.42    70.50          72.28
    resnet32x4-shufflenet_v2  79.42    71.82          73.21
    wrn_40_2-shufflenet_v1    75.61    70.50          72.21

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"rkd": {}}, recipes.BENCHMARK)
