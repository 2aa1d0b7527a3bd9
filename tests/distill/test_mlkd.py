import pytest

from kdjax.distill.crld import Crld
from kdjax.distill.mlkd import Mlkd


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperatures": ()}, r"methods\.mlkd\.temperatures=\(\) needs one or more"),
        (
            {"temperatures": (4.0, 0.0)},
            r"methods\.mlkd\.temperatures=0\.0 is not",
        ),
        (
            {"views": 2, "second_temperatures": (3.0, 7.0)},
            r"methods\.mlkd\.second_temperatures=\(3\.0, 7\.0\) are not some of",
        ),
        (
            {"views": 2, "example_weight": "entropy"},
            r"methods\.mlkd\.example_weight='entropy' weighs one view",
        ),
        ({"views": 3}, r"methods\.mlkd\.views=3 is none of \[1, 2\]"),
        ({"scope": "host"}, r"methods\.mlkd\.scope='host' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Mlkd(**given)


def test_crld_rejects_invalid_settings():
    for given, message in (
        ({"temperature": 0.0}, r"methods\.crld\.temperature=0\.0 is not above 0"),
        ({"cross_weight": -1.0}, r"methods\.crld\.cross_weight=-1\.0 is negative"),
        ({"example_weight": "entropy"}, r"weighs one view of an image, but the meth"),
    ):
        with pytest.raises(ValueError, match=message):
            Crld(**given)
