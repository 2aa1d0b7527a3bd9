"""What tests of finished runs share, each of which trains one for a few steps."""

import contextlib

import jax
import pytest

from kdjax import teacher as teacher_lib
from kdjax.data.sources import digits
from kdjax.data.split import Split


@contextlib.contextmanager
def shortcuts():
    """Compiles sooner, tests on fewer images and lets any teacher teach."""
    splits = digits.load()
    few = splits | {"test": Split(*(part[:96] for part in splits["test"]))}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load", lambda: few)
        patch.setattr(teacher_lib, "check_above_chance", lambda *_: None)
        jax.config.update("jax_disable_most_optimizations", True)
        yield patch
        jax.config.update("jax_disable_most_optimizations", False)
