"""KD-SVD on CIFAR-100: "Self-supervised Knowledge Distillation Using SVD" (ECCV 2018).

    python -m kdjax.main --config=configs/teacher.py:wrn_22_4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/kd_svd.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/kd_svd

The argument is teacher-student; a data set may follow, as in wrn_10_2-wrn_10_1,digits.
Published test accuracy in percent (slides of MHGD, table of equal architectures):

    argument             teacher  student alone  KD-SVD  KD-SVDF
    wrn_22_4-wrn_10_4    77.22    71.62          71.83   71.82

KD-SVDF is `--config.methods.kd_svd.transfer=direct`. The recipe is that of the authors'
later code, `recipes.mhgd`; the networks have no dropout. Stages of other widths are
joined by a 1x1 convolution, where the original refuses them.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    methods = {"kd_svd": {"widths": "connect"}}
    return recipes.distillation(argument, methods, recipes.MHGD)
