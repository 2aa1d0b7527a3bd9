"""OFD: "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019).

    python -m kdjax.main --config=configs/overhaul.py:wrn_28_4-wrn_16_2 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/overhaul

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_16_1,digits.
Published test error on CIFAR-100 in percent, median of 5 runs, last epoch (authors'
README):

    setting  argument             teacher  student alone  OFD
    a        wrn_28_4-wrn_16_4    21.09    22.72          20.89
    b        wrn_28_4-wrn_28_2    21.09    24.88          21.98
    c        wrn_28_4-wrn_16_2    21.09    27.32          24.08
    d        wrn_28_4-resnet56    21.09    27.68          24.44
    e        pyramidnet_200_240-wrn_28_4
                                  15.6     21.09          17.80
    f        pyramidnet_200_240-pyramidnet_110_84
                                  15.6     22.58          18.89

On ImageNet (best epoch; top-1 and top-5 error):

    argument                                 teacher        student alone  OFD
    resnet152@224-resnet50@224,imagenet      21.69, 5.95    23.72, 6.97    21.65, 5.83
    resnet50@224-mobilenet@224,imagenet      23.84, 7.14    31.13, 11.24   28.75, 9.66

The recipe is the authors' own, `recipes.ofd` and `recipes.imagenet`; in settings e and
f the batch is of 64. Train the teacher of a to d with configs/teacher.py:wrn_28_4, that
of e and f with configs/teacher.py:pyramidnet_200_240, whose mixup has an alpha of our
choice since theirs was not published. kdjax.interop.torch_import reads the authors'
own, and torchvision's old weights, which teach on ImageNet.
"""

import ml_collections

from kdjax import recipes

# The distance is a sum over the image. That of the digits has a sixteenth of the
# pixels, and the weight makes up for it. The networks for 64x64 images halve them at
# once, so that their maps are as large as those of CIFAR.
_WEIGHT = {
    "cifar100": 1e-3,
    "cifar10": 1e-3,
    "tiny_imagenet": 1e-3,
    "imagenet": 1e-4,
    "digits": 1.6e-2,
}


def get_config(argument: str = "wrn_28_4-wrn_16_2") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    networks = recipes.parse(argument)
    methods = {"overhaul": {"weight": _WEIGHT[networks.data]}}
    config = recipes.distillation(argument, methods)
    if networks.teacher == "pyramidnet_200_240":
        config.batch_size = 64
    return config
