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


#: Networks compared in float32, and to which part of the largest entry: in float64
#: jaxlib 0.10 ends the process on a CPU.
FLOAT32 = {"pyramidnet_14_20_basic": ("float32", 1e-4)}


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.npz")), ids=lambda path: path.stem
)
def test_networks_answer_as_in_pytorch(path):
    """Logits and features to a millionth of the largest entry, as they are stored."""
    name, layout = path.stem.split(".")
    dtype, tolerance = FLOAT32.get(name, ("float64", 1e-6))
    with np.load(path) as arrays:
        expected = dict(arrays)
    weights = drawing.state_dict(json.loads(str(expected.pop("shapes"))))
    image = drawing.images(2, int(expected.pop("size"))).transpose(0, 2, 3, 1)
    with jax.enable_x64(dtype == "float64"):
        network = models.build(name, 10, dtype=jnp.dtype(dtype))
        assert layout in torch_layout.layouts(network)
        variables = torch_layout.from_state_dict(network, weights)

        @jax.jit
        def answers(variables, image):
            found = {"eval": network.apply(variables, image, train=False)}
            if "batch_stats" in variables:
                found["train"], _ = network.apply(
                    variables, image, train=True, mutable=["batch_stats"]
                )
            return found

        given = jax.tree.map(lambda x: jnp.asarray(x, dtype), (variables, image))
        answered = jax.device_get(answers(*given))
    checked = set()
    for mode, (logits, features) in answered.items():
        found = {"logits": logits, "stem": features.stem, "pooled": features.pooled}
        for index, (pre, post) in enumerate(
            zip(features.pre, features.post, strict=True)
        ):
            found |= {f"pre/{index}": pre, f"post/{index}": post}
        for key, value in found.items():
            wanted = expected[f"{mode}/{key}"]
            if key != "logits":
                value = np.moveaxis(value, -1, 1)
                step = max(1, value.shape[1] // 4)
                value = value[:1, ::step]
            assert value.shape == wanted.shape, (mode, key)
            atol = tolerance * np.abs(wanted).max()
            np.testing.assert_allclose(
                value, wanted, rtol=0, atol=atol, err_msg=f"{mode} {key}"
            )
            checked.add(f"{mode}/{key}")
    assert checked == expected.keys()
