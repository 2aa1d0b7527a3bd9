"""KD-SVD on CIFAR-100: "Self-supervised Knowledge Distillation Using SVD" (ECCV 2018).

    python -m kdjax.main --config=configs/teacher.py:wrn_22_4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/kd_svd.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/kd_svd

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_2,digits.
Published test accuracy in percent (slides of MHGD; the last row: the authors' code,
last epoch, mean of 5 runs):

    argument                    teacher  student alone  KD-SVD  KD-SVDF
    mhgd_vgg16-mhgd_vgg7        67.99    59.97          64.25   64.38
    wrn_22_4-wrn_10_4           77.22    71.62          71.83   71.82
    wrn_22_4-mhgd_vgg_strided   77.22    69.76          70.31
    wrn_22_4-mhgd_mobilenet     77.22    66.18          67.03
    wrn_22_4-mhgd_resnet        77.22    71.57          71.55
    resnet32x4-resnet8x4        78.96    71.76          73.68

KD-SVDF is `--config.methods.kd_svd.transfer=direct`. The recipe is that of the authors'
later code, `recipes.mhgd`; the networks have no dropout. Stages of other widths are
joined by a 1x1 convolution, where the original refuses them. For the two stages of
training of the KD-SVD paper, first the relations and then the task, add
`--config.distill_first.epochs=40`.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    methods = {"kd_svd": {"widths": "connect"}}
    return recipes.distillation(argument, methods, recipes.MHGD)
