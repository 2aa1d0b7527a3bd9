"""Writes a trained network as a program, and checks and measures the file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from kdjax.data.normalization import Normalization, normalize
from kdjax.export import fold, formats, latency
from kdjax.export.program import INPUTS, Shape
from kdjax.models import cost
from kdjax.runs.trained import TrainedModel

#: Largest difference of logits from the network's, as a part of the largest logit.
TOLERANCE = 1e-4


class Settings(NamedTuple):
    """How networks are written.

    Attributes:
      form: name of the format.
      input: name of what the program takes, in `program.INPUTS`.
      folded: whether to fold batch norms.
      batch_size: number of images the program takes; None for any number.
    """

    form: str
    input: str
    folded: bool
    batch_size: int | None


class Sample(NamedTuple):
    """Images to check a program on.

    Attributes:
      image: uint8 [N, H, W, 3].
      kind: "test" or "random".
    """

    image: np.ndarray
    kind: str

    def __str__(self) -> str:
        return f"{len(self.image)} {self.kind} images"


def write(
    run: TrainedModel,
    sample: Sample,
    file: Path,
    settings: Settings,
    class_names: tuple[str, ...] | None = None,
) -> dict[str, str]:
    """Writes a trained network as a program, then checks and measures the file.

    Args:
      run: the network.
      sample: images to check it on.
      file: overwritten if it exists.
      settings: how to write it.
      class_names: for the metadata; None if they are not known.

    Returns:
      Table rows: name -> value.

    Raises:
      ValueError: if the network cannot be written in the format, or the logits of the
        program in the file differ from the network's.
    """
    form, name, shape = settings.form, run.config["model"], sample.image.shape[1:]
    network = run.network(shape)
    in_flax, in_program = _functions(run, network, shape, settings)
    takes = INPUTS[settings.input]
    given = takes.from_pixels(sample.image, _normalization(run))
    size = settings.batch_size
    batches = _batches(given, size)
    try:
        metadata = _metadata(run, settings, class_names)
        content = formats.FORMATS[form].write(
            in_program, takes.type_of(shape, size), metadata
        )
        file.write_bytes(content)
        call = formats.FORMATS[form].load(content)
        logits = np.concatenate([call(batch) for batch in batches])
    except OSError:
        raise
    except Exception as error:  # The exporters raise arbitrary exceptions.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        hint = "" if size else "; --batch_size=1 may help"
        raise ValueError(
            f"{name} cannot be written as {form}: {reason}{hint}"
        ) from error
    expected = np.asarray(jax.jit(in_flax)(sample.image))
    difference = _difference(
        logits, expected, f"on {sample} the {form} program of {name}"
    )
    return {
        "network": name,
        "file, bytes": f"{file.stat().st_size:,}",
        "parameters": f"{cost.parameters(run.variables):,}",
        "multiply-adds": f"{cost.multiply_adds(network, shape):,}",
        "latency, ms": "{1:.3f} [{0:.3f}, {2:.3f}]".format(
            *latency.milliseconds(call, batches[0])
        ),
        "largest difference": f"{difference:.1e}",
    }


def _batches(given: np.ndarray, size: int | None) -> list[np.ndarray]:
    """Cuts images into batches of a size; without one, the first image and the rest."""
    first = size or 1
    return np.split(given, range(first, len(given), size or len(given)))


def _difference(logits: np.ndarray, expected: np.ndarray, where: str) -> float:
    """Returns the largest difference as a part of the largest logit.

    Raises:
      ValueError: if it is more than `TOLERANCE`.
    """
    difference = np.max(np.abs(logits - expected)) / np.max(np.abs(expected))
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{where} differs from it by {difference:.1e} of the largest logit, more "
            f"than {TOLERANCE:.0e}: not written"
        )
    return difference


def _normalization(run: TrainedModel) -> Normalization:
    return Normalization(run.data.mean, run.data.std)


def _metadata(
    run: TrainedModel, settings: Settings, class_names: tuple[str, ...] | None
) -> dict[str, str]:
    """Returns what a program's user has to know; all but names in JSON."""
    found = {
        "model": run.config["model"],
        "input": settings.input,
        "mean": json.dumps(run.data.mean),
        "std": json.dumps(run.data.std),
    }
    if class_names is not None:
        found["class_names"] = json.dumps(class_names)
    return found


def _functions(
    run: TrainedModel, network: Any, shape: Shape, settings: Settings
) -> tuple[Callable, Callable]:
    """Returns image -> logits as Flax computes it and as the program will.

    The former takes pixels, the latter what the settings say.
    """
    by, takes = _normalization(run), INPUTS[settings.input]

    def in_flax(pixels):
        image = normalize(pixels, mean=by.mean, std=by.std)
        return network.apply(run.variables, image, train=False)[0]

    def unfolded(variables, image):
        return network.apply(variables, image, train=False)[0]

    apply, variables = unfolded, run.variables
    if settings.folded:
        apply, variables, _ = fold.fold_batch_norms(network, run.variables, shape)
    return in_flax, lambda given: apply(variables, takes.normalized(given, by))
