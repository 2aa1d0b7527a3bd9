"""Makes docs/methods.md, the page of methods, from the code and published figures.

python -m experiments.methods_page > docs/methods.md
"""

import inspect
import string
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import tabulate

from kdjax import distill, losses
from kdjax.distill import __main__ as table
from kdjax.distill import gradients

from . import published

_INTRODUCTION = """# Methods

Made by `make docs` from the code and from `experiments/published.csv`.

Nearly all methods train any pair of networks, with the settings of published figures:

    python -m kdjax.main --config=configs/distill.py:METHOD,TEACHER-STUDENT[,DATA] \\
        --config.teacher.checkpoint=DIR --workdir=DIR

What cannot be joined is refused in one line before the training;
`python -m kdjax.distill --matrix` lists it. `deit` trains only a student with a
distillation token, such as `deit_tiny_distilled`. `cat_kd`, `sdd` and `simkd` need
networks whose classifiers read the average of the last map: those of vision
transformers read a token, and before those of ConvNeXts is a layer norm. `overhaul`
needs `--config.methods.overhaul.margin=measured` where the teacher's stages do not end
in a batch norm, as in these two families. Methods that compare stage with stage need as
many in both networks: three in the residual networks of CIFAR, ShuffleNets and vision
transformers for 32x32 and 64x64 images; four in ResNet-18 to 152, VGGs, MobileNets,
ConvNeXts and vision transformers for 224x224.

Short names do as well. Several methods are joined as in `overhaul+kd`. A method of your
own is a class with `@distill.register` in a file that your configuration imports.

## Taxonomy

L = d(T_t(F_t), T_s(F_s)), the form of the overhaul paper. Auxiliary parameters are
trained in addition to the student's and dropped afterwards. Kept parameters are those
of a head that the student has for good: they are part of it wherever its parameters
are counted. Both are counted for WRN-40-2 to WRN-16-2 on CIFAR-100.
"""

_HYPERPARAMETERS = """
## Hyperparameters

With their defaults; `--config.methods.NAME.FIELD=VALUE` sets one. Those of published
figures that differ, by pair or data set, are in `kdjax/method_recipes.py`, which
configs/distill.py applies.
"""

_GRADIENTS = """
## Gradients

`methods.NAME.gradient_combination` says how the gradient of a method's weighted terms
meets that of the cross-entropy; it is `"sum"` unless the table above shows another.
Methods of one rule are added up first, and rules follow one another in this order. Each
but `"sum"` takes a backward pass of the student more. A rule of your own is a function
with `@distill.gradients.register(NAME)`.
"""

#: What is said of the rules that keep gradients apart, and their sources.
_APART = {
    "dot": (
        "Gives SGD a momentum for the gradient of these methods, and one for the rest.",
        'DOT: Zhao et al., "DOT: A Distillation-Oriented Trainer" (ICCV 2023).',
    ),
    "by_term": (
        "Gives SGD a momentum for each term of `deepkd` or `dkd`, one for the rest.",
        'DeepKD: Huang et al., "DeepKD: A Deeply Decoupled and Denoised Knowledge '
        'Distillation Trainer" (NeurIPS 2025).',
    ),
}

_LOSSES = """
## Loss functions

The same formulas as pure functions for any training loop: student first,
hyperparameters by keyword, one value an example. The teacher's gradient is not stopped:
that is the caller's choice. `help(kdjax.losses.kd)` gives shapes, source and
differences from the original.
"""

_FIGURES = """
## Published figures

Top-1 test accuracy in percent on CIFAR-100. *last* or *best*: the epoch, where best is
chosen on the test split; *tuned*: hyperparameters were chosen for each pair; *other
teachers*: not those of the first row; epochs where there are not 240. Sources, runs and
hyperparameters are in `experiments/published.csv`.
"""


