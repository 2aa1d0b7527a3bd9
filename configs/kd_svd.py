"""KD-SVD on CIFAR-100: "Self-supervised Knowledge Distillation Using SVD" (ECCV 2018).

    python -m kdjax.main --config=configs/teacher.py:wrn_22_4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/kd_svd.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/kd_svd

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_2,digits.
Published test accuracies: experiments/published.csv (slides of MHGD; for
resnet32x4-resnet8x4 the authors' code, last epoch, mean of 5 runs).

KD-SVDF is `--config.methods.kd_svd.transfer=direct`. The recipe is that of the authors'
later code, `recipes.mhgd`; the networks have no dropout. Stages of other widths are
joined by a 1x1 convolution, where the original refuses them. For the two stages of
training of the KD-SVD paper, first the relations and then the task, add
`--config.distill_first.epochs=40`.
"""

import ml_collections

from kdjax import method_recipes


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return method_recipes.of_methods("kd_svd", argument)
