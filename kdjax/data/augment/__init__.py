"""Augmentation: crop and resize on the host, everything else on the device."""

from kdjax.data.augment.crop_flip import (
    CROPS,
    PADDING_MODES,
    RANDOM_RESIZED,
    random_crop_flip,
)

__all__ = ["CROPS", "PADDING_MODES", "RANDOM_RESIZED", "random_crop_flip"]
