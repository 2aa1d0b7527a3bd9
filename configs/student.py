"""A student alone on CIFAR-100: the baseline of every distillation.

    python -m kdjax.main --config=configs/student.py:wrn_16_2 --workdir=runs/student

The argument is a network; a data set may follow, as in wrn_16_1,digits. Published test
error in percent (overhaul paper, authors' README): wrn_16_4 22.72, wrn_28_2 24.88,
wrn_16_2 27.32, resnet56 27.68, pyramidnet_110_84 22.58.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "wrn_16_2") -> ml_collections.ConfigDict:
    """Returns the experiment for "network" or "network,data"."""
    return recipes.alone(argument)
