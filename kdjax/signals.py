"""Signals of the system, turned into wishes that a training grants in its own time."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Takes SIGTERM and the first SIGINT as a wish to stop between two steps.

    Yields:
      A function that tells whether the wish was uttered. A second SIGINT interrupts at
      once.
    """
    requested = threading.Event()

    def request(signum: int, _frame) -> None:
        requested.set()
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        # Python lets only the main thread handle signals.
        yield requested.is_set
        return
    before = {s: signal.signal(s, request) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield requested.is_set
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
