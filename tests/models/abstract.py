"""What tests of networks share that compute nothing: shapes, counts and names."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from kdjax import models
from kdjax.interop import torch_layout

#: Names and shapes of the state dicts of public PyTorch networks for 100 classes.
_PUBLIC = pathlib.Path(__file__).parents[1] / "golden" / "state_dict_shapes.json"


def shapes(name, num_classes=100):
    """Returns the shapes of logits, features and variables, without computing."""
    network = models.build(name, num_classes)
    size = models.image_size(name)
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(
        lambda image: network.init_with_output(jax.random.key(0), image, train=False),
        image,
    )


def parameters(name, num_classes=100):
    """Counts the parameters."""
    _, variables = shapes(name, num_classes)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def check_features(name, sizes, widths, pooled, margins=True):
    """Compares shapes of features, the stem first, and of margins, if there are any."""
    (logits, features), variables = shapes(name)
    expected = [
        (2, size, size, width) for size, width in zip(sizes, widths, strict=True)
    ]
    assert logits.shape == (2, 100)
    assert [x.shape for x in (features.stem, *features.pre)] == expected
    assert [x.shape for x in (features.stem, *features.post)] == expected
    assert features.pooled.shape == (2, pooled)
    if not margins:
        return
    paths = models.margin_batch_norms(name)
    for path, width in zip(paths, widths[1:], strict=True):
        norm = variables["params"]
        for key in path:
            norm = norm[key]
        assert norm["scale"].shape == norm["bias"].shape == (width,)


def state_dict_shapes(name, layout, num_classes=100):
    """Returns names and shapes of the state dict that a network is written as."""
    network = models.build(name, num_classes)
    _, variables = shapes(name, num_classes)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)
    written = torch_layout.to_state_dict(network, zeros, layout)
    return {name: list(leaf.shape) for name, leaf in written.items()}


def public_state_dict(name):
    """Returns names and shapes of a public state dict."""
    return json.loads(_PUBLIC.read_text())[name]
