"""An experiment with the shapes of the real one, and neither its data nor its teacher.

What a training step compiles to depends on shapes alone: the images are blank, and the
teacher has random weights.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from kdjax import networks, rngs, setup
from kdjax import step as step_lib
from kdjax.compile.targets import Target
from kdjax.config import replicas
from kdjax.data import datasets, pipeline, pipeline_choice, subsets
from kdjax.data.pipeline.batches import TrainBatches
from kdjax.data.split import ArraySource, Description, LazySplit, Split
from kdjax.distill import Method
from kdjax.setup import Data, Experiment
from kdjax.teacher import LoadedTeacher


def build(
    config: ml_collections.ConfigDict, target: Target, devices: Sequence[jax.Device]
) -> list[Experiment]:
    """Builds the experiments of a configuration's runs, mostly one.

    The devices that they are for need not be there.

    Raises:
      ValueError: if what the config names does not fit together, or the batch size
        does not fit the devices.
      FileNotFoundError: if the shapes of the data set are known once it is prepared.
    """
    first, *others = replicas.split(config).values()
    data = _blank_data(first, target, devices)
    student = setup.build_student(first, data)
    methods = setup.build_methods(first, data)
    teacher = _random_teacher(first, data, methods)
    few = data.train.select(np.arange(2))
    precomputed = setup.precompute(first, data, teacher, methods, images=few)
    experiment = Experiment(first, data, student, methods, teacher, precomputed, None)
    return [
        experiment,
        *(setup.with_config(experiment, other, images=few) for other in others),
    ]


def _blank_data(
    config: ml_collections.ConfigDict, target: Target, devices: Sequence[jax.Device]
) -> Data:
    """Returns blank images: as many as training has, of their shape."""
    description = datasets.describe(config.data)
    train, held_out = _split(config.data, description)
    memory = target.memory * target.usable
    if pipeline_choice.choose(config.data, description, memory) == "in_memory":
        train = _blank(train.num_examples, description)
    return Data(
        num_classes=description.num_classes,
        class_names=description.class_names,
        train=train,
        train_batches=_batches(config, train, config.batch_size, devices),
        # No evaluation is compiled.
        eval_name="validation" if held_out else "test",
        eval_batches=None,
        test=None,
        num_images={"train": train.num_examples},
        skipped={},
    )


def batches(
    experiment: Experiment, batch_size: int, devices: Sequence[jax.Device]
) -> TrainBatches:
    """Returns batches of another size, for other devices.

    All have the full size, whatever is left of the images.
    """
    config = experiment.config.copy_and_resolve_references()
    config.data.drop_remainder = True
    return _batches(config, experiment.data.train, batch_size, devices)


def _batches(
    config: ml_collections.ConfigDict,
    train: Split | LazySplit,
    batch_size: int,
    devices: Sequence[jax.Device],
) -> TrainBatches:
    mesh = Mesh(np.asarray(devices), (step_lib.DEVICES,))
    return pipeline.train_batches(
        train,
        config.data,
        seed=setup.order_seed(config),
        batch_size=batch_size,
        mesh=mesh,
        second_view=setup.needs_second_view(config),
    )


def _split(
    config: ml_collections.ConfigDict, description: Description
) -> tuple[LazySplit, LazySplit | None]:
    """Returns the training split that the config leaves, and what it holds out."""
    count, names = description.num_train_images, description.class_names
    source = ArraySource(_blank(count, description))
    train = LazySplit(source, range(count), description.image_shape)
    train, _ = subsets.hold_out(train, config.test_fraction, names, "test_fraction")
    train = subsets.stratified(train, config.train_fraction, names)
    return subsets.hold_out(train, config.validation_fraction, names)


def _blank(count: int, description: Description) -> Split:
    """Returns black images that take no memory, of each class in turn."""
    image = np.broadcast_to(np.uint8(0), (count, *description.image_shape))
    return Split(image, np.arange(count, dtype=np.int32) % description.num_classes)


def _random_teacher(
    config: ml_collections.ConfigDict, data: Data, methods: Mapping[str, Method]
) -> LoadedTeacher | None:
    """Returns a teacher with random weights; None if no method needs one."""
    if not any(method.needs_teacher for method in methods.values()):
        return None

    def network(axis_name: str | None):
        return networks.teacher(
            config,
            data.num_classes,
            data.image_shape,
            dtype=jnp.dtype(config.dtype),
            axis_name=axis_name,
        )

    synchronized = config.batch_norm == "synchronized"
    local = network(None)
    image = jnp.zeros((1, *data.image_shape))
    init = jax.jit(lambda key: local.init(key, image, train=False))
    variables = init(rngs.key(config.seed, "teacher"))
    return LoadedTeacher(
        network(step_lib.DEVICES if synchronized else None), local, variables
    )
