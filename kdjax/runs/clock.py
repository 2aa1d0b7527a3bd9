"""Measures how fast a training goes and estimates when it ends."""

import time


class Clock:
    """Times training between pauses, in which a run evaluates and saves.

    The first step after a pause is left out: it may have been compiled. So is the first
    pause from the estimate of what pauses take.
    """

    def __init__(self, total_images: int):
        """Takes the number of images at the end of training, over all epochs."""
        self._total_images = total_images
        # Training so far, without the stretch since the last pause.
        self._images, self._seconds = 0, 0.0
        # Images and time at the start and at the end of that stretch.
        self._since: tuple[int, float] | None = None
        self._now: tuple[int, float] | None = None
        # Images and time at the pause that is not over yet.
        self._paused: tuple[int, float] | None = None
        self._first_pause: int | None = None
        self._pause_seconds, self._pause_images = 0.0, 0

    def step_done(self, images: int) -> None:
        """Notes that a step has ended, with so many images trained on in all."""
        self._now = images, time.monotonic()
        if self._since is None:
            self._since = self._now
        if self._paused is not None:
            self._end_pause()

    def pause(self, images: int) -> None:
        """Notes that training stops, for now, after so many images in all."""
        if self._since is None:
            return
        now = time.monotonic()
        self._images += images - self._since[0]
        self._seconds += now - self._since[1]
        self._since, self._paused = None, (images, now)

    @property
    def images_per_s(self) -> float | None:
        """Images per second of training alone; None while nothing is measured."""
        images, seconds = self._images, self._seconds
        if self._since is not None and self._now is not None:
            images += self._now[0] - self._since[0]
            seconds += self._now[1] - self._since[1]
        return images / seconds if images and seconds else None

    def seconds_left(self, images: int) -> float | None:
        """Estimates the seconds to the end, pauses included; None if not known yet."""
        if (rate := self.images_per_s) is None:
            return None
        pauses = self._pause_seconds / self._pause_images if self._pause_images else 0
        return (self._total_images - images) * (1 / rate + pauses)

    def _end_pause(self) -> None:
        images, start = self._paused
        self._paused = None
        if self._first_pause is None:
            self._first_pause = images
            return
        self._pause_images = images - self._first_pause
        self._pause_seconds += time.monotonic() - start
