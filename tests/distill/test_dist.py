import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.dist import Dist
from tests.distill.logits import terms_of
from tests.losses import batches


def test_terms_are_the_loss():
    settings = {"beta": 3.0, "gamma": 5.0, "temperature": 2.0}
    terms = terms_of(Dist(**settings))
    assert terms.keys() == {"inter_class", "intra_class"}
    expected = losses.dist(*batches.logits(), **settings)
    np.testing.assert_array_equal(sum(terms.values()), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": -1.0}, r"methods\.dist\.temperature=-1\.0 is not above 0"),
        ({"scope": "host"}, r"methods\.dist\.scope='host' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Dist(**given)
