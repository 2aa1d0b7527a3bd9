"""PKT on CIFAR-100: "Learning Deep Representations with Probabilistic Knowledge
Transfer" (ECCV 2018).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/pkt.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/pkt

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  PKT
    wrn_40_2-wrn_16_2         75.61    73.26          74.54
    wrn_40_2-wrn_40_1         75.61    71.98          73.45
    resnet56-resnet20         72.34    69.06          70.34
    resnet110-resnet20        74.31    69.06          70.25
    resnet110-resnet32        74.31    71.14          72.61
    resnet32x4-resnet8x4      79.42    72.50          73.64
    vgg13-vgg8                74.64    70.36          72.88
    vgg13-mobilenet_v2        74.64    64.60          67.13
    resnet50-mobilenet_v2     79.34    64.60          66.52
    resnet50-vgg8             79.34    70.36          73.01
    resnet32x4-shufflenet_v1  79.42    70.50          74.10
    resnet32x4-shufflenet_v2  79.42    71.82          74.69
    wrn_40_2-shufflenet_v1    75.61    70.50          73.89

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"pkt": {}}, recipes.BENCHMARK)
