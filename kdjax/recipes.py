"""Training recipes: the settings that published figures were obtained with.

A recipe is made for a data set and fills in everything but the networks and the
methods. The fields are explained in `config.default`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_collections

from kdjax import config as config_lib
from kdjax import distill
from kdjax.data import augment, normalization


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
    config.data.mean, config.data.std = normalization.PRESETS["overhaul"]
    return config


def mhgd() -> ml_collections.ConfigDict:
    """CIFAR-100 as in the code of KD-SVD with gradient clipping, and of MHGD.

    Source: sseung0703/KD_methods_with_TF: SGD with nesterov momentum 0.9, weight decay
    5e-4 on everything, batch 128, 100 epochs, rate 0.1 divided by ten at 30, 60 and
    80 % of them, reflect padding, one crop for the whole batch, and the mean and
    standard deviation of CIFAR-100 in the order blue, green, red. The teacher's batch
    norms use their running statistics. Attention networks learn for 40 epochs before,
    at a constant rate of 0.1 and with a weight decay of 1e-3.

    Differs from the original in: the last, smaller batch of an epoch stays smaller,
    where the original fills it up from the next epoch.
    """
    config = _as_mhgd(ofd())
    config.data.crop = "per_batch"
    config.data.mean, config.data.std = normalization.PRESETS["mhgd"]
    config.epochs = 100
    config.optimizer.lr_milestones = (0.3, 0.6, 0.8)
    config.optimizer.reset_momentum = False
    return config


def crd() -> ml_collections.ConfigDict:
    """CIFAR-100 as in RepDistiller, the code of CRD: the usual benchmark.

    Source: HobbitLong/RepDistiller, `train_student.py`: SGD with momentum 0.9 and no
    nesterov, weight decay 5e-4 on everything, batch 64, 240 epochs, rate 0.05 divided
    by ten after 150, 180 and 210 of them, zero padding. The teacher's batch norms use
    their running statistics. What comes before the training, of 30 epochs, runs at the
    rate of its beginning.

    Differs from the original in: nothing but the random numbers.
    """
    config = ofd()
    config.data.padding_mode = "zero"
    config.data.mean, config.data.std = normalization.PRESETS["repdistiller"]
    config.batch_size = 64
    config.epochs = 240
    config.optimizer.lr_milestones = (150 / 240, 180 / 240, 210 / 240)
    config.optimizer.reset_momentum = False
    config.pretrain.epochs = 30
    for optimizer in (
        config.optimizer,
        config.distill_first.optimizer,
        config.pretrain.optimizer,
    ):
        optimizer.learning_rate = 0.05
        optimizer.nesterov = False
    config.teacher.batch_norm = "running"
    return config


def _as_mhgd(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Sets what the methods of MHGD ask of the teacher and of the phases before."""
    config.teacher.batch_norm = "running"
    # 5e-4 times the sum of squares is in the loss of the attention networks.
    config.pretrain.optimizer.weight_decay = 1e-3
    return config


def imagenet() -> ml_collections.ConfigDict:
    """ImageNet as in the code of the overhaul paper, for networks `@224`.

    Source: clovaai/overhaul-distillation, `ImageNet/train_with_distillation.py`: SGD
    with nesterov momentum 0.9, weight decay 1e-4 on everything, batch 256, 100 epochs,
    rate 0.1 divided by ten before epochs 30, 60 and 90, the first being 1. Training
    looks at a random part of each image, the test at the middle 224 pixels of an image
    whose shorter side is 256.

    Differs from the original in: the last, smaller batch of an epoch is left out, which
    few numbers of devices could share; the random numbers; and a rounding of the
    test's crop, see `crop_resize.center_crop_resize`.
    """
    config = ofd()
    config.data.name = "imagenet"
    config.data.image_size = 224
    config.data.crop = augment.RANDOM_RESIZED
    config.data.eval_crop = 224 / 256
    config.data.workers = 8
    config.data.padding = 0
    config.data.drop_remainder = True
    config.data.mean, config.data.std = normalization.PRESETS["imagenet"]
    config.batch_size = 256
    config.epochs = 100
    for optimizer in (
        config.optimizer,
        config.distill_first.optimizer,
        config.pretrain.optimizer,
    ):
        optimizer.weight_decay = 1e-4
    config.optimizer.lr_milestones = (0.29, 0.59, 0.89)
    config.optimizer.reset_momentum = False
    # An epoch has 5,004 steps.
    config.checkpoint.every_steps = 1000
    return config


