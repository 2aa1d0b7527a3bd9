"""Every field a configuration has, its default, and what values make sense."""

import ml_collections

from kdjax import distill, models
from kdjax.data import augment, datasets
from kdjax.distill import compatibility


def default() -> ml_collections.ConfigDict:
    """Returns a configuration with every field; files under configs/ fill it in."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    # The network that is trained, for example "wrn_16_2".
    config.model = ""
    # Terms of the distillation loss: hyperparameters by the method's name. None trains
    # the network alone.
    config.methods = ml_collections.ConfigDict()

    # Factor on the cross-entropy beside them.
    config.task_weight = 1.0

    config.teacher = ml_collections.ConfigDict()
    config.teacher.model = ""
    # The work directory of the teacher's own training.
    config.teacher.checkpoint = ""
    # "batch" normalizes with the statistics of each batch, "running" with the stored.
    config.teacher.batch_norm = "batch"

    config.data = ml_collections.ConfigDict()
    # "digits", "cifar10", "cifar100", "tiny_imagenet", "imagenet", "tfds:NAME" or
    # "folder"; the top of kdjax/data/datasets.py says what they are.
    config.data.name = ""
    # Where prepared data sets lie, empty for TFDS's own default; or a folder of images.
    config.data.data_dir = ""
    # Height and width that images are brought to: the shorter side is resized and the
    # center cut out. 0 for images that all have one size.
    config.data.image_size = 0
    # Where the images are while training: "in_memory" on the devices, or "streaming",
    # which reads those of each batch. "auto" puts on the device what fits.
    config.data.pipeline = "auto"
    # Processes of the host that read images; 0 for threads of the training process.
    config.data.workers = 0
    # Files of a folder that cannot be decoded: end with an "error", or "skip" them.
    config.data.bad_images = "error"
    # Part of the training images, each class in proportion, the same in every run.
    config.data.train_fraction = 1.0
    # Part of these to set aside, likewise, and to evaluate on while training; the test
    # images are then looked at once, at the end. 0 to evaluate on them all along.
    config.data.validation_fraction = 0.0
    # Leave out the last, smaller batch of an epoch.
    config.data.drop_remainder = False
    # Random crops of the image padded by so many pixels, "reflect" or "zero".
    config.data.padding = 0
    config.data.padding_mode = "reflect"
    # Where to crop is drawn "per_image" or "per_batch"; "random_resized" draws size and
    # shape too, and resizes to `image_size`.
    config.data.crop = "per_image"
    # What the test looks at: the square in the middle whose side is this part of the
    # shorter side, for example 224/256.
    config.data.eval_crop = 1.0
    config.data.flip = False
    # Probability of an image to have a rectangle covered with the mean color.
    config.data.random_erasing = 0.0
    # Each image is mixed with another of its batch, and their classes likewise, in
    # every phase of the training: alpha of the Beta distribution of the shares, one
    # draw a batch. 0 to mix nothing.
    config.data.mixup = 0.0
    # Of each color, in units of the pixels 0..255.
    config.data.mean = (127.5, 127.5, 127.5)
    config.data.std = (127.5, 127.5, 127.5)

    # Over all devices.
    config.batch_size = 128
    config.epochs = 200

    config.optimizer = _optimizer()
    config.optimizer.lr_milestones = (0.5, 0.75)

    # What some methods learn on the teacher alone, before the student starts; without
    # such a method there is no such phase.
    config.pretrain = ml_collections.ConfigDict()
    config.pretrain.epochs = 40
    config.pretrain.optimizer = _optimizer()
    # So many epochs of the distillation alone, before `epochs` of the task alone; 0 for
    # both together in `epochs`.
    config.distill_first = ml_collections.ConfigDict()
    config.distill_first.epochs = 0
    config.distill_first.optimizer = _optimizer()

    # Type of the computation; parameters, statistics and losses are float32 always.
    config.dtype = "float32"
    # Statistics of a batch "per_device" or "synchronized" over all devices.
    config.batch_norm = "per_device"

    config.log_every_steps = 100
    config.evaluate_every_epochs = 1

    config.checkpoint = ml_collections.ConfigDict()
    # Saved after every evaluation, and every so many steps between; 0 for never.
    config.checkpoint.every_steps = 0
    config.checkpoint.keep_last = 2
    config.checkpoint.keep_best = 1
    # Go on with a work directory that was started with another configuration.
    config.checkpoint.allow_config_change = False
    return config


def _optimizer() -> ml_collections.ConfigDict:
    """Returns the fields of an optimizer, at a constant rate."""
    config = ml_collections.ConfigDict()
    config.learning_rate = 0.1
    config.momentum = 0.9
    config.nesterov = True
    # Coupled, on every parameter.
    config.weight_decay = 5e-4
    # The learning rate is multiplied by lr_gamma at these fractions of the epochs.
    config.lr_milestones = ()
    config.lr_gamma = 0.1
    # Empty the momentum at each drop.
    config.reset_momentum = True
    return config


_CHOICES = {
    "teacher.batch_norm": ("batch", "running"),
    "data.bad_images": datasets.BAD_IMAGES,
    "data.pipeline": datasets.PIPELINES,
    "data.padding_mode": augment.PADDING_MODES,
    "data.crop": augment.CROPS,
    "dtype": ("float32", "bfloat16"),
    "batch_norm": ("per_device", "synchronized"),
}

#: Where optimizers are set, one for each phase of the training.
_OPTIMIZERS = ("pretrain.optimizer", "distill_first.optimizer", "optimizer")

#: Smallest value a number may have.
_AT_LEAST = {
    "data.image_size": 0,
    "data.workers": 0,
    "data.padding": 0,
    "data.mixup": 0,
    "batch_size": 1,
    "epochs": 1,
    "log_every_steps": 1,
    "evaluate_every_epochs": 1,
    "checkpoint.every_steps": 0,
    "checkpoint.keep_last": 1,
    "checkpoint.keep_best": 0,
    "pretrain.epochs": 1,
    "distill_first.epochs": 0,
    "task_weight": 0,
    **{
        f"{part}.{name}": 0
        for part in _OPTIMIZERS
        for name in ("learning_rate", "weight_decay")
    },
}

#: Where a number must lie.
_INTERVALS = {
    "data.train_fraction": ("(0, 1]", lambda value: 0 < value <= 1),
    "data.validation_fraction": ("[0, 1)", lambda value: 0 <= value < 1),
    "data.eval_crop": ("(0, 1]", lambda value: 0 < value <= 1),
    "data.random_erasing": ("[0, 1]", lambda value: 0 <= value <= 1),
}


def field(config: ml_collections.ConfigDict, path: str):
    """Returns the value of a field given as "optimizer.momentum"."""
    for name in path.split("."):
        config = config[name]
    return config


def check(config: ml_collections.ConfigDict) -> None:
    """Refuses what cannot work, before anything is read or written.

    Of the data set no more is read than how many classes and what images it has.

    Raises:
      ValueError: names the field, its value and what it may be.
      FileNotFoundError: if the data set is not prepared; names the command that
        prepares it.
    """
    for path, choices in _CHOICES.items():
        if field(config, path) not in choices:
            raise ValueError(f"{path}={field(config, path)!r} is none of {choices}")
    for path, least in _AT_LEAST.items():
        if not field(config, path) >= least:
            raise ValueError(f"{path}={field(config, path)} is less than {least}")
    for path, (interval, holds) in _INTERVALS.items():
        if not holds(field(config, path)):
            raise ValueError(f"{path}={field(config, path)} is not in {interval}")
    for path in ("data.mean", "data.std"):
        if len(field(config, path)) != 3:
            raise ValueError(
                f"{path}={field(config, path)} must have 3 values, one a color"
            )
    if not all(value > 0 for value in config.data.std):
        raise ValueError(f"data.std={config.data.std} must be positive")
    for part in _OPTIMIZERS:
        lr_milestones = field(config, part).lr_milestones
        if not all(0 <= value < 1 for value in lr_milestones):
            raise ValueError(
                f"{part}.lr_milestones={lr_milestones} must be fractions in [0, 1)"
            )
    description = datasets.describe(config.data)
    datasets.check_pipeline(config.data, description)
    classes = description.num_classes
    _check_network("model", config.model, classes)
    # How many examples there are is not known before they are loaded, nor does it
    # decide whether a method can be used.
    methods = distill.build(config.methods, num_classes=classes, num_examples=50_000)
    labeled = sorted(name for name, m in methods.items() if m.needs_label)
    if config.data.mixup and labeled:
        raise ValueError(
            f"data.mixup={config.data.mixup} mixes images of two classes, but "
            f"methods={labeled} need the one class of each"
        )
    if config.distill_first.epochs and not config.methods:
        raise ValueError(
            f"distill_first.epochs={config.distill_first.epochs} but there are no "
            "methods"
        )
    needs_teacher = any(method.needs_teacher for method in methods.values())
    if needs_teacher:
        _check_network("teacher.model", config.teacher.model, classes)
        if not config.teacher.checkpoint:
            raise ValueError(
                f"teacher.checkpoint='' but methods={sorted(config.methods)} need a "
                "trained teacher: name the work directory of its training"
            )
    compatibility.check(
        methods,
        teacher=config.teacher.model if needs_teacher else None,
        student=config.model,
        num_classes=classes,
        image_shape=description.image_shape,
    )


def _check_network(path: str, name: str, num_classes: int) -> None:
    try:
        models.build(name, num_classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
