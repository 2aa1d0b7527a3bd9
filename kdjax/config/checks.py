"""What is checked of a configuration before anything runs."""

import difflib
from collections.abc import Mapping
from typing import Any

import ml_collections

from kdjax import distill, models, networks, optim
from kdjax.config import batch_size, replicas
from kdjax.config.field import Field, shown
from kdjax.config.fields import FIELDS
from kdjax.config.keywords import keywords
from kdjax.data import datasets, pipeline_choice, sampling
from kdjax.data.split import Description
from kdjax.distill import Method, compatibility, gradients


def check(config: ml_collections.ConfigDict, devices: int | None = None) -> Description:
    """Rejects a training that cannot work, before anything is read or written.

    Nothing is read of the data set but its number of classes and images and their size.

    Args:
      config: of the training.
      devices: number of devices that share each batch; None if it is not known.

    Returns:
      The description of the data set.

    Raises:
      ValueError: names the field, its value and what it may be.
      FileNotFoundError: if the data set is not prepared; names the command that
        prepares it.
    """
    check_values(config)
    runs = list(replicas.split(config).values())
    # Seeds differ in nothing that is checked.
    for run in runs if config.replicas_over else runs[:1]:
        description, methods = _check_network_and_methods(run)
        sampling.check(run.data, description.num_classes)
        _check_images(run, description)
        batch_size.check(run, description, methods, devices)
    return description


def check_network(config: ml_collections.ConfigDict) -> Description:
    """Rejects what cannot work although nothing is trained; raises as `check`.

    Returns:
      The description of the data set.
    """
    return _check_network_and_methods(config)[0]


def _check_network_and_methods(
    config: ml_collections.ConfigDict,
) -> tuple[Description, Mapping[str, Method]]:
    check_values(config)
    description = datasets.describe(config.data)
    pipeline_choice.check(config.data, description)
    return description, _check_methods(config, description)


