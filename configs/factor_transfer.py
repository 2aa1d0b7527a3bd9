"""FT on CIFAR-100: "Paraphrasing Complex Network: Network Compression via Factor
Transfer" (NeurIPS 2018).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/factor_transfer.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/factor_transfer

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  FT
    wrn_40_2-wrn_16_2         75.61    73.26          73.25
    wrn_40_2-wrn_40_1         75.61    71.98          71.59
    resnet56-resnet20         72.34    69.06          69.84
    resnet110-resnet20        74.31    69.06          70.22
    resnet110-resnet32        74.31    71.14          72.37
    resnet32x4-resnet8x4      79.42    72.50          72.86
    vgg13-vgg8                74.64    70.36          70.58
    vgg13-mobilenet_v2        74.64    64.60          61.78
    resnet50-mobilenet_v2     79.34    64.60          60.99
    resnet50-vgg8             79.34    70.36          70.29
    resnet32x4-shufflenet_v1  79.42    70.50          71.75
    resnet32x4-shufflenet_v2  79.42    71.82          72.50
    wrn_40_2-shufflenet_v1    75.61    70.50          72.03

The paraphraser learns on the teacher for 30 epochs before.

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"factor_transfer": {}}, recipes.BENCHMARK)