def imagenet_mhgd() -> ml_collections.ConfigDict:
    """The `imagenet` recipe for the methods of MHGD, which have none of their own."""
    return _as_mhgd(imagenet())


def imagenet_crd() -> ml_collections.ConfigDict:
    """The `imagenet` recipe for the methods of the benchmark.

    The teacher's batch norms use their running statistics.
    """
    config = imagenet()
    config.teacher.batch_norm = "running"
    return config


def digits() -> ml_collections.ConfigDict:
    """Ninety-six of the 8x8 digits: the `ofd` recipe made small.

    So few images that a student alone is far from a teacher that saw all of them, and
    as many as two, four or eight devices can share.
    Digits are not mirrored, and one pixel of zero padding moves them as far as four
    pixels move an image of 32.
    """
    config = ofd()
    config.data.name = "digits"
    config.data.train_fraction = 0.096
    config.data.padding = 1
    config.data.padding_mode = "zero"
    config.data.flip = False
    config.data.mean = (78.0, 78.0, 78.0)
    config.data.std = (96.0, 96.0, 96.0)
    config.batch_size = 32
    config.epochs = 40
    config.log_every_steps = 6
    config.evaluate_every_epochs = 2
    return config


def digits_teacher() -> ml_collections.ConfigDict:
    """All thousand training digits, for fewer epochs: the `digits` recipe otherwise."""
    config = digits()
    config.data.train_fraction = 1.0
    config.epochs = 15
    return config


def digits_mhgd() -> ml_collections.ConfigDict:
    """The `digits` recipe for the methods of MHGD."""
    return _as_mhgd(digits())


def digits_crd() -> ml_collections.ConfigDict:
    """The `digits` recipe for the methods of the benchmark."""
    config = digits()
    config.teacher.batch_norm = "running"
    return config


def _on_cifar10(
    recipe: Callable[[], ml_collections.ConfigDict],
) -> Callable[[], ml_collections.ConfigDict]:
    """Turns a recipe for CIFAR-100 into one for CIFAR-10.

    The images are normalized as in the code of the overhaul paper, whose mean and
    standard deviation are those of CIFAR-10.
    """

    def config():
        changed = recipe()
        changed.data.name = "cifar10"
        changed.data.mean, changed.data.std = normalization.PRESETS["overhaul"]
        return changed

    return config


def _on_tiny_imagenet(
    recipe: Callable[[], ml_collections.ConfigDict],
) -> Callable[[], ml_collections.ConfigDict]:
    """Turns a recipe for CIFAR-100 into one for TinyImageNet, for networks `@64`.

    Published figures on it (Lee and Song, BMVC 2019) come without their recipe, so this
    is ours: the padding grows with the images, from 4 pixels of 32 to 8 of 64, and the
    mean and standard deviation are those of ImageNet.
    """

    def config():
        changed = recipe()
        changed.data.name = "tiny_imagenet"
        changed.data.padding = 8
        changed.data.mean, changed.data.std = normalization.PRESETS["imagenet"]
        return changed

    return config


Recipes = Mapping[str, Callable[[], ml_collections.ConfigDict]]


