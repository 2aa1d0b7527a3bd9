"""OFD on CIFAR-100: "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019).

    python -m kdjax.main --config=configs/overhaul.py:wrn_28_4-wrn_16_2 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/overhaul

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_16_1,digits.
Published test error in percent, median of 5 runs, last epoch (authors' README):

    setting  argument             teacher  student alone  OFD
    a        wrn_28_4-wrn_16_4    21.09    22.72          20.89
    b        wrn_28_4-wrn_28_2    21.09    24.88          21.98
    c        wrn_28_4-wrn_16_2    21.09    27.32          24.08
    d        wrn_28_4-resnet56    21.09    27.68          24.44
    e        pyramidnet_200_240-wrn_28_4
                                  15.6     21.09          17.80
    f        pyramidnet_200_240-pyramidnet_110_84
                                  15.6     22.58          18.89

The recipe is the authors' own, `recipes.ofd`; in settings e and f the batch is of 64.
Train the teacher with configs/teacher.py:wrn_28_4. The PyramidNet that teaches in e and
f was trained with mixup, which is not here yet; the authors' own can be imported by
kdjax.models.torch_import.
"""

import ml_collections

from kdjax import recipes

# The distance is a sum over the image. That of the digits has a sixteenth of the
# pixels, and the weight makes up for it. The networks for 64x64 images halve them at
# once, so that their maps are as large as those of CIFAR.
_WEIGHT = {"cifar100": 1e-3, "cifar10": 1e-3, "tiny_imagenet": 1e-3, "digits": 1.6e-2}


def get_config(argument: str = "wrn_28_4-wrn_16_2") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    networks = recipes.parse(argument)
    methods = {"overhaul": {"weight": _WEIGHT[networks.data]}}
    config = recipes.distillation(argument, methods)
    if networks.teacher == "pyramidnet_200_240":
        config.batch_size = 64
    return config
