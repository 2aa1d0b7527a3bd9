"""FitNets on CIFAR-100: "FitNets: Hints for Thin Deep Nets" (ICLR 2015).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/fitnets.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/fitnets

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  FitNets
    wrn_40_2-wrn_16_2         75.61    73.26          73.58
    wrn_40_2-wrn_40_1         75.61    71.98          72.24
    resnet56-resnet20         72.34    69.06          69.21
    resnet110-resnet20        74.31    69.06          68.99
    resnet110-resnet32        74.31    71.14          71.06
    resnet32x4-resnet8x4      79.42    72.50          73.50
    vgg13-vgg8                74.64    70.36          71.02
    vgg13-mobilenet_v2        74.64    64.60          64.14
    resnet50-mobilenet_v2     79.34    64.60          63.16
    resnet50-vgg8             79.34    70.36          70.69
    resnet32x4-shufflenet_v1  79.42    70.50          73.59
    resnet32x4-shufflenet_v2  79.42    71.82          73.54
    wrn_40_2-shufflenet_v1    75.61    70.50          73.73

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"fitnets": {}}, recipes.BENCHMARK)
