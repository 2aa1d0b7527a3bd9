"""Attention transfer on CIFAR-100: "Paying More Attention to Attention" (ICLR 2017).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/attention_transfer.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/attention_transfer

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (last epoch, RepDistiller's README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  AT
    wrn_40_2-wrn_16_2         75.61    73.26          74.08
    wrn_40_2-wrn_40_1         75.61    71.98          72.77
    resnet56-resnet20         72.34    69.06          70.55
    resnet110-resnet20        74.31    69.06          70.22
    resnet110-resnet32        74.31    71.14          72.31
    resnet32x4-resnet8x4      79.42    72.50          73.44
    vgg13-vgg8                74.64    70.36          71.43
    vgg13-mobilenet_v2        74.64    64.60          59.40
    resnet50-mobilenet_v2     79.34    64.60          58.58
    resnet50-vgg8             79.34    70.36          71.84
    resnet32x4-shufflenet_v1  79.42    70.50          71.73
    resnet32x4-shufflenet_v2  79.42    71.82          72.73
    wrn_40_2-shufflenet_v1    75.61    70.50          73.32

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"attention_transfer": {}}, recipes.BENCHMARK)
