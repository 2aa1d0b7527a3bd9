"""Measures what a finished run learned, for the pictures of `experiments.report`.

    python -m experiments.examine --workdir=runs/overhaul
    python -m experiments.report --runs=runs --html

writes `examined.json` into the work directory: on the test images, how well the
confidences of student and teacher are calibrated, on which images and classes the two
differ, and the singular values of their feature maps; of a run of OFD also how its
margins lie in the responses of the teacher, and of a run of MHGD its attention graphs.
The report draws them on its page, of the first seed that has them. Several work
directories may be given, with commas between them.

Both networks are in float32 and use the running statistics of their batch norms, which
OFD's teacher does not in the training; graphs are those of `experiments.plot_graphs`,
the mean of all heads. Singular values, responses and graphs are of a part of the images
(--images).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from kdjax.cli import command_line, home
from kdjax.distill import Outputs, Teacher, overhaul
from kdjax.evaluate import figures, images, logits, outputs
from kdjax.losses.linalg import eigen
from kdjax.runs import console, trained

from .examined import FILE

#: Singular values of a stage that are kept, at most.
_VALUES = 16

#: Responses in units of the margin, whose clipping ends at -1: from, to, bins.
_LOW, _HIGH, _BINS = -4.0, 4.0, 80

#: Images of a graph at most.
_GRAPH = 50


def examine(workdir: Path, count: int) -> dict[str, Any]:
    """Measures a run.

    Args:
      workdir: of the run.
      count: images of which maps are looked at.

    Raises:
      ValueError: if there is no trained network, or the test images are not there.
      OSError: if they cannot be read.
    """
    run = trained.load(workdir)
    found = images.find(workdir, run)
    networks = {"student": run}
    teacher = trained.load_teacher(run)
    if teacher is not None and teacher.num_classes == run.num_classes:
        networks["teacher"] = teacher
    settings = {"batch_size": run.config["batch_size"], "name": f"workdir={workdir}"}
    scores, label = {}, None
    for name, network in networks.items():
        scores[name], label = logits.compute(
            network, found.split, found.data.config, **settings
        )
    part = found.split.select(np.arange(min(count, found.split.num_examples)))
    arguments = (part, found.data.config, settings)
    measured: dict[str, Any] = {
        "images": len(label),
        "examined_images": part.num_examples,
        "class_names": list(found.class_names),
        "networks": {
            name: classified(scores[name], label, run.num_classes)
            | {"spectra": spectra(network, *arguments)}
            for name, network in networks.items()
        },
    }
    if "teacher" in networks:
        measured["right"] = right(scores["student"], scores["teacher"], label)
        given = run.config["methods"].get("overhaul", {})
        if given.get("margin") == "closed_form":
            measured["responses"] = responses(networks["teacher"], *arguments)
    if "mhgd" in run.config["methods"]:
        measured["graphs"] = graphs(workdir)
    return measured


def classified(scores: np.ndarray, label: np.ndarray, classes: int) -> dict[str, Any]:
    """Returns the accuracy of each class, and of bins of the confidence.

    Args:
      scores: logits, [N, K].
      label: [N].
      classes: K.
    """
    probability = special.softmax(np.float64(scores), axis=1)
    prediction, confidence = probability.argmax(axis=1), probability.max(axis=1)
    correct = prediction == label
    bins = figures.BINS
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    size = np.bincount(number, minlength=bins)
    filled = np.flatnonzero(size)
    total, of_class = figures.class_accuracy(prediction, label, classes)
    return {
        "calibration_error": figures.calibration_error(confidence, correct),
        "bins": [
            {
                "images": int(size[at]),
                "confidence": float(confidence[number == at].mean()),
                "accuracy": float(correct[number == at].mean()),
            }
            for at in filled
        ],
        "class_accuracy": [
            int(right) / int(images) if images else None
            for right, images in zip(of_class, total, strict=True)
        ],
    }


def right(
    student: np.ndarray, teacher: np.ndarray, label: np.ndarray
) -> dict[str, int]:
    """Counts the images that both, one or none of two networks classify correctly."""
    own, other = (scores.argmax(axis=1) == label for scores in (student, teacher))
    return {
        "both": int(np.sum(own & other)),
        "student alone": int(np.sum(own & ~other)),
        "teacher alone": int(np.sum(~own & other)),
        "none": int(np.sum(~own & ~other)),
    }


def spectra(network, split, config, settings: Mapping[str, Any]) -> list[list[float]]:
    """Returns the mean singular values of each stage over the largest of each map.

    Of the matrices of positions and channels after the ReLU that ends a stage.
    """
    sizes = []

    def read(answer: Outputs) -> jax.Array:
        found = []
        for x in answer.features.post:
            matrix = x.reshape(len(x), -1, x.shape[-1]).astype(jnp.float32)
            values = eigen.singular_values(matrix)[:, :_VALUES]
            found.append(values / jnp.maximum(values[:, :1], 1e-30))
        sizes[:] = [x.shape[1] for x in found]
        return jnp.concatenate(found, axis=1)

    values, _ = outputs.compute(
        network, split, config, read=read, what="singular values", **settings
    )
    ends = np.cumsum(sizes)[:-1]
    return [list(map(float, x)) for x in np.split(values.mean(axis=0), ends)]


def responses(teacher, split, config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns histograms of the teacher's responses before the ReLU, stage by stage.

    Each response is divided by the size of its channel's margin, so that the margin
    ReLU clips what is below -1. Channels whose margin is 0 are left out.
    """
    view = Teacher(teacher.config["model"], teacher.variables, lambda: iter(()))
    margins = [np.abs(x) for x in overhaul.MARGINS["closed_form"](view)]
    edges = np.linspace(_LOW, _HIGH, _BINS + 1)

    def read(answer: Outputs) -> jax.Array:
        found = []
        for x, margin in zip(answer.features.pre, margins, strict=True):
            kept = np.flatnonzero(margin > 0)
            scaled = x[..., kept] / jnp.asarray(margin[kept], x.dtype).reshape(
                1, 1, 1, -1
            )
            flat = jnp.clip(scaled.reshape(len(x), -1), _LOW, _HIGH)
            found.append(
                jax.vmap(lambda v: jnp.histogram(v, jnp.asarray(edges))[0])(flat)
            )
        return jnp.concatenate(found, axis=1)

    counts, _ = outputs.compute(
        teacher, split, config, read=read, what="responses", **settings
    )
    stages = counts.sum(axis=0).reshape(len(margins), _BINS)
    shares = stages / stages.sum(axis=1, keepdims=True)
    clipped = shares[:, edges[:-1] < -1 - 1e-9].sum(axis=1)
    return {
        "edges": list(map(float, edges)),
        "shares": shares.tolist(),
        "clipped": clipped.tolist(),
    }


