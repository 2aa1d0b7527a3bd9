"""Builds data, networks, methods and the teacher from a config."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from kdjax import distill, initial_weights, networks
from kdjax import step as step_lib
from kdjax import teacher as teacher_lib
from kdjax.config.keywords import keywords
from kdjax.data import datasets, pipeline
from kdjax.data.normalization import Normalization
from kdjax.data.pipeline.batches import EvalBatches, TrainBatches
from kdjax.data.split import Description, LazySplit, Split
from kdjax.distill import Method, Outputs, declared, shapes
from kdjax.evaluate import Evaluator
from kdjax.runs import console
from kdjax.teacher import LoadedTeacher


class Data(NamedTuple):
    """The splits of a data set, and the batches of those that training uses.

    Attributes:
      num_classes: number of labels, K.
      class_names: in the order of the labels.
      train: the training split.
      train_batches: shuffled and augmented batches of it.
      eval_name: name of the split that is evaluated on during training: "validation" if
        a part of the training images was held out, else "test".
      eval_batches: of that split.
      test: the test split.
      num_images: by the name of the split.
      skipped: by the name of the split, files left out because they cannot be decoded.
    """

    num_classes: int
    class_names: tuple[str, ...]
    train: Split | LazySplit
    train_batches: TrainBatches
    eval_name: str
    eval_batches: EvalBatches
    test: Split | LazySplit
    num_images: dict[str, int]
    skipped: Mapping[str, int]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Returns [H, W, 3]."""
        return self.train_batches.image_shape


class Experiment(NamedTuple):
    """Everything of a run that does not change while it trains.

    Attributes:
      config: of the run.
      data: splits and batches.
      student: the network that is trained, with or without a teacher.
      methods: terms of the distillation loss, by name.
      teacher: the trained network that the methods use; None if none needs one.
      precomputed: what each method computed from the teacher, by name.
      initial_weights: loaded variables that the student starts from; None if it starts
        from random ones.
    """

    config: ml_collections.ConfigDict
    data: Data
    student: nn.Module
    methods: Mapping[str, Method]
    teacher: LoadedTeacher | None
    precomputed: Mapping[str, Any]
    initial_weights: dict[str, Any] | None


def device_mesh() -> Mesh:
    """Returns all devices as a mesh with one axis."""
    return Mesh(np.asarray(jax.devices()), (step_lib.DEVICES,))


def load_data(
    config: ml_collections.ConfigDict, description: Description | None = None
) -> Data:
    """Loads the splits and puts training and evaluation data where they are used.

    Args:
      config: of the run.
      description: of the data set, if it is known.

    Raises:
      ValueError: if the splits cannot be cut into batches as the config asks.
      FileNotFoundError: if the data set is not prepared.
    """
    loaded = datasets.load(config.data, description)
    splits = {
        "train": loaded.train,
        "validation": loaded.validation,
        "test": loaded.test,
    }
    eval_name = "test" if loaded.validation is None else "validation"
    return Data(
        num_classes=loaded.description.num_classes,
        class_names=loaded.description.class_names,
        train=loaded.train,
        train_batches=pipeline.train_batches(
            loaded.train,
            config.data,
            seed=order_seed(config),
            batch_size=config.batch_size,
            mesh=device_mesh(),
            second_view=needs_second_view(config),
        ),
        eval_name=eval_name,
        eval_batches=eval_batches(config, splits[eval_name]),
        test=loaded.test,
        num_images={
            name: split.num_examples
            for name, split in splits.items()
            if split is not None
        },
        skipped=loaded.skipped,
    )


def order_seed(config: ml_collections.ConfigDict) -> int:
    """Returns the seed of the order of the images and their augmentation."""
    return config.seed if config.data.seed < 0 else config.data.seed


def needs_second_view(config: ml_collections.ConfigDict) -> bool:
    """Tells whether a method asks for a second view of each training image."""
    methods = distill.build(config.methods).values()
    return any(method.needs_second_view for method in methods)


def eval_batches(
    config: ml_collections.ConfigDict, split: Split | LazySplit
) -> EvalBatches:
    """Returns the batches of a split to evaluate on."""
    return pipeline.eval_batches(
        split, config.data, batch_size=config.batch_size, mesh=device_mesh()
    )


def build_student(config: ml_collections.ConfigDict, data: Data) -> nn.Module:
    """Builds the network that is trained."""
    return networks.student(
        config,
        data.num_classes,
        data.image_shape,
        rates=keywords("model_kwargs", config.model_kwargs),
        dtype=jnp.dtype(config.dtype),
        axis_name=_batch_norm_axis(config),
    )


