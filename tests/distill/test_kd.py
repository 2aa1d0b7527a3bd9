import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.kd import Kd
from tests.distill.logits import terms_of
from tests.losses import batches


def test_term_is_the_loss():
    terms = terms_of(Kd(temperature=3.0))
    expected = losses.kd(*batches.logits(), temperature=3.0)
    np.testing.assert_array_equal(terms["divergence"], expected)


def test_scale_none_has_no_squared_temperature():
    plain, scaled = (terms_of(Kd(scale=x)) for x in ("none", "squared_temperature"))
    np.testing.assert_allclose(16 * plain["divergence"], scaled["divergence"], 1e-6)


def test_standardize():
    terms = terms_of(Kd(standardize=True, temperature=2.0))
    logits = map(losses.standardize_logits, batches.logits())
    np.testing.assert_array_equal(
        terms["divergence"], losses.kd(*logits, temperature=2.0)
    )


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