def check_values(config: ml_collections.ConfigDict) -> None:
    """Rejects fields whose values are impossible whatever the data and the networks.

    Raises:
      ValueError: names the field, its value and what it may be.
    """
    values = _flatten({k: v for k, v in config.items() if k != "methods"})
    for path in values.keys() - FIELDS.keys():
        close = difflib.get_close_matches(path, FIELDS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{path}: the configuration has no such field{hint}")
    for path, entry in FIELDS.items():
        if path not in values:
            raise ValueError(f"{path}: the configuration lacks this field")
        if problem := entry.problem(values[path]):
            raise ValueError(f"{path}={shown(values[path])} {problem}")
    _check_units(config)
    if config.early_stop_epochs and not config.data.validation_fraction:
        raise ValueError(
            f"early_stop_epochs={config.early_stop_epochs} but data.validation_fraction"
            "=0: there is no validation part to decide by"
        )
    optim.check(config.optimizer, config.epochs)
    if config.distill_first.epochs and not config.methods:
        raise ValueError(
            f"distill_first.epochs={config.distill_first.epochs} but there are no "
            "methods"
        )
    if config.task_weight == 0 and (not config.methods or config.distill_first.epochs):
        alone = "there are no methods"
        if config.methods:
            alone = (
                f"distill_first.epochs={config.distill_first.epochs} leaves the task "
                "alone"
            )
        raise ValueError(f"task_weight=0 but {alone}: nothing would be learned")


def _check_units(config: ml_collections.ConfigDict) -> None:
    """Rejects a normalization in units of pixels from 0 to 1."""
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    if min(std) < 1:
        raise ValueError(
            f"data.mean={mean} and data.std={std} are in units of 0..1, and pixels are "
            "0..255: multiply both by 255"
        )


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _check_images(config: ml_collections.ConfigDict, description: Description) -> None:
    """Rejects an augmentation or a batch that the images are too small or few for."""
    height, width, _ = description.image_shape
    if config.data.padding >= min(height, width):
        raise ValueError(
            f"data.padding={config.data.padding} is not less than the images' size of "
            f"{height}x{width} pixels"
        )
    if (hue := config.data.color_jitter[3]) > 0.5:
        raise ValueError(
            f"data.color_jitter={tuple(config.data.color_jitter)} turns the hue by "
            f"{hue}, more than half of the circle, 0.5"
        )
    if config.batch_size > description.num_images:
        raise ValueError(
            f"batch_size={config.batch_size} is more than the "
            f"{description.num_images} images of data.name={config.data.name!r}"
        )


def _check_methods(
    config: ml_collections.ConfigDict, description: Description
) -> Mapping[str, Method]:
    """Rejects networks that there are not, and methods that cannot join them.

    Returns:
      The methods, by name.
    """
    classes = description.num_classes
    _check_network("model", config.model, classes)
    _check_rates(config)
    # How many examples there are is only known once they are loaded, and decides
    # nothing here.
    methods = distill.build(config.methods, num_classes=classes, num_examples=50_000)
    labeled = sorted(name for name, m in methods.items() if m.needs_label)
    for field in ("mixup", "cutmix"):
        if (alpha := config.data[field]) and labeled:
            raise ValueError(
                f"data.{field}={alpha} mixes images of two classes, but "
                f"methods={labeled} need the one class of each"
            )
    two = sorted(name for name, m in methods.items() if m.needs_second_view)
    for field in ("mixup", "cutmix"):
        if (alpha := config.data[field]) and two:
            raise ValueError(
                f"data.{field}={alpha} mixes the first view of an image alone, but "
                f"methods={two} compare it with a second one"
            )
    turned = sorted(name for name, m in methods.items() if m.needs_rotations)
    if two and turned:
        raise ValueError(
            f"methods={turned} turn the first view of an image alone, but "
            f"methods={two} compare it with a second one: train by one of them"
        )
    needs_teacher = any(method.needs_teacher for method in methods.values())
    _check_logits(config, methods)
    _check_momenta(config, methods)
    if needs_teacher:
        _check_network("teacher.model", config.teacher.model, classes)
        if not config.teacher.checkpoint:
            raise ValueError(
                f"teacher.checkpoint='' but methods={sorted(config.methods)} need a "
                "trained teacher: name the work directory of its training"
            )
    shape, teacher = description.image_shape, None
    if needs_teacher:
        network = networks.teacher(config, classes, shape)
        teacher = compatibility.Named(config.teacher.model, network)
    compatibility.check(
        methods,
        teacher=teacher,
        student=compatibility.Named(config.model, models.build(config.model, classes)),
        image_shape=shape,
        teacher_logits=config.teacher.classes != "other",
    )
    return methods


def _check_logits(
    config: ml_collections.ConfigDict, methods: Mapping[str, Method]
) -> None:
    """Rejects methods that compare logits or classifiers of other classes."""
    reading = sorted(
        name
        for name, method in methods.items()
        if method.needs_teacher_logits
        or method.needs_input_gradient
        or method.needs_classifier
        or method.takes_from_teacher
    )
    if config.teacher.classes == "other" and reading:
        raise ValueError(
            f"teacher.classes='other' leaves the teacher's logits out, but methods="
            f"{reading} read them: train the teacher on the data set first, with "
            "init.classifier='new', or use methods of features alone"
        )


def _check_momenta(
    config: ml_collections.ConfigDict, methods: Mapping[str, distill.Method]
) -> None:
    """Rejects several momenta that the optimizer lacks, or that are not in [0, 1)."""
    optimizer = config.optimizer
    deltas = gradients.deltas(methods, optimizer.momentum_delta)
    if not deltas or not config.task_weight:
        return
    asking = [
        name
        for name, method in methods.items()
        if gradients.RULES[method.gradient_combination] is None
    ]
    if optimizer.name != "sgd":
        raise ValueError(
            f"optimizer.name={shown(optimizer.name)} has no momentum for each of "
            f"several gradients, which methods={asking} ask for: 'sgd' has"
        )
    for name, delta in deltas.items():
        if not 0 <= optimizer.momentum + delta < 1:
            raise ValueError(
                f"optimizer.momentum={optimizer.momentum} {'+' if delta > 0 else '-'} "
                f"{abs(delta)}, the momentum that methods={asking} ask for the "
                f"gradient {name!r}, is not in [0, 1)"
            )


def _check_rates(config: ml_collections.ConfigDict) -> None:
    """Rejects rates that the network does not have, or that are none."""
    known = models.rates(config.model)
    for name, rate in keywords("model_kwargs", config.model_kwargs).items():
        if name not in known:
            raise ValueError(
                f"model_kwargs={shown(config.model_kwargs)}: model={config.model!r} "
                f"has no {name!r}, but {list(known)}"
            )
        if problem := Field(default=0.0, least=0, below=1, doc="").problem(rate):
            raise ValueError(
                f"model_kwargs={shown(config.model_kwargs)}: {name} {problem}"
            )


def _check_network(path: str, name: str, num_classes: int) -> None:
    try:
        models.build(name, num_classes)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
