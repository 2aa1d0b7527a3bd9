"""MHGD on CIFAR-100: "Graph-based Knowledge Distillation by Multi-head Attention
Network" (BMVC 2019).

    python -m kdjax.main --config=configs/teacher.py:wrn_22_4 --workdir=runs/teacher
    python -m kdjax.main --config=configs/mhgd.py:wrn_22_4-wrn_10_4 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/mhgd

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_10_2,digits.
Published test accuracies: experiments/published.csv. Those of these pairs are from the
slides of the paper, the last from the authors' code (last epoch, mean of 5 runs):

    mhgd_vgg16-mhgd_vgg7         wrn_22_4-mhgd_mobilenet
    wrn_22_4-wrn_10_4            wrn_22_4-mhgd_resnet
    wrn_22_4-mhgd_vgg_strided    resnet32x4-resnet8x4

The recipe is that of the authors' code, `recipes.mhgd`: 40 epochs of the attention
networks on the teacher, then 100 of the student. It was released for the last pair
only; the two VGG have no batch norm and take a tenth of its rate, as in the code of
KD-SVD. Stages of other widths are joined by a 1x1 convolution, where the original
refuses them. The last pair has `methods.mhgd.smoothing=centered_tanh`, the loss of
July 2019, by which its figure was measured. For 64x64 images there are the same
networks as `wrn_22_4@64` and so on.
"""

import ml_collections

from kdjax import method_recipes


def get_config(argument: str = "wrn_22_4-wrn_10_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return method_recipes.of_methods("mhgd", argument)
