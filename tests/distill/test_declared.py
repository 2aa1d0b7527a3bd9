"""A method that reads more than it declares is refused by name."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from kdjax import distill, models, objective
from kdjax.data.augment.mixup import Mixed
from kdjax.data.pipeline.batches import Batch
from kdjax.distill import compatibility

LABEL = jnp.asarray([0, 1, 2])
BATCH = Batch(jnp.ones((3, 2, 2, 3)), LABEL, jnp.ones(3), jnp.arange(3))
MIXED = BATCH._replace(mixed=Mixed(LABEL[::-1], jnp.full(3, 0.5)))


class Linear(nn.Module):
    """One layer and no features; its logits may be left out."""

    logits: bool = True

    @nn.compact
    def __call__(self, image, train):
        logits = nn.Dense(3, name="classifier")(image.reshape(len(image), -1))
        return logits if self.logits else None, None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reader(distill.Method):
    """Reads one field of one argument of one of its functions."""

    name = "reader"
    taxonomy = distill.Taxonomy(*[""] * 5)
    weight: float = 1.0
    where: str
    read: str

    def _answer(self, function, **arguments):
        wanted, argument = self.where.split(".")
        if function == wanted:
            assert jax.tree.leaves(getattr(arguments[argument], self.read))
        return {"one": jnp.ones(3)}, {}

    def init(self, key, student, teacher):
        self._answer("init", student=student, teacher=teacher)
        return {}

    def pretrain_init(self, key, teacher):
        self._answer("pretrain_init", teacher=teacher)
        return {}

    def pretrain_loss(self, variables, key, teacher):
        return self._answer("pretrain_loss", teacher=teacher)

    def loss(self, variables, precomputed, student, teacher, inputs):
        return self._answer("loss", student=student, teacher=teacher, inputs=inputs)


def trace(method, batch, *, pretrain):
    """Evaluates the objective of a phase abstractly; the teacher has no logits."""
    student, teacher = Linear(), Linear(logits=False)
    variables = student.init(jax.random.key(0), batch.image, train=True)
    methods = {"mine": method}
    if pretrain:
        loss = objective.pretraining_objective(teacher, methods, teacher_train=False)
    else:
        loss = objective.student_objective(
            student, teacher, methods, teacher_train=False
        )
    jax.eval_shape(
        loss,
        {"student": variables["params"], "methods": {"mine": {}}},
        {"student": {}, "methods": {"mine": {}}},
        objective.Frozen(variables, {"mine": {}}),
        batch,
        jax.random.key(0),
        0,
    )


@pytest.mark.parametrize(
    ("where", "read", "batch", "need"),
    [
        ("loss.teacher", "logits", BATCH, "needs_teacher_logits"),
        ("loss.teacher", "classifier", BATCH, "needs_classifier"),
        ("loss.student", "classifier", BATCH, "needs_classifier"),
        ("loss.student", "input_gradient", BATCH, "needs_input_gradient"),
        ("loss.student", "second_view", BATCH, "needs_second_view"),
        ("loss.teacher", "second_view", BATCH, "needs_second_view"),
        ("loss.inputs", "second_image", BATCH, "needs_second_view"),
        ("loss.student", "rotated", BATCH, "needs_rotations"),
        ("loss.teacher", "rotated", BATCH, "needs_rotations"),
        ("pretrain_loss.teacher", "rotated", BATCH, "needs_rotations"),
        ("loss.inputs", "label", MIXED, "needs_label"),
        ("pretrain_loss.teacher", "logits", BATCH, "needs_teacher_logits"),
    ],
)
def test_what_a_loss_reads_without_declaring_it_is_named(where, read, batch, need):
    method = Reader(where=where, read=read)
    kind = "Inputs" if where == "loss.inputs" else "Outputs"
    message = (
        rf"^methods\.mine reads {kind}\.{read}, which it is not given in this run: "
        rf"Reader lacks {need} = True(\n|$)"
    )
    pretrain = where.startswith("pretrain")
    with pytest.raises(ValueError, match=message):
        trace(method, batch, pretrain=pretrain)


@pytest.mark.parametrize(
    ("where", "read", "batch"),
    [
        ("loss.student", "logits", MIXED),
        ("loss.inputs", "label", BATCH),
        ("loss.inputs", "index", MIXED),
    ],
)
def test_what_every_method_is_given_needs_no_declaration(where, read, batch):
    trace(Reader(where=where, read=read), batch, pretrain=False)


def test_a_declaration_gives_what_it_names(monkeypatch):
    monkeypatch.setattr(Reader, "needs_classifier", True)
    for of in ("teacher", "student"):
        trace(Reader(where=f"loss.{of}", read="classifier"), BATCH, pretrain=False)


@pytest.mark.parametrize("where", ["init", "pretrain_init"])
def test_shapes_that_are_read_undeclared_are_named_when_the_config_is_checked(
    where, monkeypatch
):
    monkeypatch.setattr(Reader, "pretrains", where == "pretrain_init")
    network = compatibility.Named("resnet8", models.build("resnet8", 3))
    with pytest.raises(ValueError, match=r"methods\.mine reads Outputs\.logits, "):
        compatibility.check(
            {"mine": Reader(where=f"{where}.teacher", read="logits")},
            teacher=network,
            student=network,
            image_shape=(8, 8, 3),
            teacher_logits=False,
        )
