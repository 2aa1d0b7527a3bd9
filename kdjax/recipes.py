"""Training recipes: the settings that published figures were obtained with.

A recipe is made for a data set and fills in everything but the networks and the
methods. The fields are explained in `config.default`.
"""

from collections.abc import Mapping
from typing import Any

import ml_collections

from kdjax import config as config_lib
from kdjax import distill


def ofd() -> ml_collections.ConfigDict:
    """CIFAR-100 as in the code of the overhaul paper.

    Source: clovaai/overhaul-distillation, `CIFAR-100/train_with_distillation.py`:
    SGD with nesterov momentum 0.9, weight decay 5e-4 on everything, batch 128, 200
    epochs, rate 0.1 divided by ten at epochs 100 and 150 with a new optimizer each
    time, reflect padding, and the mean and standard deviation of CIFAR-10.
    """
    config = config_lib.default()
    config.data.name = "cifar100"
    config.data.padding = 4
    config.data.flip = True
    config.data.mean = (125.3, 123.0, 113.9)
    config.data.std = (63.0, 62.1, 66.7)
    return config


def digits() -> ml_collections.ConfigDict:
    """The 8x8 digits in a minute: the `ofd` recipe with fewer, shorter epochs.

    Digits are not mirrored, and one pixel of zero padding moves them as far as four
    pixels move an image of 32.
    """
    config = ofd()
    config.data.name = "digits"
    config.data.padding = 1
    config.data.padding_mode = "zero"
    config.data.flip = False
    config.data.mean = (78.0, 78.0, 78.0)
    config.data.std = (96.0, 96.0, 96.0)
    config.batch_size = 50
    config.epochs = 20
    config.log_every_steps = 20
    return config


#: The recipe of a data set where a command names only the data set.
BY_DATA = {"cifar100": ofd, "digits": digits}


def for_data(name: str) -> ml_collections.ConfigDict:
    """Returns the recipe of a data set.

    Raises:
      ValueError: if there is none.
    """
    if name not in BY_DATA:
        raise ValueError(f"data {name!r} has no recipe; known are {sorted(BY_DATA)}")
    return BY_DATA[name]()


def alone(argument: str) -> ml_collections.ConfigDict:
    """Returns the training of one network from "network" or "network,data".

    The data set is CIFAR-100 unless named.
    """
    network, _, data = argument.partition(",")
    config = for_data(data or "cifar100")
    config.model = network
    return config


def distillation(
    argument: str, methods: Mapping[str, Mapping[str, Any]]
) -> ml_collections.ConfigDict:
    """Returns a distillation from "teacher-student" or "teacher-student,data".

    Args:
      argument: networks, and the data set unless it is CIFAR-100.
      methods: hyperparameters by the method's name; the others get the published
        defaults, so that a configuration holds every one.

    Raises:
      ValueError: if the argument is not of that form.
    """
    networks, comma, data = argument.partition(",")
    teacher, dash, student = networks.partition("-")
    if not dash:
        raise ValueError(
            f"{argument!r} names no pair: give teacher-student, as wrn_28_4-wrn_16_2"
        )
    config = alone(student + comma + data)
    config.teacher.model = teacher
    config.methods = ml_collections.ConfigDict(
        {
            name: distill.hyperparameters(name, **given)
            for name, given in methods.items()
        }
    )
    return config
