"""Both pipelines give the same batches."""

import gc
import os
import pathlib
import signal
import subprocess
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from jax.sharding import Mesh
from PIL import Image

from kdjax import recipes
from kdjax import step as step_lib
from kdjax.data import datasets, pipeline, pipeline_choice
from kdjax.data.split import ArraySource, LazySplit


def data_config(**fields):
    config = recipes.compose(data="digits").data
    config.train_fraction = 0.05  # 50 images.
    config.flip = True
    config.update(fields)
    return config


def mesh(devices):
    return Mesh(np.asarray(jax.devices()[:devices]), (step_lib.DEVICES,))


def flat(batch):
    """Merges the device axis into the batch axis."""
    return jax.tree.map(lambda x: np.asarray(x).reshape(-1, *x.shape[2:]), batch)


def train_batches(config, *, devices=1, stream=None, **settings):
    split = datasets.load(config).train
    batches = pipeline.train_batches(
        split, config, batch_size=16, seed=5, mesh=mesh(devices), **settings
    )
    return batches.with_stream(stream) if stream else batches


def read(config, start, stop, *, devices=1):
    """Returns the examples of some steps, as the streaming pipeline reads them."""
    batches = train_batches(config, devices=devices).batches(start, stop)
    return [flat(sharded) for _, sharded in batches]


def assert_same(found, expected):
    assert len(found) == len(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    ("crop", "stream", "sampling"),
    [("per_image", None, "uniform"), ("per_batch", "pretrain", "square_root")],
)
def test_both_pipelines_give_the_same_training_batches(crop, stream, sampling):
    """Two epochs, each with a smaller last batch, with random erasing."""
    found = {}
    for name in ("in_memory", "streaming"):
        config = data_config(
            pipeline=name, crop=crop, random_erasing=0.5, sampling=sampling
        )
        batches = train_batches(config, stream=stream)
        make_batch = step_lib.data_parallel(
            batches.make_batch, jax.devices()[:1], in_axes=(None, 0, None), out_axes=0
        )
        found[name] = [
            flat(make_batch(*inputs, jnp.int32(step)))
            for step, inputs in enumerate(batches.batches(0, 8))
        ]
    assert [len(batch.label) for batch in found["in_memory"]] == [16, 16, 16, 2] * 2
    assert_same(found["streaming"], found["in_memory"])


def made(config, *, devices=1, start=0, **settings):
    """Returns the training batches of two epochs from a step on."""
    batches = train_batches(config, devices=devices, **settings)
    make_batch = step_lib.data_parallel(
        batches.make_batch,
        jax.devices()[:devices],
        in_axes=(None, 0, None),
        out_axes=0,
    )
    return [
        flat(make_batch(*inputs, jnp.int32(step)))
        for step, inputs in enumerate(batches.batches(start, 6), start)
    ]


def test_changed_images_are_bitwise_the_same_however_they_are_made():
    """On other devices, from any step on, streamed; with a second view or without."""
    changes = {
        "augment": "rand_augment",
        "color_jitter": (0.4, 0.4, 0.4, 0.0),
        "drop_remainder": True,
    }
    config = data_config(**changes)
    found = made(config, second_view=True)
    assert_same(made(config, devices=4, start=2, second_view=True), found[2:])
    streamed = made(data_config(pipeline="streaming", **changes), start=3)
    assert_same(streamed, [x._replace(second_image=None) for x in found[3:]])
    for batch in found:
        changed = np.any(batch.image != batch.second_image, axis=(1, 2, 3))
        assert changed.all()


def test_random_crops_of_the_second_view_are_others():
    config = data_config(pipeline="streaming", crop="random_resized")
    (plain,) = read(config, 0, 1)
    batches = train_batches(config, second_view=True)
    ((_, sharded),) = batches.batches(0, 1)
    both = flat(sharded)
    jax.tree.map(np.testing.assert_array_equal, both._replace(second_image=None), plain)
    assert np.any(both.second_image != both.image, axis=(1, 2, 3)).mean() > 0.5
    shapes = jax.tree.map(lambda x: (x.shape, x.dtype), sharded)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), batches.shapes()[1]) == shapes


def test_worker_processes_read_the_same_and_leave_flags_unparsed(monkeypatch):
    """As in an absl program that uses kdjax before it parses its flags."""
    monkeypatch.setitem(flags.FLAGS.__dict__, "__flags_parsed", False)
    found = {
        workers: read(
            data_config(pipeline="streaming", workers=workers, sampling="balanced"),
            0,
            5,
        )
        for workers in (0, 2)
    }
    assert_same(found[2], found[0])
    assert not flags.FLAGS.is_parsed()


def shared_memory():
    """Returns this process's memory that is shared with workers."""
    maps = pathlib.Path("/proc/self/maps").read_text().splitlines()
    return [line for line in maps if "/dev/shm/psm_" in line]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_shared_memory_is_left_by_workers():
    gc.disable()  # It may come by chance.
    try:
        config = data_config(pipeline="streaming", workers=1)
        for _ in train_batches(config).batches(0, 3):
            assert shared_memory()
        deadline = time.monotonic() + 10  # Grain frees it in a thread.
        while shared_memory() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not shared_memory()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("crop", "sampling"), [("per_image", "balanced"), ("random_resized", "uniform")]
)
def test_a_step_reads_the_same_after_a_resume_and_on_any_devices(crop, sampling):
    config = data_config(
        pipeline="streaming", crop=crop, sampling=sampling, drop_remainder=True
    )
    expected = read(config, 0, 6)
    assert_same(read(config, 4, 6), expected[4:])
    assert_same(read(config, 2, 6, devices=4), expected[2:])


