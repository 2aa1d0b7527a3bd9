"""What a configuration stands for: data, networks, methods and phases of training."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.sharding import Mesh

from kdjax import distill, models, objective, rngs
from kdjax import step as step_lib
from kdjax import teacher as teacher_lib
from kdjax.data import datasets, pipeline
from kdjax.data.normalization import Normalization
from kdjax.data.pipeline.batches import EvalBatches
from kdjax.data.split import LazySplit, Split
from kdjax.evaluate import Evaluation, Evaluator
from kdjax.objective import Frozen
from kdjax.phase import Phase, Start
from kdjax.train_state import TrainState


class Experiment:
    """Everything of a run that does not change while it trains.

    Attributes:
      config: as given.
      batches: of the training split.
      watched: name of the split that is evaluated on while training: "validation" if a
        part was set aside, and else "test".
      images: how many each split has, by its name.
      skipped: files left out of "train" and "test" because they could not be decoded.
      student: the network that is trained, with or without a teacher.
      teacher: the trained network and its variables; None without methods.
      teacher_metrics: of the teacher on the watched split; None without a teacher.
      methods: terms of the distillation loss by name.
      phases: of the training, in order: what methods learn on the teacher alone, if
        they do; the distillation alone, if it comes first; and the student's training.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        """Loads the data and the teacher, measures the teacher, builds the phases.

        Raises:
          ValueError: if something the configuration names does not fit.
          FileNotFoundError: if the data set is not prepared.
        """
        self.config = config
        self._devices = jax.devices()
        num_classes = datasets.describe(config.data).num_classes
        data = datasets.load(config.data)
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        self.images = {
            name: split.num_examples
            for name, split in splits.items()
            if split is not None
        }
        self.skipped = data.skipped
        size = {
            "batch_size": config.batch_size,
            "mesh": Mesh(np.asarray(self._devices), (step_lib.DEVICES,)),
        }
        self.batches = pipeline.train_batches(
            data.train, config.data, seed=config.seed, **size
        )
        self._whole = functools.partial(
            pipeline.eval_batches, config=config.data, **size
        )
        self._test = data.test
        if data.validation is None:
            self.watched, split = "test", self.test
        else:
            self.watched, split = "validation", self._whole(data.validation)

        synchronized = config.batch_norm == "synchronized"
        computation = {
            "dtype": jnp.dtype(config.dtype),
            "axis_name": step_lib.DEVICES if synchronized else None,
        }
        self.student = models.build(config.model, num_classes, **computation)
        self.methods = distill.build(
            config.methods,
            **computation,
            data_axis=step_lib.DEVICES,
            num_classes=num_classes,
            num_examples=data.train.num_examples,
        )
        self.teacher = self.teacher_metrics = None
        self._precomputed: dict[str, Any] = {}
        if any(method.needs_teacher for method in self.methods.values()):
            self.teacher = teacher_lib.load(
                config.teacher,
                num_classes,
                self._image.shape[1:],
                normalization=Normalization(
                    tuple(config.data.mean), tuple(config.data.std)
                ),
                **computation,
            )
        measured, self._evaluator = self._evaluators(split)
        if measured:
            self.teacher_metrics = measured.metrics
            teacher_lib.check_above_chance(
                measured.metrics["accuracy"],
                num_classes,
                split.num_examples,
                self.watched,
            )
            self._precomputed = self._read_off_teacher(data.train)
        self.phases = self._build_phases()

    @functools.cached_property
    def test(self) -> EvalBatches:
        """The whole test split, on the devices from its first use on."""
        whole, self._test = self._whole(self._test), None
        return whole

    def evaluate_at_end(self, state: TrainState) -> dict[str, dict[str, float]]:
        """Evaluates a run's final state on the test split, if another was watched.

        Returns:
          Metrics of "teacher_test", if there is a teacher, and of "test"; nothing if
          they are known.
        """
        if self.watched == "test":
            return {}
        teacher, evaluator = self._evaluators(self.test)
        found = {"teacher_test": teacher.metrics} if teacher else {}
        return found | {"test": evaluator(_student(state)).metrics}

    @property
    def parameters(self) -> dict[str, Any]:
        """Counts the parameters of student, teacher and what each method learns.

        `method` is learned together with the student, `pretrained` on the teacher
        alone.
        """

        def count(tree: Any) -> int:
            return sum(leaf.size for leaf in jax.tree.leaves(tree))

        def learned(names: set[str]) -> dict[str, int]:
            counts = dict.fromkeys(self.methods, 0)
            for phase in self.phases:
                if phase.name in names:
                    for name, tree in phase.abstract.params["methods"].items():
                        counts[name] += count(tree)
            return counts

        return {
            "student": count(self.phases[-1].abstract.params["student"]),
            "teacher": count(self.teacher.variables["params"])
            if self.teacher
            else None,
            "method": learned({"distill_first", "train"}),
            "pretrained": learned({"pretrain"}),
        }

    @property
    def _teacher_train(self) -> bool:
        return self.config.teacher.batch_norm == "batch"

    def _read_off_teacher(self, train: Split | LazySplit) -> dict[str, Any]:
        """Lets every method read off the teacher what stays fixed."""
        teacher = distill.Teacher(
            name=self.config.teacher.model,
            variables=self.teacher.variables,
            outputs=lambda: teacher_lib.outputs_on(
                self.teacher,
                train,
                self.config.data,
                batch_size=self.config.batch_size,
                train=self._teacher_train,
            ),
            label=lambda: train.label,
        )
        return {name: m.precompute(teacher) for name, m in self.methods.items()}

    def _build_phases(self) -> tuple[Phase, ...]:
        """Builds the phases; each starts from the final state of the one before."""
        config, phases = self.config, []

        def add(name, objective, start, **settings):
            settings = {
                "optimizer": config.optimizer,
                "epochs": config.epochs,
            } | settings
            before = phases[-1] if phases else None
            phases.append(
                Phase(
                    name,
                    config,
                    objective=objective,
                    start=start,
                    before=before,
                    devices=self._devices,
                    **settings,
                )
            )

        pretraining = {name: m for name, m in self.methods.items() if m.pretrains}
        teacher_train = {"teacher_train": self._teacher_train}
        if pretraining:
            add(
                "pretrain",
                objective.pretraining_objective(
                    self.teacher.network, pretraining, **teacher_train
                ),
                self._start_pretraining,
                optimizer=config.pretrain.optimizer,
                epochs=config.pretrain.epochs,
                batches=self.batches.with_stream("pretrain"),
            )
        network = self.teacher and self.teacher.network
        start, taught = self._start_student, self.methods
        if self.methods and config.distill_first.epochs:
            add(
                "distill_first",
                objective.student_objective(
                    self.student, network, self.methods, task_weight=0, **teacher_train
                ),
                start,
                optimizer=config.distill_first.optimizer,
                epochs=config.distill_first.epochs,
                batches=self.batches.with_stream("distill_first"),
                skip_params_without_gradient=True,
            )
            start, taught = self._start_task, {}
        add(
            "train",
            objective.student_objective(
                self.student,
                network,
                taught,
                task_weight=config.task_weight,
                **teacher_train,
            ),
            start,
            optimizer=config.optimizer,
            epochs=config.epochs,
            batches=self.batches,
            evaluate=self._evaluate,
        )
        return tuple(phases)

    def _evaluate(self, state: TrainState) -> dict[str, float]:
        return self._evaluator(_student(state)).metrics

    def _evaluators(self, split: EvalBatches) -> tuple[Evaluation | None, Evaluator]:
        """Evaluates the teacher, if there is one; returns what evaluates students."""
        measured = None
        if self.teacher:
            evaluator = Evaluator(self.teacher.network, split, self._devices)
            measured = evaluator(self.teacher.variables)
        return measured, Evaluator(
            self.student,
            split,
            self._devices,
            teacher_prediction=measured and measured.prediction,
        )

    def _start_pretraining(self, before: None) -> Start:
        _, teacher = self._output_shapes()
        learned = {}
        for name, method in self.methods.items():
            if method.pretrains:
                init = jax.jit(lambda key, m=method: m.pretrain_init(key, teacher))
                key = rngs.key(self.config.seed, f"pretrain/{name}")
                learned[name] = init(key)
        return Start(None, learned, Frozen(self.teacher.variables))

    def _start_student(self, pretrained: TrainState | None) -> Start:
        seed = self.config.seed
        init = jax.jit(lambda key: self.student.init(key, self._image, train=False))
        student = init(rngs.key(seed, "student"))
        if not self.methods:
            return Start(student, {}, Frozen())
        shapes = self._output_shapes()
        learned, precomputed = {}, {}
        for name, method in self.methods.items():
            init = jax.jit(lambda key, m=method: m.init(key, *shapes))
            learned[name] = init(rngs.key(seed, f"methods/{name}"))
            precomputed[name] = self._precomputed.get(name, {})
            if method.pretrains:
                precomputed[name] = precomputed[name] | {
                    "pretrained": {
                        "params": pretrained.params["methods"][name],
                        "batch_stats": pretrained.batch_stats["methods"][name],
                    }
                }
        variables = self.teacher and self.teacher.variables
        return Start(student, learned, Frozen(variables, precomputed))

    def _start_task(self, initialized: TrainState) -> Start:
        return Start(_student(initialized), {}, Frozen())

    @property
    def _image(self) -> jax.Array:
        return jnp.zeros((1, *self.batches.image_shape))

    def _output_shapes(self) -> tuple[distill.Outputs, distill.Outputs]:
        """Returns shapes and types of the student's and the teacher's outputs."""

        def shapes(network, variables=None):
            if variables is None:
                variables = jax.eval_shape(
                    lambda: network.init(jax.random.key(0), self._image, train=False)
                )
            outputs, _ = jax.eval_shape(
                lambda v: objective.forward(network, v, self._image, train=False),
                variables,
            )
            return outputs

        teacher = self.teacher and shapes(self.teacher.network, self.teacher.variables)
        return shapes(self.student), teacher


def _student(state: TrainState) -> dict[str, Any]:
    """Returns the variables of the student."""
    return {
        "params": state.params["student"],
        "batch_stats": state.batch_stats["student"],
    }
