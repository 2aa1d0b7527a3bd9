from kdjax import config as config_lib
from kdjax import recipes
from kdjax.runs import trained, workdirs


def test_fields_younger_than_the_run_have_their_defaults():
    config = recipes.alone("wrn_10_1,digits")
    written = workdirs.as_json(config)
    assert trained.TrainedModel(written, 0, {}).data == config.data
    for name in ("image_size", "bad_images", "validation_fraction"):
        del written["data"][name]
    found = trained.TrainedModel(written, 0, {}).data
    assert found == config.data
    assert found.image_size == config_lib.default().data.image_size
    assert found.mean == (78.0, 78.0, 78.0)
