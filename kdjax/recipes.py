"""Training recipes: the settings that published figures were obtained with.

A recipe (`RECIPES`) is a function of a configuration, and so is a data set (`DATA`);
`compose` applies one after the other. Every combination of both is a complete
configuration but for the networks and the methods. The fields are explained in
`kdjax.config.FIELDS`; the settings of each method are in `kdjax.method_recipes`.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_collections

from kdjax import distill
from kdjax.config import fields
from kdjax.data import normalization

Config = ml_collections.ConfigDict

# Data sets. Each is a function that sets what is read and how it is augmented and
# normalized; one of another size than CIFAR sets the schedule too.


def cifar100(config: Config) -> None:
    """CIFAR-100; each recipe normalizes it as its original code does."""
    config.data.name = "cifar100"
    config.data.padding = 4
    config.data.flip = True
    config.data.mean, config.data.std = normalization.PRESETS["overhaul"]


def cifar10(config: Config) -> None:
    """CIFAR-10, normalized with its own mean and standard deviation."""
    cifar100(config)
    config.data.name = "cifar10"


def tiny_imagenet(config: Config) -> None:
    """TinyImageNet, for networks `@64`.

    Published figures on it (Lee and Song, BMVC 2019) come without their recipe, so this
    is kdjax's own: the padding grows with the images, from 4 pixels of 32 to 8 of 64,
    and the mean and standard deviation are those of ImageNet.
    """
    config.data.name = "tiny_imagenet"
    config.data.padding = 8
    config.data.flip = True
    config.data.mean, config.data.std = normalization.PRESETS["imagenet"]


def imagenet(config: Config) -> None:
    """ImageNet as in the code of the overhaul paper, for networks `@224`.

    Source: clovaai/overhaul-distillation, `ImageNet/train_with_distillation.py`: SGD
    with nesterov momentum 0.9, weight decay 1e-4 on everything, batch 256, 100 epochs,
    rate 0.1 divided by ten before epochs 30, 60 and 90, the first being 1. Training
    crops a random part of each image, evaluation the central 224 pixels of an image
    whose shorter side is 256.

    Differs from the original in: the last, smaller batch of an epoch is left out, since
    few numbers of devices divide it; the random numbers; and a rounding of the crop at
    evaluation.
    """
    config.data.name = "imagenet"
    config.data.image_size = 224
    config.data.crop = "random_resized"
    config.data.eval_crop = 224 / 256
    config.data.workers = 8
    config.data.flip = True
    config.data.drop_remainder = True
    config.data.mean, config.data.std = normalization.PRESETS["imagenet"]
    config.batch_size = 256
    config.epochs = 100
    for optimizer in _optimizers(config):
        optimizer.weight_decay = 1e-4
    config.optimizer.lr_milestones = (0.29, 0.59, 0.89)
    config.optimizer.reset_momentum = False
    # An epoch has 5,004 steps.
    config.checkpoint.every_steps = 1000


def digits(config: Config) -> None:
    """Ninety-six of the 8x8 digits: the `ofd` recipe made small.

    With so few images a student alone is far from a teacher that saw all of them, and
    two, four or eight devices can divide them. Digits are not mirrored, and one pixel
    of zero padding moves them as far as four pixels move an image of 32.
    """
    config.data.name = "digits"
    config.data.train_fraction = 0.096
    config.data.padding = 1
    config.data.padding_mode = "zero"
    config.data.mean = (78.0, 78.0, 78.0)
    config.data.std = (96.0, 96.0, 96.0)
    config.batch_size = 32
    config.epochs = 40
    config.log_every_steps = 6
    config.evaluate_every_epochs = 2


#: Data sets that a configuration can be made for, by name.
DATA: Mapping[str, Callable[[Config], None]] = {
    function.__name__: function
    for function in (cifar100, cifar10, tiny_imagenet, imagenet, digits)
}

#: Data sets that keep their own schedule under every recipe.
_OWN_SCHEDULE = ("imagenet", "digits")

# Recipes. Each is a function that sets the schedule of images like CIFAR's, and what
# its methods ask of the teacher and of the phases before the training.


def ofd(config: Config) -> None:
    """CIFAR-100 as in the code of the overhaul paper; the defaults of `kdjax.config`.

    Source: clovaai/overhaul-distillation, `CIFAR-100/train_with_distillation.py`:
    SGD with nesterov momentum 0.9, weight decay 5e-4 on everything, batch 128, 200
    epochs, rate 0.1 divided by ten at epochs 100 and 150 with a new optimizer each
    time, reflect padding, and the mean and standard deviation of CIFAR-10.
    """
    del config


def mhgd(config: Config) -> None:
    """CIFAR-100 as in the code of KD-SVD with gradient clipping, and of MHGD.

    Source: sseung0703/KD_methods_with_TF: SGD with nesterov momentum 0.9, weight decay
    5e-4 on everything, batch 128, 100 epochs, rate 0.1 divided by ten at 30, 60 and
    80 % of them, reflect padding, one crop for the full batch, and the mean and
    standard deviation of CIFAR-100 in the order blue, green, red. The teacher's batch
    norms use their running statistics. Attention networks learn for 40 epochs before,
    at a constant rate of 0.1 and with a weight decay of 1e-3.

    Differs from the original in: the last, smaller batch of an epoch stays smaller,
    where the original fills it up from the next epoch.
    """
    config.teacher.batch_norm = "running"
    # 5e-4 times the sum of squares is in the loss of the attention networks.
    config.pretrain.optimizer.weight_decay = 1e-3
    if config.data.name in _OWN_SCHEDULE:
        return
    _normalize(config, "mhgd")
    config.data.crop = "per_batch"
    config.epochs = 100
    config.optimizer.lr_milestones = (0.3, 0.6, 0.8)
    config.optimizer.reset_momentum = False


def crd(config: Config) -> None:
    """CIFAR-100 as in RepDistiller, the code of CRD: the usual benchmark.

    Source: HobbitLong/RepDistiller, `train_student.py`: SGD with momentum 0.9 and no
    nesterov, weight decay 5e-4 on everything, batch 64, 240 epochs, rate 0.05 divided
    by ten after 150, 180 and 210 of them, zero padding. The teacher's batch norms use
    their running statistics. Phases before the training, of 30 epochs, keep the first
    rate.

    Differs from the original in: nothing but the random numbers.
    """
    config.teacher.batch_norm = "running"
    if config.data.name in _OWN_SCHEDULE:
        return
    _normalize(config, "repdistiller")
    config.data.padding_mode = "zero"
    config.batch_size = 64
    config.epochs = 240
    config.optimizer.lr_milestones = (150 / 240, 180 / 240, 210 / 240)
    config.optimizer.reset_momentum = False
    config.pretrain.epochs = 30
    for optimizer in _optimizers(config):
        optimizer.learning_rate = 0.05
        optimizer.nesterov = False


def review(config: Config) -> None:
    """CIFAR-100 as in the code of ReviewKD.

    Source: dvlab-research/ReviewKD, `CIFAR-100/train.py`: SGD with nesterov momentum
    0.9, weight decay 5e-4 on everything, batch 128, 240 epochs, rate 0.1 divided by ten
    after 151, 181 and 211 of them, zero padding, the mean and standard deviation of
    CIFAR-10. The teacher is never put into evaluation mode: its batch norms use the
    statistics of each batch.

    Differs from the original in: nothing but the random numbers.
    """
    crd(config)
    if config.data.name in _OWN_SCHEDULE:
        return
    _normalize(config, "overhaul")
    config.teacher.batch_norm = "batch"
    config.batch_size = 128
    config.optimizer.lr_milestones = (151 / 240, 181 / 240, 211 / 240)
    for optimizer in _optimizers(config):
        optimizer.learning_rate = 0.1
        optimizer.nesterov = True


#: Recipes by name.
RECIPES: Mapping[str, Callable[[Config], None]] = {
    function.__name__: function for function in (ofd, mhgd, crd, review)
}


def _optimizers(config: Config) -> Iterator[Config]:
    """Yields the optimizer of every phase."""
    yield config.optimizer
    yield config.distill_first.optimizer
    yield config.pretrain.optimizer


def _normalize(config: Config, preset: str) -> None:
    """Normalizes CIFAR-100 as a recipe's code does; other data sets keep their own."""
    if config.data.name == "cifar100":
        config.data.mean, config.data.std = normalization.PRESETS[preset]


