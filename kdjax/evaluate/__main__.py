"""Evaluates the network of a run.

    python -m kdjax.evaluate --workdir=runs/student
    python -m kdjax.evaluate --workdir=runs/student --split=train --step=best
    python -m kdjax.evaluate --workdir=runs/student --data_dir=DIR --predictions=out.csv
    python -m kdjax.evaluate --workdir=runs/student --images=photos

prints accuracy, loss and calibration on the test images of the run, the accuracy on
each class, and which classes are confused most. --data_dir evaluates on other images of
the same classes, DIR/<class>/*.jpg, or says where the run's data set is now. --images
classifies an image file, or a folder of images without classes.

The expected calibration error is that of Guo et al. 2017: the mean difference of
accuracy and confidence in 15 bins of equal width. --corruptions adds the accuracy on
images with noise, blur and so on, in the five severities of CIFAR-C. Networks are
evaluated in float32, whatever the run's dtype. Nothing is written but the file of
--predictions.
"""

import argparse
from collections.abc import Sequence

import numpy as np

from kdjax.cli import command_line, home
from kdjax.cli.command_line import escaped
from kdjax.data import datasets
from kdjax.evaluate import (
    corruptions,
    images,
    logits,
    predictions,
    report,
    robustness,
)
from kdjax.evaluate.images import Images
from kdjax.runs import console, inventory, trained
from kdjax.runs.trained import TrainedModel


def evaluate(flags: argparse.Namespace) -> str:
    """Evaluates as the flags say; returns the text to print.

    Raises:
      ValueError: in one line, if there is no trained network, or the images cannot be
        used.
      OSError: if there are no images, or the predictions cannot be written.
    """
    if flags.batch_size is not None and flags.batch_size < 1:
        raise ValueError(f"--batch_size={flags.batch_size} is less than 1")
    if flags.predictions is not None:
        predictions.check_file(flags.predictions, overwrite=flags.overwrite)
    if flags.corruptions is not None:
        robustness.check_names(flags.corruptions)
        if flags.images is not None:
            raise ValueError("--corruptions needs images with classes, not --images")
    run = trained.load(flags.workdir, step=flags.step)
    found = images.find(
        flags.workdir,
        run,
        split=flags.split,
        data_dir=flags.data_dir,
        unlabeled=flags.images,
        image_size=flags.image_size,
        bad_images=flags.bad_images,
    )
    settings = {"batch_size": flags.batch_size or run.config["batch_size"]}
    scores, label = logits.compute(
        run,
        found.split,
        found.data.config,
        name=f"workdir={str(flags.workdir)!r}",
        **settings,
    )
    lines = predictions.lines(found, scores, label)
    if flags.predictions is not None:
        predictions.write(lines, flags.predictions)
    network = f"the {run.config['model']} after step {run.step}"
    count = len(lines) - 1
    wrote = f"{count:,} prediction{'s are' if count > 1 else ' is'} in "
    wrote += escaped(str(flags.predictions))
    if not found.labeled:
        return wrote if flags.predictions else predictions.as_text(lines)
    corrupted = []
    if flags.corruptions is not None:
        corrupted = [robustness.table(run, found, flags.corruptions, **settings)]
    agreement = _agreement(run, found, scores, settings)
    text = report.text(scores, label, found.class_names, agreement)
    parts = [f"{escaped(str(flags.workdir))}: {network} on {found.what}", text]
    return "\n\n".join(parts + corrupted + [wrote] * bool(flags.predictions))


def _agreement(
    run: TrainedModel, found: Images, scores: np.ndarray, settings: dict[str, int]
) -> str | float | None:
    """Returns the agreement with the run's teacher.

    Returns:
      The fraction of images that both assign to the same class; the reason why it
      cannot be measured; None if the run has no teacher, or one for other classes.
    """
    if run.config["teacher"].get("classes") == "other":
        return None
    name = f"teacher.checkpoint={run.config['teacher']['checkpoint']!r}"
    try:
        teacher = trained.load_teacher(run)
        if teacher is None:
            return None
        if teacher.num_classes != run.num_classes:
            return f"{name} has {teacher.num_classes} classes, not {run.num_classes}"
        taught, _ = logits.compute(
            teacher, found.split, found.data.config, name=name, **settings
        )
    except (ValueError, OSError) as error:
        return " ".join(str(error).split())
    return float((taught.argmax(axis=1) == scores.argmax(axis=1)).mean())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kdjax.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--workdir", type=home.argument, required=True, help="work directory of the run"
    )
    add("--step", default=inventory.LAST, help="last, best or a number; default: last")
    add("--split", choices=images.SPLITS, help="of the data set; default: test")
    add(
        "--data_dir",
        help="folder of other images, DIR/<class>/*.jpg, or where the data set is now",
    )
    add("--images", help="image without a class, or folder of such, to classify")
    add("--image_size", type=int, help="in place of data.image_size")
    add(
        "--bad_images",
        choices=datasets.BAD_IMAGES,
        help="what to do with files that are no images; default: data.bad_images",
    )
    add("--batch_size", type=int, help="images at once; default: that of the run")
    add(
        "--predictions",
        type=home.argument,
        metavar="FILE.csv",
        help="file to write, one line an image: name, class, prediction, probability",
    )
    add(
        "--corruptions",
        type=lambda text: text.split(","),
        nargs="?",
        const=list(corruptions.CORRUPTIONS),
        metavar="NAMES",
        help="also evaluate on corrupted images, in five severities; names with "
        f"commas; all are {', '.join(corruptions.CORRUPTIONS)}",
    )
    add("--overwrite", action="store_true", help="replace that file if it exists")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 after an error of the user."""
    flags = _parser().parse_args(arguments)
    try:
        print(evaluate(flags))
    except (ValueError, OSError) as error:
        console.print_error("evaluate", error)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
