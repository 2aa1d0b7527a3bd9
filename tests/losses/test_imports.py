import subprocess
import sys

#: What a user of the losses alone need not have.
UNNEEDED = (
    *("flax", "orbax", "tensorflow_datasets", "tensorflow", "ml_collections"),
    *("grain", "sklearn", "scipy.sparse", "matplotlib", "absl.flags"),
    *("kdjax.distill", "kdjax.models", "kdjax.data", "kdjax.train", "kdjax.config"),
)


def test_losses_import_jax_and_optax_only():
    """Beyond what jax and optax import themselves."""
    source = (
        "import sys, jax, jax.numpy, optax; before = set(sys.modules); "
        "import kdjax.losses; print(*sorted(set(sys.modules) - before))"
    )
    output = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    ).stdout
    loaded = output.split()
    assert "kdjax.losses.kd" in loaded
    assert [name for name in loaded if not name.startswith("kdjax")] == []
    assert [
        name
        for name in loaded
        if not (name + ".").startswith("kdjax.losses.") and name != "kdjax"
    ] == []