#: Learning rate, by recipe, of RepDistiller's small networks; 0.01 under the others.
_SMALL_RATE = {"review": 0.02}

#: Networks that have a learning rate of their own: RepDistiller's small ones, and those
#: without batch norm, which diverge at the others' (the code of KD-SVD,
#: sseung0703/SSKD_SVD, for its VGG); at any size of image.
_SMALL = ("mobilenet_v2", "shufflenet_v1", "shufflenet_v2")
_WITHOUT_BATCH_NORM = ("mhgd_vgg16", "mhgd_vgg7")


#: Beginnings of the names of networks that SGD at the others' rate does not train.
_ADAMW = ("deit_", "vit_", "convnext_")


def _adamw(config: Config) -> None:
    """Trains a transformer or ConvNeXt as DeiT's code does, at a rate for small images.

    Source: facebookresearch/deit, `main.py`: AdamW, weight decay 0.05 on all kernels,
    a cosine to a fiftieth of the rate, 5 epochs of warm-up. The rate is 5e-4 for each
    512 images of a batch there; here that is the least, since batches of small images
    are smaller.
    """
    optimizer = config.optimizer
    optimizer.name = "adamw"
    optimizer.learning_rate = 5e-4 * max(1, config.batch_size / 512)
    optimizer.weight_decay = 0.05
    optimizer.weight_decay_of = "kernels"
    optimizer.schedule = "cosine"
    optimizer.final_factor = 0.02
    optimizer.warm_up_epochs = 5.0
    for phase in (config.distill_first, config.pretrain):
        phase.optimizer.learning_rate = 0.01