def graphs(workdir: Path) -> list[dict[str, Any]]:
    """Returns the teacher's and the student's graphs of a run of MHGD, by pair.

    Edges are in units of 1 / images, that of a graph without structure.
    """
    from . import plot_graphs

    experiment, states = plot_graphs.restore(workdir)
    test = experiment.data.test
    label = np.asarray(test.label)
    count = min(_GRAPH, experiment.config.batch_size)
    index = plot_graphs.choose(label, count)
    return [
        {
            "label": label[index].tolist(),
            "teacher": _rounded(count * edge[0].mean(axis=0)),
            "student": _rounded(count * edge[2].mean(axis=0)),
            "divergence": float(divergence[2].sum()),
        }
        for edge, divergence in plot_graphs.compare(
            experiment, states, test.pixels(index)
        )
    ]


def _rounded(values: np.ndarray) -> list[list[float]]:
    return [[float(f"{value:.4g}") for value in row] for row in values]


def main(arguments: Sequence[str] | None = None) -> int:
    """Examines runs; returns the exit status, 2 after an error of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.examine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workdir",
        type=lambda text: [home.argument(x) for x in text.split(",") if x],
        required=True,
        help="of a run, or several with commas",
    )
    parser.add_argument(
        "--images", type=int, default=256, help="of which maps are examined"
    )
    flags = parser.parse_args(arguments)
    try:
        if flags.images < 1:
            raise ValueError(f"--images={flags.images} is less than 1")
        for workdir in flags.workdir:
            text = json.dumps(examine(workdir, flags.images))
            (workdir / FILE).write_text(text + "\n", encoding="utf-8")
            print(f"wrote {workdir / FILE}")
    except (ValueError, OSError) as error:
        console.print_error("examine", error)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
