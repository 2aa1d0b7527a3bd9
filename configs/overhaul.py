"""OFD: "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019).

    python -m kdjax.main --config=configs/overhaul.py:wrn_28_4-wrn_16_2 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/overhaul

The argument is teacher-student; a data set may follow, as in wrn_16_2-wrn_16_1,digits.
The pairs of the paper's settings a to f on CIFAR-100 are, in this order,

    wrn_28_4-wrn_16_4            wrn_28_4-resnet56
    wrn_28_4-wrn_28_2            pyramidnet_200_240-wrn_28_4
    wrn_28_4-wrn_16_2            pyramidnet_200_240-pyramidnet_110_84

and on ImageNet resnet152@224-resnet50@224,imagenet (published top-5 error: 5.83 %) and
resnet50@224-mobilenet@224,imagenet (9.66 %). Published top-1 accuracies:
experiments/published.csv; on CIFAR-100 medians of 5 runs at the last epoch, on ImageNet
of the best epoch.

The recipe is the authors' own, `recipes.ofd` and `recipes.imagenet`; in settings e and
f the batch is of 64. Train the teacher of a to d with configs/teacher.py:wrn_28_4, that
of e and f with configs/teacher.py:pyramidnet_200_240, whose mixup has an alpha of 1
since the authors' was not published. kdjax.interop.torch_import reads the authors'
own, and torchvision's old weights, which teach on ImageNet.
"""

import ml_collections

from kdjax import method_recipes


def get_config(argument: str = "wrn_28_4-wrn_16_2") -> ml_collections.ConfigDict:
    """Returns the experiment for "teacher-student" or "teacher-student,data"."""
    return method_recipes.of_methods("overhaul", argument)
