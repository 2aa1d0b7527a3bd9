"""How the names of the released attention network translate."""

import pytest
from flax import traverse_util

MODULES = {
    "Attention__Sfc": ("sender", "dense"),
    "Attention__Sbn": ("sender", "bn"),
    "Attention__Rfc": ("receiver", "dense"),
    "Attention__Rbn": ("receiver", "bn"),
    "Estimator__fc0": ("hidden", "dense"),
    "Estimator__bn0": ("hidden", "bn"),
    "Estimator__fc1": ("output",),
}
LEAVES = {
    "weights": ("params", "kernel"),
    "biases": ("params", "bias"),
    "gamma": ("params", "scale"),
    "beta": ("params", "bias"),
    "moving_mean": ("batch_stats", "mean"),
    "moving_variance": ("batch_stats", "var"),
}


@pytest.fixture
def from_release():
    """Returns a function from named arrays of a golden file to variables.

    "<scope>__<layer>__<leaf>" becomes the path of a variable of `AttentionNetwork`.
    """

    def convert(arrays):
        flat = {}
        for name, array in arrays.items():
            module, leaf = name.rsplit("__", 1)
            collection, leaf = LEAVES[leaf]
            flat[(collection, *MODULES[module], leaf)] = array
        return traverse_util.unflatten_dict(flat)

    return convert
