"""What the command prints of a network's logits."""

from collections.abc import Sequence

import numpy as np
import tabulate
from scipy import special

from kdjax.cli.command_line import escaped
from kdjax.evaluate import figures

#: Most classes of which all are listed, and the number that are listed of more.
ALL_CLASSES, WORST_CLASSES = 20, 10

#: Number of confusions that are listed.
CONFUSIONS = 10

_DASH = "\N{EM DASH}"


def text(
    logits: np.ndarray,
    label: np.ndarray,
    class_names: Sequence[str],
    agreement: float | str | None,
) -> str:
    """Formats the figures of a network as tables.

    Args:
      logits: [N, K].
      label: class of each image, [N].
      class_names: K names.
      agreement: with the teacher: a fraction, or why it is not known; None without one.
    """
    prediction = logits.argmax(axis=1)
    parts = [
        _summary(logits, label, agreement),
        _classes(prediction, label, class_names),
        _confusions(prediction, label, class_names),
    ]
    if isinstance(agreement, str):
        parts.append(f"The agreement with the teacher is not known: {agreement}")
    return "\n\n".join(parts)


def _summary(
    logits: np.ndarray, label: np.ndarray, agreement: float | str | None
) -> str:
    probability = special.softmax(np.float64(logits), axis=1)
    confidence, correct = probability.max(axis=1), logits.argmax(axis=1) == label
    rows = {"top-1 accuracy": f"{figures.top_k_accuracy(logits, label, 1):.2%}"}
    if logits.shape[1] > 5:
        rows["top-5 accuracy"] = f"{figures.top_k_accuracy(logits, label, 5):.2%}"
    error = figures.calibration_error(confidence, correct)
    rows["mean loss"] = f"{figures.mean_loss(logits, label):.4f}"
    rows["expected calibration error"] = f"{error:.2%}"
    if isinstance(agreement, float):
        rows["agreement with the teacher"] = f"{agreement:.2%}"
    return tabulate.tabulate(
        rows.items(),
        tablefmt="plain",
        disable_numparse=True,
        colalign=("left", "right"),
    )


def _classes(
    prediction: np.ndarray, label: np.ndarray, class_names: Sequence[str]
) -> str:
    """Formats the accuracy on each class, or on the worst ones."""
    total, correct = figures.class_accuracy(prediction, label, len(class_names))
    shown, title = range(len(class_names)), "class"
    if len(class_names) > ALL_CLASSES:
        present = np.flatnonzero(total)
        order = np.argsort(correct[present] / total[present], kind="stable")
        shown, title = present[order][:WORST_CLASSES], "worst classes"
    rows = [
        (
            escaped(class_names[k]),
            total[k],
            f"{correct[k] / total[k]:.2%}" if total[k] else _DASH,
        )
        for k in shown
    ]
    return _table((title, "images", "accuracy"), rows, ("left", "right", "right"))


def _confusions(
    prediction: np.ndarray, label: np.ndarray, class_names: Sequence[str]
) -> str:
    """Formats the most frequent confusions."""
    found = figures.confusions(prediction, label, len(class_names), CONFUSIONS)
    if not found:
        return "No image is classified wrongly."
    rows = [
        (escaped(class_names[true]), escaped(class_names[other]), number)
        for true, other, number in found
    ]
    head = ("most confused: class", "predicted", "images")
    return _table(head, rows, ("left", "left", "right"))


def _table(head: Sequence[str], rows: list, align: Sequence[str]) -> str:
    return tabulate.tabulate(rows, head, disable_numparse=True, colalign=align)
