"""Signals of the system, turned into wishes that a training grants in its own time."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from kdjax.runs import multihost

#: Status of a process that was told to stop and can be started again (EX_TEMPFAIL).
STOPPED = 75

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
            if multihost.is_multihost():
                # By which JAX has all of them agree.
                os.kill(os.getpid(), signal.SIGTERM)

    with _handling(request):
        yield requested.is_set


@contextlib.contextmanager
def stop_at_once(message: str) -> Iterator[None]:
    """Ends the process on SIGTERM and SIGINT, while there is nothing to save.

    Args:
      message: printed before.
    """

    def stop(_signum: int, _frame) -> None:
        print(message, flush=True)
        if multihost.is_multihost():
            # Not in the usual way, which waits for the other processes.
            os._exit(STOPPED)
        sys.exit(STOPPED)

    with _handling(stop):
        yield


@contextlib.contextmanager
def _handling(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python lets only the main thread handle signals.
        yield
        return
    # Of several processes each leaves SIGTERM to JAX, by which they agree on a step.
    signals = (signal.SIGINT,) if multihost.is_multihost() else _SIGNALS
    before = {signum: signal.signal(signum, handler) for signum in signals}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
