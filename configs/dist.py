"""DIST on CIFAR-100: "Knowledge Distillation from A Stronger Teacher" (NeurIPS 2022).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/dist.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/dist

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
Published test accuracy in percent (mean of runs, the authors' README; teacher and
student of RepDistiller's):

    argument                  teacher  student alone  DIST
    wrn_40_2-wrn_40_1         75.61    71.98          74.43
    resnet56-resnet20         72.34    69.06          71.75
    resnet32x4-resnet8x4      79.42    72.50          76.31
    resnet50-mobilenet_v2     79.34    64.60          68.66
    resnet32x4-shufflenet_v1  79.42    70.50          76.34
    resnet32x4-shufflenet_v2  79.42    71.82          77.35

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"dist": {}}, recipes.BENCHMARK)
