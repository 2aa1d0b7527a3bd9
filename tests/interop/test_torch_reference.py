"""Networks against PyTorch: drawn weights go in by name, the same answers come out."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models
from kdjax.interop import torch_layout
from tests.interop.torch_reference import drawing

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "torch"


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem
)
def test_networks_answer_as_in_pytorch(path):
    """Logits and features in float32 to 1e-4 of the largest entry."""
    name, layout = path.stem.split(".")
    with np.load(path) as arrays:
        expected = dict(arrays)
    weights = drawing.state_dict(json.loads(str(expected.pop("shapes"))))
    image = drawing.images(2, int(expected.pop("size"))).transpose(0, 2, 3, 1)
    network = models.build(name, 10)
    assert layout in torch_layout.layouts(network)
    variables = torch_layout.from_state_dict(network, weights)

    @jax.jit
    def answers(variables, image):
        trained, _ = network.apply(
            variables, image, train=True, mutable=["batch_stats"]
        )
        return {"eval": network.apply(variables, image, train=False), "train": trained}

    checked = set()
    for mode, (logits, features) in answers(variables, jnp.asarray(image)).items():
        found = {"logits": logits, "stem": features.stem, "pooled": features.pooled}
        for index, (pre, post) in enumerate(
            zip(features.pre, features.post, strict=True)
        ):
            found |= {f"pre/{index}": pre, f"post/{index}": post}
        for key, value in found.items():
            wanted = expected[f"{mode}/{key}"]
            if key != "logits":
                value = jnp.moveaxis(value, -1, 1)
                step = max(1, value.shape[1] // 4)
                value = value[:1, ::step]
            assert value.shape == wanted.shape, (mode, key)
            atol = 1e-4 * np.abs(wanted).max()
            np.testing.assert_allclose(
                value, wanted, rtol=0, atol=atol, err_msg=f"{mode} {key}"
            )
            checked.add(f"{mode}/{key}")
    assert checked == expected.keys()
