"""MHGD on CIFAR-100: "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019).

    python -m kdjax.main --config=configs/teacher.py:wrn_22_4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/mhgd.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/mhgd

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_2,digits.
Published test accuracy in percent (slides of the paper, tables of equal and of
different architectures; the last row: the authors' code, last epoch, mean of 5 runs):

    argument                    teacher  student alone  MHGD
    mhgd_vgg16-mhgd_vgg7        67.99    59.97          67.02
    wrn_22_4-wrn_10_4           77.22    71.62          72.79
    wrn_22_4-mhgd_vgg_strided   77.22    69.76          71.52
    wrn_22_4-mhgd_mobilenet     77.22    66.18          68.32
    wrn_22_4-mhgd_resnet        77.22    71.57          72.74
    resnet32x4-resnet8x4        78.96    71.76          73.98

The recipe is that of the authors' code, `recipes.mhgd`: 40 epochs of the attention
networks on the teacher, then 100 of the student. It was released for the last row only;
the two VGG have no batch norm and take a tenth of its rate, as in the code of KD-SVD.
Stages of other widths are joined by a 1x1 convolution, where the original refuses them.
With `--config.methods.mhgd.smoothing=centered_tanh` the loss is that of July 2019, by
which the last row was measured. For 64x64 images there are the same networks as
`wrn_22_4@64` and so on.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    methods = {"mhgd": {"widths": "connect"}}
    return recipes.distillation(argument, methods, recipes.MHGD)