def compose(recipe: str = "ofd", data: str = "cifar100") -> Config:
    """Returns a configuration without networks and methods.

    Args:
      recipe: one of `RECIPES`.
      data: one of `DATA`.

    Raises:
      ValueError: if there is no such recipe or data set.
    """
    _check_known(recipe, data)
    config = fields.default()
    DATA[data](config)
    RECIPES[recipe](config)
    return config


def _check_known(recipe: str, data: str) -> None:
    if data not in DATA:
        raise ValueError(f"data {data!r} has no recipe; known are {sorted(DATA)}")
    if recipe not in RECIPES:
        raise ValueError(f"recipe {recipe!r} is none of {sorted(RECIPES)}")


class Networks(NamedTuple):
    """What the argument of a configuration file names.

    Attributes:
      teacher: name of the teacher network; None for a network alone.
      student: name of the network that is trained.
      data: one of `DATA`.
      recipe: one of `RECIPES`; None for that of the configuration file.
    """

    teacher: str | None
    student: str
    data: str
    recipe: str | None


def parse(argument: str) -> Networks:
    """Reads "network" or "teacher-student", then ",data" and ",recipe" if they differ.

    Raises:
      ValueError: if there is no such data set or recipe.
    """
    if argument.count(",") > 2:
        raise ValueError(f"{argument!r} is not of the form networks[,data[,recipe]]")
    networks, data, recipe = [*argument.split(","), "", ""][:3]
    _check_known(recipe or "ofd", data or "cifar100")
    teacher, dash, student = networks.rpartition("-")
    return Networks(
        teacher if dash else None, student, data or "cifar100", recipe or None
    )


def alone(argument: str, recipe: str = "ofd") -> Config:
    """Returns the training of one network.

    Args:
      argument: as for `parse`, with one network.
      recipe: one of `RECIPES`, unless the argument names one.

    Raises:
      ValueError: if the argument names a pair.
    """
    networks = parse(argument)
    if networks.teacher is not None:
        raise ValueError(f"{argument!r} names a pair: give one network, as wrn_16_2")
    return _training(networks, recipe)


def teacher(argument: str, recipe: str = "ofd") -> Config:
    """Returns the training of a teacher: `alone`, but on all of the digits.

    Args:
      argument: as for `alone`.
      recipe: one of `RECIPES`, unless the argument names one.
    """
    config = alone(argument, recipe)
    if config.data.name == "digits":
        config.data.train_fraction = 1.0
        config.epochs = 15
    return config


def distillation(
    argument: str,
    methods: Mapping[str, Mapping[str, Any]],
    recipe: str = "ofd",
) -> Config:
    """Returns the distillation of a teacher into a student.

    Args:
      argument: as for `parse`, with a pair.
      methods: hyperparameters by the method's name; the others get the published
        defaults, so that a configuration holds every one.
      recipe: one of `RECIPES`, unless the argument names one.

    Raises:
      ValueError: if the argument names no pair.
    """
    networks = parse(argument)
    if networks.teacher is None:
        raise ValueError(
            f"{argument!r} names no pair: give teacher-student, as wrn_28_4-wrn_16_2"
        )
    config = _training(networks, recipe)
    config.teacher.model = networks.teacher
    for name, given in methods.items():
        config.methods[name] = distill.hyperparameters(name, **given)
    return config


def _training(networks: Networks, recipe: str) -> Config:
    """Composes the training of a network, at the learning rate that it needs."""
    recipe = networks.recipe or recipe
    config = compose(recipe, networks.data)
    config.model = networks.student
    family, _, _ = networks.student.partition("@")
    if family.startswith(_ADAMW):
        _adamw(config)
    if family in _SMALL + _WITHOUT_BATCH_NORM:
        rate = _SMALL_RATE.get(recipe, 0.01) if family in _SMALL else 0.01
        for optimizer in (config.optimizer, config.distill_first.optimizer):
            optimizer.learning_rate = rate
    return config
