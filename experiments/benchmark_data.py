"""Times the input pipelines, alone and in training.

    python -m experiments.benchmark_data --network=wrn_10_1@64 --batch=64

Makes a folder of JPEG files and prints a JSON line for each pipeline, with medians over
interleaved rounds:

- `pipeline_images_per_s`: the pipeline alone, augmentation on the device included;
- `step_images_per_s`: training steps that repeat the same batch;
- `train_images_per_s`: training steps with the pipeline;
- `make_batch_fraction`: part of the training time spent on crop, flip and normalization
  on the device, and by the in-memory pipeline on gathering the examples;
- `wait_fraction`: part of the training time spent waiting for the pipeline, which is
  1 - train_images_per_s / step_images_per_s.

The streaming pipeline runs once for each number of `--workers`; 0 means threads of the
training process. For networks `@224` the files have 500x375 pixels and random resized
crops are taken; otherwise they have the size of the network's images.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from PIL import Image

from kdjax import models, phases, recipes, train
from kdjax import step as step_lib
from kdjax.cli import command_line
from kdjax.data import augment
from kdjax.data.pipeline.batches import Batch
from kdjax.runs import console

#: Factor on the number of steps that do not run the network.
_WITHOUT_NETWORK = 8

_CLASSES = 10
_PHOTOGRAPH = (500, 375)


def make_folder(root: pathlib.Path, number: int, size: tuple[int, int]) -> None:
    """Makes files with the detail of photographs, and a tenth as many test files."""
    rng = np.random.default_rng(0)
    for k in range(number + number // 10):
        coarse = rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
        image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
        noise = rng.normal(0, 8, (size[1], size[0], 3))
        image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype("u1"))
        split = "train" if k < number else "val"
        folder = root / split / f"class_{k % _CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{k}.jpg", quality=90)


def configure(
    network: str, root: pathlib.Path, batch_size: int, **fields
) -> ml_collections.ConfigDict:
    """Returns the training of a network on the folder."""
    size = models.image_size(network) or 32
    config = recipes.alone(network)
    config.batch_size = batch_size
    config.data.name, config.data.data_dir = "folder", str(root)
    config.data.image_size, config.data.padding = size, size // 8
    config.data.drop_remainder = True
    config.data.update(fields)
    return config


class Pipeline:
    """A pipeline and the training step that consumes it.

    Attributes:
      seconds: per step of each kind, one value a round.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        """Compiles the step and opens the pipeline."""
        phase = phases.plan(train.build_experiment(config))[-1]
        self._state, self._frozen = phases.initial_state(phase, None)
        self._step = phases.build_step(phase)
        batches = phase.pipeline
        self._make_batch = step_lib.data_parallel(
            batches.make_batch, jax.devices(), in_axes=(None, 0, None), out_axes=0
        )
        self._inputs = batches.batches(0, 2**40)
        self._fixed = next(self._inputs)
        self._kinds = {
            "pipeline": lambda: self._make(next(self._inputs)),
            "make_batch": lambda: self._make(self._fixed),
            "step": lambda: self._train(self._fixed),
            "train": lambda: self._train(next(self._inputs)),
        }
        self.seconds = {kind: [] for kind in self._kinds}
        for kind in self._kinds.values():
            jax.block_until_ready(kind())  # Compiles.

    def close(self) -> None:
        """Stops reading ahead."""
        self._inputs.close()

    def run(self, steps: int) -> None:
        """Times a number of steps of each kind, one kind after the other."""
        for name, kind in self._kinds.items():
            number = steps if name in ("step", "train") else steps * _WITHOUT_NETWORK
            # Consumes what was read ahead during the previous kind.
            self._repeat(kind, number)
            started = time.perf_counter()
            self._repeat(kind, number)
            self.seconds[name].append((time.perf_counter() - started) / number)

    def _repeat(self, kind: Callable[[], Any], steps: int) -> None:
        before = None
        for _ in range(steps):
            done = kind()
            # Like the training loop: wait for the previous step only.
            jax.block_until_ready(before)
            before = done
        jax.block_until_ready(before)

    def _make(self, inputs: tuple[Any, Any]) -> Batch:
        return self._make_batch(*inputs, jnp.int32(0))

    def _train(self, inputs: tuple[Any, Any]) -> step_lib.Metrics:
        self._state, sums = self._step(self._state, self._frozen, *inputs)
        return sums


def report(pipeline: Pipeline, batch_size: int) -> dict[str, float]:
    """Returns the figures of a pipeline, see the docstring of this module."""
    seconds = {
        name: statistics.median(found) for name, found in pipeline.seconds.items()
    }
    return {
        **{
            f"{name}_images_per_s": round(batch_size / seconds[name], 1)
            for name in ("pipeline", "step", "train")
        },
        "make_batch_fraction": round(seconds["make_batch"] / seconds["train"], 4),
        "wait_fraction": round(1 - seconds["step"] / seconds["train"], 4),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.benchmark_data",
        description="Times the input pipelines, alone and in training.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--network", default="wrn_10_1@64", help="network to train")
    add("--batch", type=int, default=64, help="batch size")
    add("--images", type=int, default=1024, help="number of JPEG files to make")
    add(
        "--workers",
        default="0,2",
        help="worker processes of the streaming pipeline, comma-separated",
    )
    add(
        "--rounds",
        type=int,
        default=5,
        help="number of rounds, of which medians are reported",
    )
    add("--steps", type=int, default=10, help="steps of each kind in a round")
    return parser.parse_args(arguments)


def measure(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Times all pipelines in interleaved rounds; yields the figures of each."""
    size = models.image_size(args.network) or 32
    large = size == 224
    kinds = {("in_memory", 0): {"pipeline": "in_memory"}}
    for workers in map(int, args.workers.split(",")):
        fields = {"pipeline": "streaming", "workers": workers}
        if large:
            fields |= {"crop": augment.RANDOM_RESIZED, "padding": 0}
        kinds["streaming", workers] = fields
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        root = pathlib.Path(folder)
        make_folder(root, args.images, _PHOTOGRAPH if large else (size, size))
        pipelines = {}
        for name, fields in kinds.items():
            config = configure(args.network, root, args.batch, **fields)
            pipelines[name] = opened.enter_context(contextlib.closing(Pipeline(config)))
        for _ in range(args.rounds):
            for pipeline in pipelines.values():
                pipeline.run(args.steps)
        for (name, workers), pipeline in pipelines.items():
            yield {
                "network": args.network,
                "batch": args.batch,
                "pipeline": name,
                **({"workers": workers} if name == "streaming" else {}),
                **report(pipeline, args.batch),
                "device": jax.devices()[0].device_kind,
                "cores": os.cpu_count(),
                "jax": jax.__version__,
            }


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a JSON line for each pipeline; returns 2 after an error of the user."""
    try:
        for line in measure(parse(arguments)):
            print(json.dumps(line), flush=True)
    except ValueError as error:
        console.print_error("benchmark_data", error)
        return 2
    return 0


if __name__ == "__main__":
    command_line.run(main)
