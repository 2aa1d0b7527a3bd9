"""Jacobian matching on CIFAR-100: "Knowledge Transfer with Jacobian Matching" (2018).

    python -m kdjax.main --config=configs/teacher.py:resnet32x4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/jacobian.py:resnet32x4-resnet8x4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/jacobian

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_1,digits.
The overhaul paper's table has a column of it; no figure is known here.

The recipe is RepDistiller's, `recipes.crd`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "resnet32x4-resnet8x4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return recipes.distillation(argument, {"jacobian": {}}, recipes.BENCHMARK)
