"""The questions that the papers answer by experiments, as data.

`experiments.ablations` runs them. A new one is a new entry of `ABLATIONS`.
"""

import types
from collections.abc import Mapping
from typing import Any, NamedTuple

Fields = Mapping[str, Any]
_NONE: Fields = types.MappingProxyType({})

#: The student trained alone, which every question has beside its own settings.
ALONE = "none"


class Setting(NamedTuple):
    """One way to train the student.

    Attributes:
      label: in the table.
      method: as `experiments.compare` takes it; `ALONE` for no method.
      fields: of the configuration, by their dotted names, that differ from the
        method's own.
      quick: the fields that differ in the quick form in addition; None if it leaves
        the setting out.
      variant: of the published figure in published.csv; None if there is none.
    """

    label: str
    method: str
    fields: Fields = _NONE
    quick: Fields | None = _NONE
    variant: str | None = None


class Ablation(NamedTuple):
    """A question and the settings that answer it.

    Attributes:
      question: in one line.
      source: where the paper or its authors' code asks it.
      pair: "teacher-student" of the real form, on CIFAR-100.
      recipe: of all runs of the real form.
      settings: those of the method; the student alone is added where it is missing.
      default: label of the setting that the others are compared with; None for none.
    """

    question: str
    source: str
    pair: str
    recipe: str
    settings: tuple[Setting, ...]
    default: str | None = None


class Form(NamedTuple):
    """How large the runs are.

    Attributes:
      data: data set.
      pair: in place of the question's; None for that.
      uses_recipe: whether all runs share the question's recipe; else each has that of
        its method, and the data set sets the schedule.
      fields: of the configuration, for every run.
    """

    data: str
    pair: str | None
    uses_recipe: bool
    fields: Fields = _NONE


REAL = Form("cifar100", None, uses_recipe=True)

#: 96 of the digits and small networks: a run takes less than a minute of two CPU cores.
QUICK = Form(
    "digits",
    "wrn_10_2-wrn_10_1",
    uses_recipe=False,
    fields={
        "evaluate_every_epochs": 10,
        "checkpoint.every_steps": 1000,
        "pretrain.epochs": 20,
    },
)

_OFD = "OFD (ICCV 2019)"
_MHGD = "MHGD (BMVC 2019)"
_OFD_PAIR = "wrn_28_4-wrn_16_2"
_MHGD_PAIR = "mhgd_vgg16-mhgd_vgg7"


def _ofd(question: str, *settings: Setting) -> Ablation:
    return Ablation(question, _OFD, _OFD_PAIR, "ofd", settings, settings[0].label)


def _mhgd(question: str, *settings: Setting) -> Ablation:
    return Ablation(question, _MHGD, _MHGD_PAIR, "mhgd", settings, settings[0].label)


def _overhaul(label: str, **fields: Any) -> Setting:
    own = {f"methods.overhaul.{name}": value for name, value in fields.items()}
    return Setting(label, "overhaul", own)


def _graphs(label: str, variant: str | None = None, **fields: Any) -> Setting:
    own = {f"methods.mhgd.{name}": value for name, value in fields.items()}
    return Setting(label, "mhgd", own, variant=variant)


def _kd(label: str, rule: str) -> Setting:
    return Setting(label, "kd", {"methods.kd.gradient_combination": rule})


def _vectors(count: int) -> Setting:
    """KD-SVD with some vectors; three more of the student are candidates."""
    prefix = "methods.kd_svd"
    return Setting(
        f"{count} vector{'s' * (count > 1)}",
        "kd_svd",
        {f"{prefix}.teacher_vectors": count, f"{prefix}.student_vectors": count + 3},
        # The last stage of the digits has four positions.
        {f"{prefix}.student_vectors": 4} if count <= 4 else None,
    )


#: Fractions of the training images; epochs of the quick form, of 120 updates each, and
#: None where it leaves the fraction out.
_FRACTIONS = {0.05: 60, 0.1: None, 0.25: 12, 0.5: None, 1.0: 3}

