import numpy as np
import pytest

from kdjax.distill.kd import Kd
from tests.distill.logits import terms_of


def test_scale_none_has_no_squared_temperature():
    plain, scaled = (terms_of(Kd(scale=x)) for x in ("none", "squared_temperature"))
    np.testing.assert_allclose(16 * plain["divergence"], scaled["divergence"], 1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.0}, r"methods\.kd\.temperature=0\.0 is not above"),
        ({"scale": "cubed"}, r"methods\.kd\.scale='cubed' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Kd(**given)