def load_initial_weights(
    config: ml_collections.ConfigDict, data: Data, student: nn.Module
) -> dict[str, Any] | None:
    """Loads the weights that the student starts from; None for random ones.

    Raises:
      ValueError: if `init.checkpoint` holds none that fit.
    """
    return initial_weights.load(config, student, data.num_classes, data.image_shape)


def build_methods(config: ml_collections.ConfigDict, data: Data) -> dict[str, Method]:
    """Builds the terms of the distillation loss, by name."""
    return distill.build(
        config.methods,
        dtype=jnp.dtype(config.dtype),
        batch_norm_axis=_batch_norm_axis(config),
        data_axis=step_lib.DEVICES,
        num_classes=data.num_classes,
        num_examples=data.train.num_examples,
    )


def load_teacher(
    config: ml_collections.ConfigDict, data: Data, methods: Mapping[str, Method]
) -> LoadedTeacher | None:
    """Loads the teacher, evaluates it and rejects one at chance level.

    One for other classes has no accuracy on these and is not evaluated.

    Returns:
      The teacher with its variables on the devices, or None if no method needs one.

    Raises:
      ValueError: if the directory holds no such trained network, or its accuracy is no
        better than chance.
    """
    if not any(method.needs_teacher for method in methods.values()):
        return None
    teacher = teacher_lib.load(
        config.teacher,
        data.num_classes,
        data.image_shape,
        normalization=Normalization(tuple(config.data.mean), tuple(config.data.std)),
        class_names=data.class_names,
        dtype=jnp.dtype(config.dtype),
        axis_name=_batch_norm_axis(config),
    )
    # Once, instead of with every batch.
    variables = jax.device_put(teacher.variables, step_lib.replicated(jax.devices()))
    teacher = teacher._replace(variables=variables)
    if config.teacher.classes == "other":
        console.say(
            "teacher.classes='other': the teacher's accuracy is not measured, and its "
            "logits are not used"
        )
        return teacher
    evaluate = Evaluator(teacher.network, data.eval_batches, jax.devices())
    with console.progress("evaluating the teacher"):
        teacher = teacher._replace(evaluation=evaluate(variables))
    teacher_lib.check_above_chance(teacher.evaluation, data.eval_name)
    return teacher


def precompute(
    config: ml_collections.ConfigDict,
    data: Data,
    teacher: LoadedTeacher | None,
    methods: Mapping[str, Method],
    *,
    images: Split | LazySplit | None = None,
) -> dict[str, Any]:
    """Computes what each method needs of the teacher and keeps fixed, by name.

    Args:
      config: of the run.
      data: of the run; methods may read all its training labels.
      teacher: the trained network, or None.
      methods: by name.
      images: to measure the teacher's responses on; None for all training images.
    """
    if teacher is None:
        return {name: {} for name in methods}

    def outputs(name: str) -> Iterator[Outputs]:
        for found in teacher_lib.outputs_on(
            teacher,
            data.train if images is None else images,
            config.data,
            batch_size=config.batch_size,
            train=config.teacher.batch_norm == "batch",
        ):
            yield declared.outputs(methods[name], name, found)

    return {
        name: method.precompute(
            distill.Teacher(
                name=config.teacher.model,
                variables=teacher.variables,
                outputs=functools.partial(outputs, name),
                label=lambda: data.train.label,
            )
        )
        for name, method in methods.items()
    }


def with_config(
    experiment: Experiment,
    config: ml_collections.ConfigDict,
    *,
    images: Split | LazySplit | None = None,
) -> Experiment:
    """Returns an experiment with the same data and teacher, and another configuration.

    Args:
      experiment: that is built.
      config: of another of the runs of `kdjax.config.replicas`.
      images: as for `precompute`.
    """
    batches = experiment.data.train_batches.with_seed(order_seed(config))
    data = experiment.data._replace(train_batches=batches)
    same_methods = config.methods == experiment.config.methods
    experiment = experiment._replace(config=config, data=data)
    if same_methods:
        return experiment
    methods = build_methods(config, data)
    return experiment._replace(
        student=build_student(config, data),
        methods=methods,
        precomputed=precompute(
            config, data, experiment.teacher, methods, images=images
        ),
    )


def output_shapes(experiment: Experiment) -> tuple[Outputs, Outputs | None]:
    """Returns shapes and types of the student's and the teacher's outputs."""
    config, data = experiment.config, experiment.data
    of_data = data.num_classes, data.image_shape
    student = shapes.outputs(networks.student(config, *of_data), data.image_shape)
    if experiment.teacher is None:
        return student, None
    teacher = shapes.outputs(networks.teacher(config, *of_data), data.image_shape)
    if config.teacher.classes == "other":
        teacher = teacher._replace(logits=None)
    return student, teacher


def _batch_norm_axis(config: ml_collections.ConfigDict) -> str | None:
    return step_lib.DEVICES if config.batch_norm == "synchronized" else None
