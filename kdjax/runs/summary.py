"""Describes a run before it starts."""

import math
import pathlib
import textwrap
from collections.abc import Iterator

import flax.linen as nn
import jax
import ml_collections

from kdjax import distill, models, networks
from kdjax.cli.command_line import escaped
from kdjax.config import checks, replicas
from kdjax.data import datasets, pipeline_choice, sampling
from kdjax.data.split import Description
from kdjax.runs import console, trained, workdirs


def announce(
    config: ml_collections.ConfigDict, data: Description, workdir: pathlib.Path
) -> None:
    """Prints what a run is about to do; `describe` says more."""
    console.say(f"kdjax: {workdir}")
    for paragraph in describe(config, data):
        for line in paragraph.splitlines():
            console.say(line)


def dry_run(config: ml_collections.ConfigDict, workdir: pathlib.Path | None) -> str:
    """Checks a configuration and a work directory; returns all fields and `describe`.

    Raises:
      ValueError: if the run could not start.
      FileNotFoundError: if the data set is not prepared.
    """
    data = checks.check(config, jax.device_count())
    trained.check_present(config)
    datasets.fingerprint(config.data, data)  # Also tells whether the data set is there.
    if workdir is not None:
        if replicas.are_asked_for(config):
            workdirs.check_no_run(workdir)
        for name, run_config in replicas.split(config).items():
            trained.refuse_imported(workdir / name)
            workdirs.check_config(workdir / name, run_config)
    fields = workdirs.flatten(config.to_dict())
    lines = [f"{name} = {value!r}" for name, value in sorted(fields.items())]
    described = describe(config, data)
    return "\n".join([*lines, "", "Checked; nothing was written:", *described])


def describe(config: ml_collections.ConfigDict, data: Description) -> Iterator[str]:
    """Yields lines that say what a configuration trains, on what, and for how long.

    Args:
      config: one that `config.check` accepts. Data and teacher are not read.
      data: as `config.check` returns it.
    """
    height, width, _ = data.image_shape
    pipeline = pipeline_choice.choose(config.data, data).replace("_", " ")
    parts = {
        "train_fraction": "{:.3g}% of the training images",
        "validation_fraction": "{:.3g}% of them held out for validation",
    }
    defaults = {"train_fraction": 1.0, "validation_fraction": 0.0}
    yield _line(
        "data",
        f"{config.data.name}: {data.num_images:,} images of {width}x{height}",
        f"{data.num_classes} classes",
        *(
            text.format(100 * config.data[name])
            for name, text in parts.items()
            if config.data[name] != defaults[name]
        ),
        *filter(None, [sampling.describe(config.data)]),
        pipeline,
    )
    devices = jax.devices()
    yield _line(
        "devices",
        f"{len(devices)} x {devices[0].device_kind}",
        f"batches of {config.batch_size} images",
        config.dtype,
    )
    methods = distill.build(
        config.methods, num_classes=data.num_classes, num_examples=data.num_images
    )
    if replicas.are_asked_for(config):
        yield _line("runs", *replicas.split(config))
    yield _line("phases", *_phases(config, methods))
    start = config.init.checkpoint and f"from {config.init.checkpoint}"
    label = "student" if methods else "network"
    given = config, data.num_classes, data.image_shape
    student = _network(config.model, networks.student(*given), data)
    heads = [f"with the head of {name}" for name in networks.bringing_heads(config)]
    yield _line(label, *student, *heads, *([start] if start else []))
    if any(method.needs_teacher for method in methods.values()):
        teacher = _network(
            config.teacher.model,
            networks.teacher(*given),
            data,
            other_classes=config.teacher.classes == "other",
        )
        yield _line("teacher", *teacher, f"from {config.teacher.checkpoint}")
    if methods:
        yield _line("methods", *methods)


def _phases(
    config: ml_collections.ConfigDict, methods: dict[str, distill.Method]
) -> list[str]:
    epochs = {}
    if any(method.pretrains for method in methods.values()):
        epochs["pretrain"] = config.pretrain.epochs
    if config.distill_first.epochs:
        epochs["distill_first"] = config.distill_first.epochs
    epochs["train"] = config.epochs
    return [
        f"{name} {count} epoch{'s' * (count != 1)}" for name, count in epochs.items()
    ]


def _network(
    name: str, network: nn.Module, data: Description, *, other_classes: bool = False
) -> tuple[str, ...]:
    """Returns a network's name, its number of trained parameters, and a caution.

    A network for large images shrinks small ones to nothing. That of other classes has
    a last layer of unknown size, which is left out.
    """
    image = jax.ShapeDtypeStruct((1, *data.image_shape), "float32")
    variables = jax.eval_shape(
        lambda x: network.init(jax.random.key(0), x, train=False), image
    )
    params = dict(variables["params"])
    for layer in trained.LAST_LAYERS if other_classes else ():
        params.pop(layer, None)
    count = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
    described = name, f"{count:,} parameters{' but for the last layer' * other_classes}"
    size = models.image_size(name)
    if min(data.image_shape[:2]) <= size // 2 and "@" in name:
        return *described, f"made for images of {size}x{size}"
    return described


def _line(label: str, *parts: str) -> str:
    label = f"  {label:<9}"
    return textwrap.fill(
        ", ".join(map(escaped, parts)),
        80,
        initial_indent=label,
        subsequent_indent=" " * len(label),
    )
