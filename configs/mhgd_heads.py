"""MHGD by the number of attention heads.

    python -m kdjax.main --config=configs/mhgd_heads.py:4,mhgd_vgg16-mhgd_vgg7 \\
        --config.teacher.checkpoint=runs/teacher --workdir=runs/mhgd_4_heads

The argument is heads,teacher-student; a data set may follow. Published test accuracies
of 1, 2, 4, 8 and 16 heads: experiments/published.csv (slides of the paper, VGG on
CIFAR-100).

A single head is never dropped while the attention network learns; the released code
always drops it and cannot have made the figure of one head.
"""

import ml_collections

from kdjax import method_recipes


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
    return method_recipes.of_methods("mhgd", networks, mhgd={"heads": int(heads)})
