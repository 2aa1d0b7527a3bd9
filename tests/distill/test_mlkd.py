import numpy as np
import pytest

from kdjax import losses
from kdjax.distill.mlkd import Mlkd
from tests.distill.logits import terms_of
from tests.losses import batches


@pytest.mark.parametrize("standardize", [False, True])
def test_terms_are_the_loss(standardize):
    terms = terms_of(Mlkd(temperatures=(2.0, 5.0), standardize=standardize))
    assert terms.keys() == {"divergence", "batch_correlation", "class_correlation"}
    logits = batches.logits()
    if standardize:
        logits = map(losses.standardize_logits, logits)
    expected = losses.mlkd(*logits, temperatures=(2.0, 5.0))
    np.testing.assert_array_equal(sum(terms.values()), expected)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperatures": ()}, r"methods\.mlkd\.temperatures=\(\) needs one or more"),
        ({"temperatures": (4.0, 0.0)}, r"methods\.mlkd\.temperature=0\.0 is not above"),
        ({"scope": "host"}, r"methods\.mlkd\.scope='host' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Mlkd(**given)
