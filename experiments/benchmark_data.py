"""Times the pipelines that images come by, alone and inside the training step.

    python -m experiments.benchmark_data --network=wrn_10_1@64 --batch=64

makes a folder of JPEG files and prints a JSON line for each pipeline, of medians over
rounds in which these take turns:

- `feed_images_per_s` of the pipeline alone, its batches made ready for the network;
- `rest_images_per_s` of the student's training step, fed the same examples again;
- `fed_images_per_s` of the step that the pipeline feeds;
- `take_share`, the part of the fed step that goes into crop, flip and normalization on
  the device, and on the in-memory pipeline into gathering the examples;
- `wait_share`, the part in which the fed step waits for its examples: what it takes
  longer than the one at rest.

The streaming pipeline runs once for each number of `--workers`; 0 are threads of the
training process. For networks `@224` the files have 500x375 pixels and a random part of
them is resized, for others they have the size of the network's images.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import sys
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
from kdjax.data import augment
from kdjax.data.pipeline.batches import Batch

#: So many times as many steps of what runs without the network.
_WITHOUT_NETWORK = 8

_CLASSES = 10
_PHOTOGRAPH = (500, 375)


def make_folder(root: pathlib.Path, number: int, size: tuple[int, int]) -> None:
    """Makes files with as much detail as photographs have, a tenth of them to test."""
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
    """One pipeline with the student's training step behind it.

    Attributes:
      seconds: of a step of each kind, one a round.
    """

    def __init__(self, config: ml_collections.ConfigDict):
        """Compiles the step and opens the pipeline."""
        phase = phases.plan(train.build_experiment(config))[-1]
        self._state, self._frozen = phases.initial_state(phase, None)
        self._step = phases.build_step(phase)
        batches = phase.batches
        self._make_batch = step_lib.data_parallel(
            batches.make_batch, jax.devices(), in_axes=(None, 0, None), out_axes=0
        )
        self._inputs = batches.batches(0, 2**40)
        self._at_rest = next(self._inputs)
        self._kinds = {
            "feed": lambda: self._make(next(self._inputs)),
            "take": lambda: self._make(self._at_rest),
            "rest": lambda: self._train(self._at_rest),
            "fed": lambda: self._train(next(self._inputs)),
        }
        self.seconds = {kind: [] for kind in self._kinds}
        for kind in self._kinds.values():
            jax.block_until_ready(kind())  # Compiles.

    def close(self) -> None:
        """Ends what is read ahead."""
        self._inputs.close()

    def run(self, steps: int) -> None:
        """Times so many steps of each kind, one kind after the other."""
        for name, kind in self._kinds.items():
            number = steps if name in ("rest", "fed") else steps * _WITHOUT_NETWORK
            # Uses up what was read ahead while the kind before ran.
            self._repeat(kind, number)
            started = time.perf_counter()
            self._repeat(kind, number)
            self.seconds[name].append((time.perf_counter() - started) / number)

    def _repeat(self, kind: Callable[[], Any], steps: int) -> None:
        before = None
        for _ in range(steps):
            done = kind()
            # As the training loop does, while this one is under way.
            jax.block_until_ready(before)
            before = done
        jax.block_until_ready(before)

    def _make(self, inputs: tuple[Any, Any]) -> Batch:
        return self._make_batch(*inputs, jnp.int32(0))

    def _train(self, inputs: tuple[Any, Any]) -> step_lib.Metrics:
        self._state, sums = self._step(self._state, self._frozen, *inputs)
        return sums


def report(pipeline: Pipeline, batch_size: int) -> dict[str, float]:
    """Returns the figures of a pipeline."""
    seconds = {
        name: statistics.median(found) for name, found in pipeline.seconds.items()
    }
    return {
        **{
            f"{name}_images_per_s": round(batch_size / seconds[name], 1)
            for name in ("feed", "rest", "fed")
        },
        "take_share": round(seconds["take"] / seconds["fed"], 4),
        "wait_share": round(1 - seconds["rest"] / seconds["fed"], 4),
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmark_data", description="Times the pipelines that images come by."
    )
    add = parser.add_argument
    add("--network", default="wrn_10_1@64", help="network that is trained")
    add("--batch", type=int, default=64, help="images in a step")
    add("--images", type=int, default=1024, help="JPEG files to make")
    add("--workers", default="0,2", help="of the streaming pipeline, with commas")
    add("--rounds", type=int, default=5, help="medians are over them")
    add("--steps", type=int, default=10, help="steps of each kind in a round")
    return parser.parse_args(arguments)


def measure(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Times all pipelines in turns and yields the figures of each."""
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
    """Prints a JSON line for each pipeline; returns 2 on a user's mistake."""
    try:
        for line in measure(parse(arguments)):
            print(json.dumps(line), flush=True)
    except ValueError as error:
        print(f"benchmark_data: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
