"""Lines for the person at the terminal, on stderr.

Imports nothing heavy, so that a command can say what it does from the first moment on.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator

from kdjax.cli.command_line import escaped

_CLEAR_LINE = "\r\x1b[K"

#: Held while a thread writes.
_LOCK = threading.Lock()


def say(text: str) -> None:
    """Prints a line, in the main process of a multi-host run only."""
    text = escaped(text)
    if not _is_other_process():
        over_progress = _CLEAR_LINE if sys.stderr.isatty() else ""
        _write(f"{over_progress}{text}\n")


def print_error(command: str, error: object) -> None:
    """Prints an error or a notice of a command, on one line."""
    message = escaped(" ".join(str(error).split()))
    _write(f"{command}: {message}\n")


def warn(text: str) -> None:
    """Prints a warning, in the main process of a multi-host run only."""
    say(f"kdjax: warning: {text}")


@contextlib.contextmanager
def naming(path: object) -> Iterator[None]:
    """Adds a path to the error of a failed write, as on a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def progress(text: str) -> Iterator[None]:
    """Shows what the command is doing, and for how many seconds, until it is done.

    The line disappears afterwards. Nothing is shown where stderr is not a terminal.
    """
    if _is_other_process() or not sys.stderr.isatty():
        yield
        return
    start, done = time.monotonic(), threading.Event()

    def show() -> None:
        while True:
            seconds = int(time.monotonic() - start)
            elapsed = f" {seconds} s" if seconds else ""
            _write(f"{_CLEAR_LINE}{text} ...{elapsed}")
            if done.wait(1):
                break

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        _write(_CLEAR_LINE)


def _write(text: str) -> None:
    # A run goes on when the terminal is gone, or what its output goes to is full.
    with _LOCK, contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def _is_other_process() -> bool:
    """Returns True in a multi-host run's processes other than the main one."""
    # Whoever joined a multi-host run has imported JAX; others need not wait for it.
    jax = sys.modules.get("jax")
    # While JAX is being imported its attributes are not there yet.
    distributed = getattr(jax, "distributed", None)
    if distributed is None or not distributed.is_initialized():
        return False
    return jax.process_index() != 0
