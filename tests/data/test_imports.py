"""Start-up imports nothing that only some data sets need."""

import subprocess
import sys

#: All of them take a second or more to import, except Pillow.
_LAZY = ("tensorflow_datasets", "tensorflow", "grain", "sklearn", "scipy", "PIL")


def test_slow_packages_are_imported_on_first_use():
    code = f"""
import sys
import kdjax.main, kdjax.train
print(*[name for name in {_LAZY} if name in sys.modules])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == []
