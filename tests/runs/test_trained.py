import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdjax import models, recipes
from kdjax.config import fields
from kdjax.runs import trained, workdirs


def test_fields_younger_than_the_run_have_their_defaults():
    config = recipes.alone("wrn_10_1,digits")
    written = workdirs.as_json(config)
    assert trained.TrainedModel(written, 0, {}).data == config.data
    for name in ("image_size", "bad_images", "validation_fraction"):
        del written["data"][name]
    found = trained.TrainedModel(written, 0, {}).data
    assert found == config.data
    assert found.image_size == fields.default().data.image_size
    assert found.mean == (78.0, 78.0, 78.0)


def test_variables_of_another_shape_are_listed():
    network = models.build("wrn_10_1", 10)
    variables = jax.eval_shape(
        lambda: network.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    )
    trained.check_shapes("field", network, variables, (8, 8, 3))
    variables["params"]["classifier"]["bias"] = np.zeros(3)
    del variables["params"]["stem"]
    with pytest.raises(
        ValueError,
        match=r"^field does not fit the network: "
        r"params/classifier/bias \(3,\) instead of \(10,\); "
        r"params/stem/kernel missing instead of \(3, 3, 3, 16\)$",
    ):
        trained.check_shapes("field", network, variables, (8, 8, 3))
