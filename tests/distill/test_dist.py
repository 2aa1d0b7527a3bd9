import pytest

from kdjax.distill.dist import Dist


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
