"""Turns signals into a request to stop at the next step.

Those of schedulers (SIGTERM, SIGUSR1, SIGUSR2), the keyboard (SIGINT) and a closed
terminal (SIGHUP, which `nohup` ignores).
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from kdjax.runs import multihost

#: Exit status of a run that was stopped and can be resumed (EX_TEMPFAIL).
STOPPED = os.EX_TEMPFAIL

_SIGNALS = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Records the signals, of SIGINT the first, instead of ending the process.

    Yields:
      A function that returns True once a stop was requested. A second SIGINT raises
      KeyboardInterrupt.
    """
    requested = threading.Event()

    def request(signum: int, _frame) -> None:
        requested.set()
        if signum == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if multihost.is_multihost():
            # JAX makes all processes agree on a step by this signal.
            os.kill(os.getpid(), signal.SIGTERM)

    with _handling(request):
        yield requested.is_set


@contextlib.contextmanager
def stop_at_once(message: str) -> Iterator[None]:
    """Ends the process on a signal, for use while there is nothing to save.

    Args:
      message: printed to stdout first.
    """

    def stop(_signum: int, _frame) -> None:
        with contextlib.suppress(OSError):  # Whoever closed it need not be told.
            print(message, flush=True)
        if multihost.is_multihost():
            # A normal exit would wait for the other processes.
            os._exit(STOPPED)
        sys.exit(STOPPED)

    with _handling(stop):
        yield


@contextlib.contextmanager
def _handling(handler: Callable) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        # Python allows only the main thread to set signal handlers.
        yield
        return
    # In multi-host runs JAX handles SIGTERM, so that all processes stop at one step.
    left_alone = {signal.SIGTERM} if multihost.is_multihost() else set()
    before = {
        signum: signal.signal(signum, handler)
        for signum in _SIGNALS
        if signum not in left_alone and signal.getsignal(signum) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
