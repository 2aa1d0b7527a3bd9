import pytest

from kdjax.distill.mlkd import Mlkd


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperatures": ()}, r"methods\.mlkd\.temperatures=\(\) needs one or more"),
        (
            {"temperatures": (4.0, 0.0)},
            r"methods\.mlkd\.temperatures=0\.0 is not",
        ),
        ({"scope": "host"}, r"methods\.mlkd\.scope='host' is none of"),
    ],
)
def test_rejects_invalid_settings(given, message):
    with pytest.raises(ValueError, match=message):
        Mlkd(**given)
