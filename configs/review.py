"""ReviewKD on CIFAR-100: "Distilling Knowledge via Knowledge Review" (CVPR 2021).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/review.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/review

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (another recipe, NORM's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  ReviewKD
    wrn_40_2-wrn_16_2         75.61    73.26          76.12
    wrn_40_2-wrn_40_1         75.61    71.98          75.09
    resnet56-resnet20         72.34    69.06          71.89
    resnet110-resnet32        74.31    71.14          73.89
    resnet32x4-resnet8x4      79.42    72.50          75.63
    vgg13-vgg8                74.64    70.36          74.84
    vgg13-mobilenet_v2        74.64    64.60          70.37
    resnet50-mobilenet_v2     79.34    64.60          69.89
    resnet32x4-shufflenet_v1  79.42    70.50          77.45
    resnet32x4-shufflenet_v2  79.42    71.82          77.78
    wrn_40_2-shufflenet_v1    75.61    70.50          77.14

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"review": {}}, recipes.BENCHMARK)