_BY_FRACTION = {"alone": ALONE, "KD": "kd", "OFD": "overhaul", "MHGD": "mhgd"}


def _by_fraction() -> tuple[Setting, ...]:
    return tuple(
        Setting(
            f"{label}, {100 * fraction:g} %",
            method,
            {"data.train_fraction": fraction},
            epochs and {"batch_size": 25, "epochs": epochs, "pretrain.epochs": epochs},
        )
        for fraction, epochs in _FRACTIONS.items()
        for label, method in _BY_FRACTION.items()
    )


ABLATIONS: Mapping[str, Ablation] = {
    "ofd_position": _ofd(
        "Are features before or after the ReLU the better ones to distill?",
        _overhaul("before the ReLU"),
        _overhaul("after the ReLU", position="post"),
    ),
    "ofd_margin": _ofd(
        "Does the margin ReLU matter, and where does its margin come from?",
        _overhaul("closed form"),
        _overhaul("measured", margin="measured"),
        _overhaul("zero (ReLU)", margin="zero"),
        _overhaul("none", margin="none"),
    ),
    "ofd_distance": _ofd(
        "Does the partial L2 do better than L2, with and without a margin?",
        _overhaul("partial L2"),
        _overhaul("L2", distance="l2"),
        _overhaul("L2, no margin", distance="l2", margin="none"),
    ),
    "ofd_batch_norm": _ofd(
        "Which statistics should the batch norms of the teacher use?",
        _overhaul("of the batch"),
        Setting("running", "overhaul", {"teacher.batch_norm": "running"}),
    ),
    "mhgd_heads": _mhgd(
        "How many attention heads?",
        _graphs("8 heads", ""),
        *(
            _graphs(f"{n} head{'s' * (n > 1)}", f"heads={n}", heads=n)
            for n in (1, 2, 4, 16)
        ),
    ),
    "mhgd_initialization": _mhgd(
        "Both losses at once, or the graphs first and then the task?",
        _graphs("both at once"),
        Setting(
            "graphs first", "mhgd_distill_first", quick={"distill_first.epochs": 20}
        ),
    ),
    "mhgd_smoothing": _mhgd(
        "Does it matter what bounds the logits of the graphs?",
        _graphs("tanh"),
        _graphs("centered tanh", smoothing="centered_tanh"),
        _graphs("none", smoothing="none"),
    ),
    "mhgd_clipping": _mhgd(
        "Is the gradient of the graphs to be clipped to that of the task?",
        _graphs("clipped"),
        _graphs("not clipped", gradient_combination="sum"),
        _graphs("not clipped, weight 0.03", gradient_combination="sum", weight=0.03),
    ),
    "gradient_rules": Ablation(
        "How are the gradients of the task and of KD to be combined?",
        "DOT, DTO-KD, PCGrad, DeepKD, and the code of KD-SVD and MHGD (clipping)",
        "resnet32x4-resnet8x4",
        "crd",
        (
            Setting("added", "kd"),
            _kd("clipped", "clip"),
            _kd("minimum norm", "min_norm"),
            _kd("PCGrad", "pcgrad"),
            _kd("two momenta (DOT)", "dot"),
            Setting(
                "momenta by term (DeepKD)",
                "deepkd",
                # The loss is that of KD.
                {"task_weight": 0.1, "methods.deepkd.weight": 0.9},
            ),
        ),
        "added",
    ),
    "kd_svd_vectors": Ablation(
        "How many singular vectors?",
        "KD-SVD (ECCV 2018)",
        "wrn_22_4-wrn_10_4",
        "mhgd",
        tuple(map(_vectors, (1, 2, 4, 8, 16))),
        "1 vector",
    ),
    "fractions": Ablation(
        "What does distillation gain when there are fewer training images?",
        "later code of MHGD's authors (IEPKT)",
        "wrn_40_4-wrn_16_4",
        "mhgd",
        _by_fraction(),
    ),
}
