"""AB on CIFAR-100: "Knowledge Transfer via Distillation of Activation Boundaries" (AAAI
2019).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/activation_boundary.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/activation_boundary

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  AB
    wrn_40_2-wrn_16_2         75.61    73.26          72.50
    wrn_40_2-wrn_40_1         75.61    71.98          72.38
    resnet56-resnet20         72.34    69.06          69.47
    resnet110-resnet20        74.31    69.06          69.53
    resnet110-resnet32        74.31    71.14          70.98
    resnet32x4-resnet8x4      79.42    72.50          73.17
    vgg13-vgg8                74.64    70.36          70.94
    vgg13-mobilenet_v2        74.64    64.60          66.06
    resnet50-mobilenet_v2     79.34    64.60          67.20
    resnet50-vgg8             79.34    70.36          70.65
    resnet32x4-shufflenet_v1  79.42    70.50          73.55
    resnet32x4-shufflenet_v2  79.42    71.82          74.31
    wrn_40_2-shufflenet_v1    75.61    70.50          73.34

The distillation comes first, alone, for 30 epochs, and the task afterwards.

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    config = recipes.distillation(
        argument, {"activation_boundary": {}}, recipes.BENCHMARK
    )
    config.distill_first.epochs = 30
    return config
