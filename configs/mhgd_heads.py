"""MHGD by the number of attention heads.

    python -m kdjax.main --config=configs/mhgd_heads.py:4,mhgd_vgg16-mhgd_vgg7 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/mhgd_4_heads

The argument is heads,teacher-student; a data set may follow. Published test accuracy in
percent (slides of the paper, VGG on CIFAR-100):

    heads     0 (student alone)  1      2      4      8      16
    accuracy  59.97              65.71  66.41  67.01  67.02  66.70

A single head is never dropped while the attention network learns; the released code
always drops it and cannot have made the second figure.
"""

import ml_collections

from kdjax import recipes


def get_config(
    argument: str = "8,mhgd_vgg16-mhgd_vgg7",
) -> ml_collections.ConfigDict:
    """Returns the experiment for "heads,teacher-student[,data]"."""
    heads, _, networks = argument.partition(",")
    if not heads.isdecimal():
        raise ValueError(
            f"{argument!r} does not start with a number of heads, as"
            " 4,wrn_22_4-wrn_10_4"
        )
    methods = {"mhgd": {"widths": "connect", "heads": int(heads)}}
    return recipes.distillation(networks, methods, recipes.MHGD)