def _for_all(
    cifar100: Callable[[], ml_collections.ConfigDict],
    large: Callable[[], ml_collections.ConfigDict],
    small: Callable[[], ml_collections.ConfigDict],
) -> Recipes:
    """Returns the recipes of every data set.

    Args:
      cifar100: the recipe that those of CIFAR-10 and TinyImageNet are made of.
      large: that of ImageNet.
      small: that of the digits.
    """
    return {
        "cifar100": cifar100,
        "cifar10": _on_cifar10(cifar100),
        "tiny_imagenet": _on_tiny_imagenet(cifar100),
        "imagenet": large,
        "digits": small,
    }


#: Recipes by data set: of students, of their teachers, of the methods of MHGD, and of
#: those of the benchmark.
STUDENT: Recipes = _for_all(ofd, imagenet, digits)
TEACHER: Recipes = _for_all(ofd, imagenet, digits_teacher)
MHGD: Recipes = _for_all(mhgd, imagenet_mhgd, digits_mhgd)
BENCHMARK: Recipes = _for_all(crd, imagenet_crd, digits_crd)


#: Networks that have a learning rate of their own: those without batch norm, which
#: diverge at the others' (the code of KD-SVD, sseung0703/SSKD_SVD, for its VGG), and
#: RepDistiller's small ones; whatever the size of their images.
_RATES = {
    "mhgd_vgg16": 0.01,
    "mhgd_vgg7": 0.01,
    "mobilenet_v2": 0.01,
    "shufflenet_v1": 0.01,
    "shufflenet_v2": 0.01,
}


class Networks(NamedTuple):
    """What the argument of a configuration file names.

    Attributes:
      teacher: network that teaches; None for a network alone.
      student: network that is trained.
      data: data set.
    """

    teacher: str | None
    student: str
    data: str


def parse(argument: str) -> Networks:
    """Reads "network" or "teacher-student", and ",data" unless it is CIFAR-100.

    Raises:
      ValueError: if there is no recipe for the data set.
    """
    networks, _, data = argument.partition(",")
    teacher, dash, student = networks.rpartition("-")
    data = data or "cifar100"
    if data not in STUDENT:
        raise ValueError(f"data {data!r} has no recipe; known are {sorted(STUDENT)}")
    return Networks(teacher if dash else None, student, data)


def alone(argument: str, recipes: Recipes = STUDENT) -> ml_collections.ConfigDict:
    """Returns the training of one network.

    Args:
      argument: as for `parse`, with one network.
      recipes: by data set.

    Raises:
      ValueError: if the argument names a pair.
    """
    networks = parse(argument)
    if networks.teacher is not None:
        raise ValueError(f"{argument!r} names a pair: give one network, as wrn_16_2")
    return _training_of(networks.student, recipes[networks.data]())


def distillation(
    argument: str,
    methods: Mapping[str, Mapping[str, Any]],
    recipes: Recipes = STUDENT,
) -> ml_collections.ConfigDict:
    """Returns the distillation of a teacher into a student.

    Args:
      argument: as for `parse`, with a pair.
      methods: hyperparameters by the method's name; the others get the published
        defaults, so that a configuration holds every one.
      recipes: by data set.

    Raises:
      ValueError: if the argument names no pair.
    """
    networks = parse(argument)
    if networks.teacher is None:
        raise ValueError(
            f"{argument!r} names no pair: give teacher-student, as wrn_28_4-wrn_16_2"
        )
    config = _training_of(networks.student, recipes[networks.data]())
    config.teacher.model = networks.teacher
    for name, given in methods.items():
        config.methods[name] = distill.hyperparameters(name, **given)
    return config


def _training_of(
    network: str, config: ml_collections.ConfigDict
) -> ml_collections.ConfigDict:
    """Sets the network of a recipe, and what this network needs otherwise."""
    config.model = network
    family, _, _ = network.partition("@")
    if family in _RATES:
        for optimizer in (config.optimizer, config.distill_first.optimizer):
            optimizer.learning_rate = _RATES[family]
    return config
