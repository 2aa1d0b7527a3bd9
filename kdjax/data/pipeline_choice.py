"""Whether a data set is kept in the memory of the devices or streamed from storage."""

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from kdjax.data import augment
from kdjax.data.split import Description

#: Part of a device's memory that the pixels of a data set may take by default, and the
#: bytes on devices that do not tell their memory, such as CPUs.
_DEVICE_FRACTION = 1 / 3
_DEVICE_BYTES = 4 * 2**30


def check(config: ml_collections.ConfigDict, description: Description) -> None:
    """Checks that `data.pipeline` can do what the other fields ask for.

    Args:
      config: the `data` part of a configuration.
      description: of the data set.

    Raises:
      ValueError: if a field needs the other pipeline, or images of another shape.
    """
    height, width, _ = description.image_shape
    for field in streaming_fields(config):
        if config.pipeline == "in_memory":
            raise ValueError(
                f"data.pipeline='in_memory' but data.{field}={config[field]!r}: only"
                " data.pipeline='streaming' crops and resizes each image"
            )
        if height != width:
            raise ValueError(
                f"data.{field}={config[field]!r} makes square images, and these have"
                f" {width}x{height} pixels: set data.image_size"
            )


def choose(
    config: ml_collections.ConfigDict,
    description: Description,
    memory: float | None = None,
) -> str:
    """Returns the pipeline of a run: "in_memory" or "streaming".

    "auto" keeps a data set in memory whose pixels take at most a third of the memory of
    each device, or 4 GiB where the device does not report its memory.

    Args:
      config: the `data` part of a configuration.
      description: of the data set.
      memory: bytes of each device; None asks those of this process.

    Raises:
      ValueError: as `check`.
    """
    check(config, description)
    if config.pipeline != "auto":
        return config.pipeline
    if streaming_fields(config):
        return "streaming"
    height, width, _ = description.image_shape
    fits = description.num_images * height * width * 3 <= _device_bytes(memory)
    if jax.process_count() > 1:
        # The memory of devices may differ between processes.
        fits = bool(multihost_utils.broadcast_one_to_all(np.int32(fits)))
    return "in_memory" if fits else "streaming"


def streaming_fields(config: ml_collections.ConfigDict) -> list[str]:
    """Returns the fields whose values only the streaming pipeline implements."""
    crops = {
        "crop": config.crop == augment.RANDOM_RESIZED,
        "eval_crop": config.eval_crop != 1,
    }
    return [field for field, is_set in crops.items() if is_set]


def _device_bytes(memory: float | None) -> float:
    """Returns the bytes of pixels that may be kept on each device."""
    if memory is None:
        stats = jax.local_devices()[0].memory_stats() or {}
        memory = stats.get("bytes_limit")
    return _DEVICE_BYTES if memory is None else memory * _DEVICE_FRACTION
