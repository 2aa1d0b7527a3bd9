"""A teacher for CIFAR-100, trained as the overhaul paper trains its own.

    python -m kdjax.main --config=configs/teacher.py:wrn_28_4 --workdir=runs/teacher

The argument is a network; a data set may follow, as in wrn_16_2,digits, of which a
teacher sees all training images. Published test error of the authors' WRN28-4, the
teacher of settings a to d: 21.09 %; of their PyramidNet-200, pyramidnet_200_240, that
of e and f: 15.6 %.

The PyramidNet-200 was trained with mixup. The alpha was not published; 1 is that of the
mixup paper on CIFAR.
"""

import ml_collections

from kdjax import recipes


def get_config(argument: str = "wrn_28_4") -> ml_collections.ConfigDict:
    """Returns the experiment for "network" or "network,data"."""
    config = recipes.teacher(argument)
    if config.model == "pyramidnet_200_240":
        config.data.mixup = 1.0
    return config