def test_random_crops_differ_between_streams_steps_and_images():
    config = data_config(
        pipeline="streaming", crop="random_resized", flip=False, padding=0
    )
    split = datasets.load(config).train
    # The same image fifty times.
    split = LazySplit(split.source, [7] * 50, split.image_shape)
    batches = pipeline.train_batches(split, config, batch_size=16, seed=5, mesh=mesh(1))
    crops = [
        np.asarray(sharded.image).reshape(-1, 8, 8, 3)
        for each in (batches, batches.with_stream("pretrain"))
        for _, sharded in each.batches(0, 2)
    ]
    assert len({image.tobytes() for image in np.concatenate(crops)}) > 48


@pytest.mark.parametrize("devices", [1, 4])
def test_both_pipelines_give_the_same_evaluation_batches(devices):
    def batches(name):
        config = data_config(pipeline=name)
        split = pipeline.eval_batches(
            datasets.load(config).test, config, batch_size=64, mesh=mesh(devices)
        )
        make_batch = step_lib.data_parallel(
            split.make_batch, jax.devices()[:devices], in_axes=(None, 0), out_axes=0
        )
        return [flat(make_batch(*inputs)) for inputs in split]

    found = {name: batches(name) for name in ("in_memory", "streaming")}
    assert sum(batch.mask.sum() for batch in found["streaming"]) == 797
    assert_same(found["streaming"], found["in_memory"])


def test_evaluation_crops_the_center():
    config = data_config(pipeline="streaming", eval_crop=0.5)
    test = datasets.load(config).test
    split = pipeline.eval_batches(test, config, batch_size=400, mesh=mesh(1))
    _, (examples, _) = next(iter(split))
    expected = Image.fromarray(test.pixels(np.arange(3, 4))[0])
    expected = expected.resize((8, 8), Image.Resampling.BILINEAR, box=(2, 2, 6, 6))
    np.testing.assert_array_equal(np.asarray(examples.image)[0, 3], expected)


class Broken(ArraySource):
    def read(self, index):
        if index == 3:
            raise ValueError("train/ants/3.png cannot be used (broken)")
        return super().read(index)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_ends_the_iteration_with_its_name(workers):
    config = data_config(pipeline="streaming", workers=workers)
    split = datasets.load(config).train
    split = LazySplit(Broken(split.source.split), range(50), split.image_shape)
    batches = pipeline.train_batches(split, config, batch_size=50, seed=5, mesh=mesh(1))
    with pytest.raises(ValueError, match=r"^train/ants/3\.png cannot be used \(broken"):
        list(batches.batches(0, 1))


_KILLED = """
import multiprocessing, os, signal
import jax
import numpy as np
from jax.sharding import Mesh
from kdjax import recipes
from kdjax.data import datasets, pipeline

if __name__ == "__main__":
    config = recipes.compose(data="digits").data
    config.pipeline, config.workers = "streaming", 2
    split, mesh = datasets.load(config).train, Mesh(np.asarray(jax.devices()), ("d",))
    batches = pipeline.train_batches(split, config, batch_size=8, seed=0, mesh=mesh)
    iterator = batches.batches(0, 10**6)
    next(iterator)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_workers_end_with_a_training_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    killed = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    workers = [int(pid) for pid in killed.stdout.split()]
    assert len(workers) == 2
    until = time.monotonic() + 30
    while any(pathlib.Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "in_memory"),
        ({"pipeline": "streaming"}, "streaming"),
        ({"crop": "random_resized"}, "streaming"),
        ({"eval_crop": 0.875}, "streaming"),
    ],
)
def test_fields_decide_the_pipeline(fields, expected):
    config = data_config(**fields)
    assert pipeline_choice.choose(config, datasets.describe(config)) == expected
    stored = isinstance(datasets.load(config).train, LazySplit)
    assert stored == (expected == "streaming")


@pytest.mark.parametrize(
    ("memory", "size", "expected"),
    [
        (None, 24, "in_memory"),  # 2.3 GB of pixels.
        (None, 40, "streaming"),  # 6.4 GB.
        ({"bytes_limit": 24 * 10**9}, 40, "in_memory"),
        ({"bytes_limit": 18 * 10**9}, 40, "streaming"),
        ({"bytes_in_use": 0}, 40, "streaming"),
    ],
)
def test_the_memory_of_the_device_decides_the_pipeline(
    monkeypatch, memory, size, expected
):
    device = types.SimpleNamespace(memory_stats=lambda: memory)
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    config = recipes.compose(data="imagenet").data
    config.crop, config.eval_crop, config.image_size = "per_image", 1.0, size
    assert pipeline_choice.choose(config, datasets.describe(config)) == expected


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        (
            {"pipeline": "in_memory", "crop": "random_resized"},
            (8, 8, 3),
            r"data\.pipeline='in_memory' but data\.crop='random_resized': only",
        ),
        (
            {"pipeline": "in_memory", "eval_crop": 0.5},
            (8, 8, 3),
            r"data\.pipeline='in_memory' but data\.eval_crop=0\.5: only",
        ),
        (
            {"crop": "random_resized"},
            (8, 6, 3),
            r"data\.crop='random_resized' makes square .* 6x8 pixels: set data\.im",
        ),
    ],
)
def test_fields_that_need_the_other_pipeline_are_rejected(fields, shape, message):
    config = data_config(**fields)
    description = datasets.describe(config)._replace(image_shape=shape)
    with pytest.raises(ValueError, match=message):
        pipeline_choice.check(config, description)