def page() -> Iterator[str]:
    """Yields the lines of the page."""
    yield from _INTRODUCTION.splitlines()
    yield ""
    # A bar would end the cell.
    rows = [
        {column: value.replace("|", "\\|") for column, value in row.items()}
        for row in table.taxonomy()
    ]
    yield from _markdown(rows)
    yield from _HYPERPARAMETERS.splitlines()
    yield ""
    yield from _markdown(
        {
            "method": name,
            "hyperparameters": ", ".join(
                f"`{field}={value!r}`".replace("'", '"')
                for field, value in distill.hyperparameters(name).items()
                if (field, value) != ("gradient_combination", gradients.SUM)
            ),
        }
        for name in sorted(distill.METHODS)
    )
    yield from _GRADIENTS.splitlines()
    yield ""
    yield from _markdown(
        {
            "rule": f'`"{name}"`',
            "gradient": _summary(rule) if rule else _APART[name][0],
            "source": _summary(inspect.getmodule(rule)) if rule else _APART[name][1],
        }
        for name, rule in gradients.RULES.items()
        if name != gradients.SUM
    )
    yield from _LOSSES.splitlines()
    yield ""
    yield from _markdown(
        {
            "`kdjax.losses`": f"`{name}{_signature(function)}`",
            "value": _summary(function),
        }
        for name, function in sorted(vars(losses).items())
        if name in losses.__all__
    )
    yield from _FIGURES.splitlines()
    yield from _benchmark()
    yield from ("", "Other figures:", "")
    benchmark = set(table.PAIRS[:13])
    yield from _markdown(
        {
            "method": f.method,
            "variant": f.variant,
            "teacher-student": f.pair,
            "data": f.data,
            "teacher": f"{f.teacher_accuracy:.2f}",
            "baseline": f"{f.baseline_accuracy:.2f}",
            "accuracy": f"{f.accuracy:.2f}",
            "epoch": f.epoch or "",
            "source": f.source,
        }
        for f in published.read()
        if f.pair not in benchmark or f.recipe == "mhgd"
    )


def _summary(described: Any) -> str:
    """Returns the first sentences of a docstring, in one line."""
    first, _, _ = inspect.getdoc(described).partition("\n\n")
    return first.replace("\n", " ").replace("|", "\\|")


def _signature(function: Callable) -> str:
    """Returns the parameters of a function with their defaults, without types."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    return str(
        signature.replace(
            parameters=parameters, return_annotation=inspect.Signature.empty
        )
    )


def _benchmark() -> Iterator[str]:
    """Yields the table of the benchmark's thirteen pairs, under letters."""
    letters = dict(zip(table.PAIRS[:13], string.ascii_lowercase, strict=False))
    figures = [f for f in published.read() if f.pair in letters and f.recipe != "mhgd"]
    legend = []
    rows: dict[str, dict[str, str]] = {}
    for name in ("teacher", "baseline"):
        rows[name] = {
            "method": name,
            "epoch": "last",
            **dict.fromkeys(letters.values(), ""),
        }
    for figure in figures:
        letter = letters[figure.pair]
        teacher = f"{figure.teacher_accuracy:.2f}"
        if not rows["teacher"][letter]:
            rows["teacher"][letter] = teacher
            rows["baseline"][letter] = f"{figure.baseline_accuracy:.2f}"
        notes = [figure.epoch] if figure.epoch else []
        notes += ["tuned"] if figure.tuned_per_pair else []
        notes += ["other teachers"] if rows["teacher"][letter] != teacher else []
        notes += [f"{figure.epochs} epochs"] if figure.epochs != 240 else []
        variant = f" ({figure.variant})" if figure.variant else ""
        row = rows.setdefault(
            f"{figure.method}{variant}",
            {
                "method": f"{figure.method}{variant}",
                "epoch": ", ".join(notes),
                **dict.fromkeys(letters.values(), ""),
            },
        )
        row[letter] = f"{figure.accuracy:.2f}"
    legend = [f"{letter}: {pair}" for pair, letter in letters.items()]
    yield from ("", "; ".join(legend) + ".", "")
    yield from _markdown(rows.values())


def _markdown(rows: Iterable[dict[str, str]]) -> Iterator[str]:
    text = tabulate.tabulate(
        list(rows), headers="keys", tablefmt="github", disable_numparse=True
    )
    yield from text.splitlines()


if __name__ == "__main__":
    print("\n".join(page()))
